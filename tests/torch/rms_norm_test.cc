// RMSNorm against its formula written with torch's operations in double, and against finite
// differences.
#include "evenkeel/torch/rms_norm.h"

#include <limits>

#include "evenkeel/torch/functional.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

// In the type of x, which for the comparisons is double.
torch::Tensor written_out(const torch::Tensor& x, const RMSNormOptions& options,
                          const torch::Tensor& weight, double eps) {
  std::vector<std::int64_t> trailing;
  for (std::size_t i = 1; i <= options.normalized_shape().size(); ++i) {
    trailing.push_back(-static_cast<std::int64_t>(i));
  }
  const auto y = x / (x.square().mean(trailing, /*keepdim=*/true) + eps).sqrt();
  if (!weight.defined()) return y;
  return y * (options.unit_offset() ? 1 + weight : weight);
}

double eps_of(const RMSNormOptions& options, torch::ScalarType dtype) {
  const double machine_epsilon = dtype == torch::kFloat64 ? std::numeric_limits<double>::epsilon()
                                                          : std::numeric_limits<float>::epsilon();
  return options.eps().value_or(machine_epsilon);
}

torch::Tensor double_leaf(const torch::Tensor& x) {
  return x.defined() ? x.detach().to(torch::kFloat64).requires_grad_() : x;
}

// Output and gradients; with a residual also the sum, both used, or one alone.
void expect_agreement(const RMSNormOptions& options, torch::IntArrayRef sizes) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto arrangement : all_arrangements) {
      if (sizes.size() < 2 && arrangement == Arrangement::channels_last) continue;
      SCOPED_TRACE(c10::str(sizes, " over ", options.normalized_shape(), " ", dtype, " ",
                            name_of(arrangement), " affine ", options.elementwise_affine(),
                            " unit offset ", options.unit_offset()));
      RMSNorm layer(options);
      randomize_parameters(*layer);
      layer->to(dtype);
      const auto x = arranged(random(sizes, dtype), arrangement).requires_grad_();
      const auto dy = random(sizes, dtype, 3);
      const auto y = layer->forward(x);
      std::vector<torch::Tensor> leaves = {x};
      const auto x_wide = double_leaf(x), weight_wide = double_leaf(layer->weight);
      std::vector<torch::Tensor> leaves_wide = {x_wide};
      if (weight_wide.defined()) {
        leaves.push_back(layer->weight);
        leaves_wide.push_back(weight_wide);
      }
      const auto expected = written_out(x_wide, options, weight_wide, eps_of(options, dtype));
      expect_close(y, expected.to(dtype), tolerance(dtype), "output");
      const auto actual = torch::autograd::grad({y}, leaves, {dy});
      const auto wanted = torch::autograd::grad({expected}, leaves_wide, {dy.to(torch::kFloat64)});
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        expect_close(actual[i], wanted[i].to(dtype), tolerance(dtype),
                     "gradient " + std::to_string(i));
      }
    }
  }
}

TEST(TorchRmsNorm, AgreesWithItsFormula) {
  for (const bool affine : {true, false}) {
    for (const bool unit_offset : {true, false}) {
      const auto options = [&](std::vector<std::int64_t> shape) {
        return RMSNormOptions(std::move(shape)).elementwise_affine(affine).unit_offset(unit_offset);
      };
      expect_agreement(options({10}), {10});
      expect_agreement(options({33}), {7, 33});
      expect_agreement(options({13}), {3, 5, 13});
      expect_agreement(options({5, 13}), {3, 5, 13});
      expect_agreement(options({4, 5, 3}), {3, 4, 5, 3});
    }
  }
  expect_agreement(RMSNormOptions({33}).eps(0.1), {7, 33});
}

// Values whose mean square is far below the machine epsilon of float, but not below that of double.
TEST(TorchRmsNorm, WithoutAnEpsItIsTheMachineEpsilon) {
  const auto options = RMSNormOptions({8}).elementwise_affine(false);
  for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kBFloat16, torch::kFloat16}) {
    const auto x = random({4, 8}, torch::kFloat64).mul_(1e-4).to(dtype);
    const auto expected =
        written_out(x.to(torch::kFloat64), options, {}, eps_of(options, dtype)).to(dtype);
    expect_close(RMSNorm(options)->forward(x), expected, tolerance(dtype), c10::toString(dtype));
  }
}

