// bfloat16 and float16 against the same values in float.
#include <cmath>
#include <limits>

#include "evenkeel/torch.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

constexpr torch::ScalarType narrow_types[] = {torch::kBFloat16, torch::kFloat16};
const std::vector<std::int64_t> features = {33};

// Rounded once to nearest: `expected`, in float, rounds to the same value but where the rounding of
// the float computation, 1e-6 relative, crosses a midpoint; of midpoints there is one every 2^-11
// or more, so for 0.4% at most of the elements. A second rounding, or a truncation, is more often.
void expect_rounded(const torch::Tensor& actual, const torch::Tensor& expected,
                    const std::string& what) {
  const auto type = actual.scalar_type();
  expect_close(actual, expected.to(type), tolerance(type), what);
  const auto same = actual.to(torch::kFloat32).eq(expected.to(type).to(torch::kFloat32));
  EXPECT_GE(same.to(torch::kFloat64).mean().item<double>(), 0.99) << what;
}

// f of the 16-bit x (and others), and of the same values in float.
void expect_like_float(const std::function<torch::Tensor(const std::vector<torch::Tensor>&)>& f,
                       torch::IntArrayRef sizes, std::size_t inputs, torch::ScalarType type,
                       Arrangement arrangement) {
  std::vector<torch::Tensor> narrow, wide;
  for (std::size_t i = 0; i < inputs; ++i) {
    narrow.push_back(arranged(random(sizes, type, i + 1), arrangement).requires_grad_());
    wide.push_back(narrow.back().detach().to(torch::kFloat32).requires_grad_());
  }
  const auto y = f(narrow), expected = f(wide);
  expect_rounded(y, expected, "output");
  const auto dy = random(sizes, type, 99);
  const auto actual = torch::autograd::grad({y}, narrow, {dy});
  const auto wanted = torch::autograd::grad({expected}, wide, {dy.to(torch::kFloat32)});
  for (std::size_t i = 0; i < inputs; ++i) {
    EXPECT_EQ(actual[i].scalar_type(), type);
    expect_rounded(actual[i], wanted[i], "gradient " + std::to_string(i));
  }
}

TEST(TorchFloat16, EveryOperationIsThatOfTheSameValuesInFloat) {
  for (const auto type : narrow_types) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(c10::str(type, " ", name_of(arrangement)));
      const auto weight = random({6}, torch::kFloat32, 11), bias = random({6}, torch::kFloat32, 12);
      const RunningTensors running{weight, bias.square().add(0.5), {}};
      for (const auto statistics : {Statistics::batch, Statistics::given}) {
        for (const auto& activation : all_activations) {
          expect_like_float(
              [&](const auto& in) {
                return batch_norm(in[0], weight, bias, running, statistics,
                                  {.activation = activation}, in[1]);
              },
              {4, 6, 5, 33}, 2, type, arrangement);
        }
      }
      expect_like_float([](const auto& in) { return nn::layer_norm(in[0], features); }, {7, 9, 33},
                        1, type, arrangement);
      expect_like_float([](const auto& in) { return nn::rms_norm(in[0], features); }, {7, 9, 33}, 1,
                        type, arrangement);
      for (const auto& activation : all_activations) {
        expect_like_float(
            [&](const auto& in) {
              return nn::group_norm(in[0], weight, bias, {.groups = 3, .activation = activation});
            },
            {4, 6, 5, 33}, 1, type, arrangement);
      }
      for (const auto statistics : {Statistics::batch, Statistics::given}) {
        expect_like_float(
            [&](const auto& in) {
              return nn::instance_norm(in[0], weight, bias, running, statistics);
            },
            {4, 6, 5, 33}, 1, type, arrangement);
      }
      expect_like_float(
          [](const auto& in) {
            return local_response_norm(in[0], evenkeel::LocalResponseNormOptions::paper(5, 0.3));
          },
          {3, 9, 4, 33}, 1, type, arrangement);
    }
  }
}

// The backward has the sum as it was rounded, so the float side starts from it too.
TEST(TorchFloat16, TheSumOfALayerNormIsRounded) {
  for (const auto type : narrow_types) {
    const auto x = random({64, 33}, type).requires_grad_();
    const auto residual = random({64, 33}, type, 2).requires_grad_();
    const auto [y, sum] = layer_norm_residual(x, residual, features);
    const auto wide = x.detach().to(torch::kFloat32) + residual.detach().to(torch::kFloat32);
    EXPECT_TRUE(torch::equal(sum, wide.to(type)));
    // Normalized before or after its rounding, of half an ulp of a sum of at most 4 deviations.
    expect_close(y, nn::layer_norm(wide, features).to(type), 5 * tolerance(type), "output");
    const auto dy = random({64, 33}, type, 3), dsum = random({64, 33}, type, 4);
    const auto actual = torch::autograd::grad({y, sum}, {x, residual}, {dy, dsum});
    const auto leaf = sum.detach().to(torch::kFloat32).requires_grad_();
    const auto expected = torch::autograd::grad({nn::layer_norm(leaf, features)}, {leaf},
                                                {dy.to(torch::kFloat32)})[0] +
                          dsum.to(torch::kFloat32);
    expect_close(actual[0], expected.to(type), 5 * tolerance(type), "gradient of x");
    EXPECT_TRUE(torch::equal(actual[0], actual[1]));
  }
}

