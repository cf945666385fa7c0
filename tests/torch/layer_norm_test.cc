// LayerNorm against torch::nn's and against finite differences.
#include "evenkeel/torch/layer_norm.h"

#include "evenkeel/torch/functional.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

using Options = torch::nn::LayerNormOptions;

void expect_parity(const Options& options, torch::IntArrayRef sizes) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto arrangement : all_arrangements) {
      if (sizes.size() < 2 && arrangement == Arrangement::channels_last) continue;
      SCOPED_TRACE(c10::str(sizes, " over ", options.normalized_shape(), " ", dtype, " ",
                            name_of(arrangement), " affine ", options.elementwise_affine()));
      LayerNorm ours(options);
      torch::nn::LayerNorm theirs(options);
      randomize_parameters(*ours);
      randomize_parameters(*theirs);
      ours->to(dtype);
      theirs->to(dtype);
      expect_same_step(ours, theirs, random(sizes, dtype), arrangement,
                       arrangement == Arrangement::contiguous);
      ours->eval();
      theirs->eval();
      expect_same_step(ours, theirs, random(sizes, dtype, 2), arrangement, false);
    }
  }
}

TEST(TorchLayerNorm, AgreesWithTorch) {
  for (const bool affine : {true, false}) {
    const auto options = [&](std::vector<std::int64_t> shape) {
      return Options(std::move(shape)).elementwise_affine(affine);
    };
    expect_parity(options({10}), {10});
    expect_parity(options({10}), {1, 10});
    expect_parity(options({33}), {7, 33});
    expect_parity(options({13}), {3, 5, 13});
    expect_parity(options({5, 13}), {3, 5, 13});
    expect_parity(options({4, 5, 3}), {3, 4, 5, 3});
    expect_parity(options({3}), {3, 4, 5, 3});
    expect_parity(options({2, 3, 4}), {2, 3, 2, 3, 4});
  }
  expect_parity(Options({33}).eps(0.1), {7, 33});
}

TEST(TorchLayerNorm, GradientsAgreeWithFiniteDifferences) {
  for (const auto arrangement : all_arrangements) {
    SCOPED_TRACE(name_of(arrangement));
    const auto x = arranged(random({3, 2, 5}, torch::kFloat64), arrangement).requires_grad_();
    const auto weight = random({2, 5}, torch::kFloat64, 2).requires_grad_();
    const auto bias = random({2, 5}, torch::kFloat64, 3).requires_grad_();
    const std::vector<std::int64_t> shape = {2, 5};
    expect_gradients([&] { return nn::layer_norm(x, shape, weight, bias); }, {x, weight, bias});
    expect_gradients([&] { return nn::layer_norm(x, shape, {}, bias); }, {x, bias});
    expect_gradients([&] { return nn::layer_norm(x, shape, weight); }, {x, weight});
  }
}

// y = LN(x + residual) and the sum itself, both used, or one alone.
TEST(TorchLayerNorm, WithAResidualItNormalizesTheSum) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto arrangement : {Arrangement::contiguous, Arrangement::strided}) {
      for (const auto& [uses_y, uses_sum] : {std::pair{true, true}, {true, false}, {false, true}}) {
        SCOPED_TRACE(c10::str(dtype, " ", name_of(arrangement), " y ", uses_y, " sum ", uses_sum));
        LayerNorm ours(std::vector<std::int64_t>{33});
        torch::nn::LayerNorm theirs(std::vector<std::int64_t>{33});
        for (auto* module : std::initializer_list<torch::nn::LayerNormImpl*>{&*ours, &*theirs}) {
          randomize_parameters(*module);
          module->to(dtype);
        }
        const auto x = arranged(random({5, 2, 33}, dtype), arrangement).requires_grad_();
        const auto residual = random({5, 2, 33}, dtype, 2).requires_grad_();
        const auto [y, sum] = ours->forward_residual(x, residual);
        const auto sum_expected = x + residual;
        const auto y_expected = theirs->forward(sum_expected);
        expect_close(sum, sum_expected, 0, "sum");
        expect_close(y, y_expected, tolerance(dtype), "output");

        const auto loss = [&, by_y = uses_y, by_sum = uses_sum](const auto& of_y,
                                                                const auto& of_sum) {
          auto total = torch::zeros({}, dtype);
          if (by_y) total = total + (of_y * random(x.sizes(), dtype, 7)).sum();
          if (by_sum) total = total + (of_sum * random(x.sizes(), dtype, 8)).sum();
          return total;
        };
        const auto gradients_of = [&](const auto& of, torch::nn::LayerNormImpl& module) {
          return torch::autograd::grad({of}, {x, residual, module.weight, module.bias}, {},
                                       /*retain_graph=*/false, /*create_graph=*/false,
                                       /*allow_unused=*/true);
        };
        const auto actual = gradients_of(loss(y, sum), *ours);
        const auto expected = gradients_of(loss(y_expected, sum_expected), *theirs);
        for (std::size_t i = 0; i < expected.size(); ++i) {
          expect_close(actual[i], expected[i], tolerance(dtype), "gradient " + std::to_string(i));
        }
      }
    }
  }
}

TEST(TorchLayerNorm, GradientsThroughASumAgreeWithFiniteDifferences) {
  const auto x = random({3, 2, 5}, torch::kFloat64).requires_grad_();
  const auto residual = random({3, 2, 5}, torch::kFloat64, 2).requires_grad_();
  const auto weight = random({5}, torch::kFloat64, 3).requires_grad_();
  const auto bias = random({5}, torch::kFloat64, 4).requires_grad_();
  const std::vector<std::int64_t> shape = {5};
  expect_gradients(
      [&] {
        const auto [y, sum] = layer_norm_residual(x, residual, shape, weight, bias);
        return y * sum;
      },
      {x, residual, weight, bias});
  // One of the two is a constant.
  for (const auto& leaf : {x, residual}) {
    x.requires_grad_(leaf.is_same(x));
    residual.requires_grad_(leaf.is_same(residual));
    expect_gradients([&] { return layer_norm_residual(x, residual, shape).y; }, {leaf});
  }
}

TEST(TorchLayerNorm, OnlyWantedGradientsAreReturned) {
  LayerNorm ours(std::vector<std::int64_t>{6});
  const auto x = random({4, 6}, torch::kFloat32);
  ours->bias.requires_grad_(false);
  ours->forward(x).square().sum().backward();
  EXPECT_TRUE(ours->weight.grad().defined());
  EXPECT_FALSE(ours->bias.grad().defined());
}

TEST(TorchLayerNorm, AnEmptyBatchGivesAnEmptyOutputAndZeroGradients) {
  LayerNorm layer(std::vector<std::int64_t>{4});
  const auto y = layer->forward(torch::zeros({0, 4}));
  EXPECT_EQ(y.sizes(), torch::IntArrayRef({0, 4}));
  y.sum().backward();
  EXPECT_TRUE(torch::equal(layer->weight.grad(), torch::zeros({4})));
}

}  // namespace
}  // namespace evenkeel::nn::testing