TEST(TorchRmsNorm, AFreshLayerMultipliesByOne) {
  const auto x = random({4, 8}, torch::kFloat32);
  RMSNorm plain(std::vector<std::int64_t>{8}), offset(RMSNormOptions({8}).unit_offset(true));
  EXPECT_TRUE(torch::equal(plain->weight, torch::ones({8})));
  EXPECT_TRUE(torch::equal(offset->weight, torch::zeros({8})));
  EXPECT_TRUE(torch::equal(plain->forward(x), offset->forward(x)));
  EXPECT_FALSE(RMSNorm(RMSNormOptions({8}).elementwise_affine(false))->weight.defined());
}

// y = RMSNorm(x + residual) and the sum itself, both used, or one alone.
TEST(TorchRmsNorm, WithAResidualItNormalizesTheSum) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto arrangement : {Arrangement::contiguous, Arrangement::strided}) {
      for (const auto& [uses_y, uses_sum] : {std::pair{true, true}, {true, false}, {false, true}}) {
        SCOPED_TRACE(c10::str(dtype, " ", name_of(arrangement), " y ", uses_y, " sum ", uses_sum));
        const auto options = RMSNormOptions({33}).eps(1e-5);
        RMSNorm layer(options);
        randomize_parameters(*layer);
        layer->to(dtype);
        const auto x = arranged(random({5, 2, 33}, dtype), arrangement).requires_grad_();
        const auto residual = random({5, 2, 33}, dtype, 2).requires_grad_();
        const auto [y, sum] = layer->forward_residual(x, residual);
        // The layer normalizes the sum as it was rounded to the type of x.
        EXPECT_TRUE(torch::equal(sum, x + residual));
        const auto sum_wide = double_leaf(sum), weight_wide = double_leaf(layer->weight);
        const auto y_wide = written_out(sum_wide, options, weight_wide, 1e-5);
        expect_close(y, y_wide.to(dtype), tolerance(dtype), "output");

        const auto loss = [&, by_y = uses_y, by_sum = uses_sum](const auto& of_y,
                                                                const auto& of_sum) {
          auto total = torch::zeros({}, of_y.scalar_type());
          if (by_y) total = total + (of_y * random(x.sizes(), dtype, 7)).sum();
          if (by_sum) total = total + (of_sum * random(x.sizes(), dtype, 8)).sum();
          return total;
        };
        const auto gradients_of = [](const auto& of, const std::vector<torch::Tensor>& leaves) {
          return torch::autograd::grad({of}, leaves, {}, /*retain_graph=*/false,
                                       /*create_graph=*/false, /*allow_unused=*/true);
        };
        const auto actual = gradients_of(loss(y, sum), {x, residual, layer->weight});
        const auto wanted = gradients_of(loss(y_wide, sum_wide), {sum_wide, weight_wide});
        expect_close(actual[0], wanted[0].to(dtype), tolerance(dtype), "gradient of x");
        expect_close(actual[1], wanted[0].to(dtype), tolerance(dtype), "gradient of the residual");
        expect_close(actual[2], wanted[1].defined() ? wanted[1].to(dtype) : wanted[1],
                     tolerance(dtype), "gradient of the weight");
      }
    }
  }
}

TEST(TorchRmsNorm, GradientsAgreeWithFiniteDifferences) {
  const std::vector<std::int64_t> shape = {2, 5};
  for (const bool unit_offset : {false, true}) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(name_of(arrangement));
      const RmsNormOptions options{.unit_offset = unit_offset};
      const auto x = arranged(random({3, 2, 5}, torch::kFloat64), arrangement).requires_grad_();
      const auto residual = random({3, 2, 5}, torch::kFloat64, 4).requires_grad_();
      const auto weight = random({2, 5}, torch::kFloat64, 2).requires_grad_();
      expect_gradients([&] { return nn::rms_norm(x, shape, weight, options); }, {x, weight});
      expect_gradients([&] { return nn::rms_norm(x, shape, {}, options); }, {x});
      expect_gradients(
          [&] {
            const auto [y, sum] = rms_norm_residual(x, residual, shape, weight, options);
            return y.square() + sum;
          },
          {x, residual, weight});
    }
  }
}

TEST(TorchRmsNorm, AnEmptyBatchGivesAnEmptyOutputAndZeroGradients) {
  RMSNorm layer(std::vector<std::int64_t>{4});
  const auto y = layer->forward(torch::zeros({0, 4}));
  EXPECT_EQ(y.sizes(), torch::IntArrayRef({0, 4}));
  y.sum().backward();
  EXPECT_TRUE(torch::equal(layer->weight.grad(), torch::zeros({4})));
}

}  // namespace
}  // namespace evenkeel::nn::testing
