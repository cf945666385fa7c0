// LocalResponseNorm against torch::nn's, against the formulas of other conventions written with
// torch's own operations, and against finite differences.
#include "evenkeel/torch/local_response_norm.h"

#include "evenkeel/torch/functional.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

using Options = torch::nn::LocalResponseNormOptions;
using Window = evenkeel::LocalResponseNormOptions;

void expect_parity(const Options& options, torch::IntArrayRef sizes) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(
          c10::str(sizes, " size ", options.size(), " ", dtype, " ", name_of(arrangement)));
      LocalResponseNorm ours(options);
      torch::nn::LocalResponseNorm theirs(options);
      expect_same_step(ours, theirs, random(sizes, dtype), arrangement);
    }
  }
}

TEST(TorchLocalResponseNorm, AgreesWithTorch) {
  // Large alpha, so that the window matters.
  for (const std::int64_t size : {1, 2, 3, 4, 5, 9, 20}) {
    const auto options = Options(size).alpha(0.9).beta(0.6).k(1.5);
    expect_parity(options, {3, 8, 5});
    expect_parity(options, {2, 8, 3, 5});
    expect_parity(options, {2, 1, 3, 5});
    expect_parity(options, {2, 7, 2, 3, 2});
  }
  expect_parity(Options(5), {2, 8, 3, 5});
}

// y = x * (k + alpha * sum over the window of x^2)^-beta by torch's operations, channel by channel.
torch::Tensor written_out(const torch::Tensor& x, const Window& w) {
  std::vector<torch::Tensor> channels;
  for (std::int64_t c = 0; c < x.size(1); ++c) {
    const auto from = std::max<std::int64_t>(0, c - w.behind);
    const auto to = std::min(x.size(1) - 1, c + w.ahead);
    const auto sum = x.slice(1, from, to + 1).square().sum(1);
    channels.push_back(x.select(1, c) * (w.k + w.alpha * sum).pow(-w.beta));
  }
  return torch::stack(channels, 1);
}

TEST(TorchLocalResponseNorm, OtherConventionsAgreeWithTheirFormulas) {
  const auto x = random({2, 9, 3, 2}, torch::kFloat32);
  for (const auto& window :
       {Window::paper(4, 0.3), Window::torch(4, 0.3), Window::onnx(4, 0.3), Window::cudnn(4, 0.3),
        Window::caffe(3, 0.3), Window::tensorflow(2, 1, 0.3)}) {
    SCOPED_TRACE(c10::str(window.behind, " behind, ", window.ahead, " ahead"));
    expect_close(LocalResponseNorm(window)->forward(x), written_out(x, window), 1e-5, "output");
  }
}

// The features of a dense layer: torch's own needs at least three dimensions.
TEST(TorchLocalResponseNorm, TwoDimensionsAreAccepted) {
  const auto x = random({3, 9}, torch::kFloat32);
  const auto window = Window::paper(4, 0.3);
  expect_close(local_response_norm(x, window), written_out(x, window), 1e-5, "output");
}

TEST(TorchLocalResponseNorm, GradientsAgreeWithFiniteDifferences) {
  for (const auto& window : {Window::paper(4, 0.3), Window::torch(4, 0.3), Window::onnx(4, 0.3)}) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(name_of(arrangement));
      const auto x = arranged(random({2, 7, 2, 2}, torch::kFloat64), arrangement).requires_grad_();
      expect_gradients([&] { return local_response_norm(x, window); }, {x});
    }
  }
}

TEST(TorchLocalResponseNorm, ChangedOptionsTakeEffect) {
  LocalResponseNorm ours(3);
  torch::nn::LocalResponseNorm theirs(3);
  ours->options.alpha(2).k(3);
  theirs->options.alpha(2).k(3);
  expect_same_step(ours, theirs, random({2, 5, 3}, torch::kFloat32), Arrangement::contiguous);
}

}  // namespace
}  // namespace evenkeel::nn::testing