// PyTorch's mixed convention, and what training of 16-bit activations should use.
TEST(TorchFloat16, FloatModulesTake16BitInputs) {
  for (const auto type : narrow_types) {
    BatchNorm2d ours(3);
    torch::nn::BatchNorm2d theirs(3);
    const auto x = random({4, 3, 5, 7}, type);
    const auto dy = random({4, 3, 5, 7}, type, 9);
    const auto y = ours->forward(x);
    const auto expected = theirs->forward(x.to(torch::kFloat32));
    expect_rounded(y, expected, "output");
    // Statistics and gradients of parameters are of the precision of float.
    expect_close(ours->running_mean, theirs->running_mean, 1e-5, "running mean");
    expect_close(ours->running_var, theirs->running_var, 1e-5, "running var");
    const auto actual = torch::autograd::grad({y}, ours->parameters(), {dy});
    const auto wanted =
        torch::autograd::grad({expected}, theirs->parameters(), {dy.to(torch::kFloat32)});
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      expect_close(actual[i], wanted[i], 1e-5, "gradient " + std::to_string(i));
    }
  }
}

template <class Layer>
void expect_converted(Layer& converted, Layer& reference, torch::ScalarType type,
                      torch::IntArrayRef sizes) {
  randomize_parameters(*converted);
  converted->to(type);
  const auto parameters = converted->parameters();
  {
    const torch::NoGradGuard no_grad;
    auto same = reference->parameters();
    for (std::size_t i = 0; i < same.size(); ++i) same[i].copy_(parameters[i]);
  }
  const auto x = random(sizes, type), dy = random(sizes, type, 9);
  const auto y = converted->forward(x), expected = reference->forward(x.to(torch::kFloat32));
  expect_rounded(y, expected, "output");
  const auto actual = torch::autograd::grad({y}, parameters, {dy});
  const auto wanted =
      torch::autograd::grad({expected}, reference->parameters(), {dy.to(torch::kFloat32)});
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(actual[i].scalar_type(), type);
    expect_close(actual[i], wanted[i].to(type), tolerance(type), "gradient " + std::to_string(i));
  }
}

TEST(TorchFloat16, ModulesThatWereConvertedWithTheirParameters) {
  for (const auto type : narrow_types) {
    BatchNorm2d evaluated(3), expected(3);
    evaluated->running_mean.fill_(0.75);  // what has few bits is the same in all types
    evaluated->running_var.fill_(2.5);
    expected->running_mean.fill_(0.75);
    expected->running_var.fill_(2.5);
    evaluated->eval();
    expected->eval();
    expect_converted(evaluated, expected, type, {4, 3, 5, 7});

    BatchNorm2d by_batch(3), by_batch_expected(3);
    by_batch->update_running = false;
    expect_converted(by_batch, by_batch_expected, type, {4, 3, 5, 7});

    LayerNorm norm(features), norm_expected(features);
    expect_converted(norm, norm_expected, type, {7, 9, 33});
    RMSNorm rms_norm(features), rms_norm_expected(features);
    expect_converted(rms_norm, rms_norm_expected, type, {7, 9, 33});
    GroupNorm groups(2, 6), groups_expected(2, 6);
    expect_converted(groups, groups_expected, type, {4, 6, 5, 7});
    const auto affine = torch::nn::InstanceNorm2dOptions(6).affine(true);
    InstanceNorm2d instances(affine), instances_expected(affine);
    expect_converted(instances, instances_expected, type, {4, 6, 5, 7});
  }
}

// The types have the same memory as torch's, in which the bits are to be taken as they are.
TEST(TorchFloat16, SpecialValuesKeepTheirBits) {
  for (const auto type : narrow_types) {
    const double infinity = std::numeric_limits<double>::infinity();
    // The last but one is subnormal in float16.
    const auto x = torch::tensor({{1.0}, {-2.0}, {65504.0}, {infinity}, {-infinity}, {6e-8}, {0.0}},
                                 torch::kFloat64)
                       .to(type);
    // A variance of 1 and an eps that is lost beside it: y = x.
    const RunningTensors running{torch::zeros({1}), torch::ones({1}), {}};
    const auto identity = [&](const torch::Tensor& values) {
      return batch_norm(values, {}, {}, running, Statistics::given, {.eps = 1e-30});
    };
    EXPECT_TRUE(torch::equal(identity(x).view(torch::kInt16), x.view(torch::kInt16)));
    const auto nan = torch::full({1, 1}, std::nan("")).to(type);
    EXPECT_TRUE(std::isnan(identity(nan).to(torch::kFloat32).item<float>()));
  }
}

}  // namespace
}  // namespace evenkeel::nn::testing
