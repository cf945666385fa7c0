// InstanceNorm against torch::nn's and against finite differences.
#include "evenkeel/torch/instance_norm.h"

#include <limits>

#include "evenkeel/torch/functional.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

using Options = torch::nn::InstanceNormOptions;

// Three training steps, which move the running statistics, then evaluation.
template <class Ours, class Theirs>
void expect_parity(const Options& options, torch::IntArrayRef sizes) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(c10::str(sizes, " ", dtype, " ", name_of(arrangement), " affine ",
                            options.affine(), " track ", options.track_running_stats(),
                            " momentum ", options.momentum()));
      Ours ours(options);
      Theirs theirs(options);
      randomize_parameters(*ours);
      randomize_parameters(*theirs);
      ours->to(dtype);
      theirs->to(dtype);
      for (std::uint64_t step = 0; step < 3; ++step) {
        expect_same_step(ours, theirs, random(sizes, dtype, step), arrangement);
      }
      ours->eval();
      theirs->eval();
      expect_same_step(ours, theirs, random(sizes, dtype, 9), arrangement);
    }
  }
}

template <class Ours, class Theirs>
void expect_parity_with_all_options(torch::IntArrayRef sizes) {
  const Options base(sizes[1]);
  for (const bool affine : {true, false}) {
    for (const bool track : {true, false}) {
      expect_parity<Ours, Theirs>(Options(base).affine(affine).track_running_stats(track), sizes);
    }
  }
  expect_parity<Ours, Theirs>(
      Options(base).affine(true).track_running_stats(true).momentum(0.7).eps(1e-2), sizes);
}

TEST(TorchInstanceNorm, AgreesWithTorchIn1d) {
  expect_parity_with_all_options<InstanceNorm1d, torch::nn::InstanceNorm1d>({5, 3, 11});
  // With two positions dx is what a cancellation leaves, and torch's is off by 2e-4: it keeps its
  // mean in float.
  expect_parity<InstanceNorm1d, torch::nn::InstanceNorm1d>(Options(17), {1, 17, 8});
}

TEST(TorchInstanceNorm, AgreesWithTorchIn2d) {
  expect_parity_with_all_options<InstanceNorm2d, torch::nn::InstanceNorm2d>({4, 6, 5, 7});
  expect_parity<InstanceNorm2d, torch::nn::InstanceNorm2d>(Options(1), {2, 1, 3, 3});
}

TEST(TorchInstanceNorm, AgreesWithTorchIn3d) {
  expect_parity_with_all_options<InstanceNorm3d, torch::nn::InstanceNorm3d>({3, 4, 2, 5, 3});
}

// One sample without the dimension of the samples.
TEST(TorchInstanceNorm, ASampleAloneAgreesWithTorch) {
  const auto options = Options(4).affine(true).track_running_stats(true);
  const auto expect = [&]<class Ours, class Theirs>(Ours ours, Theirs theirs,
                                                    torch::IntArrayRef sizes) {
    randomize_parameters(*ours);
    randomize_parameters(*theirs);
    expect_same_step(ours, theirs, random(sizes, torch::kFloat32), Arrangement::contiguous);
    ours->eval();
    theirs->eval();
    expect_same_step(ours, theirs, random(sizes, torch::kFloat32, 2), Arrangement::contiguous);
  };
  expect(InstanceNorm1d(options), torch::nn::InstanceNorm1d(options), {4, 6});
  expect(InstanceNorm2d(options), torch::nn::InstanceNorm2d(options), {4, 3, 5});
  expect(InstanceNorm3d(options), torch::nn::InstanceNorm3d(options), {4, 3, 5, 2});
}

TEST(TorchInstanceNorm, GradientsAgreeWithFiniteDifferences) {
  const RunningTensors running{
      random({4}, torch::kFloat64, 4), random({4}, torch::kFloat64, 5).square().add(0.5), {}};
  for (const auto statistics : {Statistics::batch, Statistics::given}) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(name_of(arrangement));
      const auto x = arranged(random({3, 4, 2, 3}, torch::kFloat64), arrangement).requires_grad_();
      const auto weight = random({4}, torch::kFloat64, 2).requires_grad_();
      const auto bias = random({4}, torch::kFloat64, 3).requires_grad_();
      const auto of = [&](const torch::Tensor& w, const torch::Tensor& b) {
        return nn::instance_norm(x, w, b, running, statistics);
      };
      expect_gradients([&] { return of(weight, bias); }, {x, weight, bias});
      expect_gradients([&] { return of({}, bias); }, {x, bias});
      expect_gradients([&] { return of(weight, {}); }, {x, weight});
    }
  }
}

TEST(TorchInstanceNorm, OnlyWantedGradientsAreReturned) {
  InstanceNorm1d layer(Options(6).affine(true));
  const auto x = random({4, 6, 3}, torch::kFloat32);
  layer->weight.requires_grad_(false);
  layer->forward(x).square().sum().backward();
  EXPECT_FALSE(layer->weight.grad().defined());
  EXPECT_TRUE(layer->bias.grad().defined());
}

// The function counts batches, if it is given a counter; PyTorch's module never does.
TEST(TorchInstanceNorm, TheCumulativeAverageIsThePlainOne) {
  const RunningTensors running{torch::zeros({3}), torch::ones({3}),
                               torch::zeros({}, torch::kInt64)};
  const auto x = random({6, 3, 8}, torch::kFloat32);
  for (const auto& batch : x.chunk(3)) {
    nn::instance_norm(batch, {}, {}, running, Statistics::batch,
                      {.update = RunningUpdate::cumulative()});
  }
  EXPECT_EQ(running.batches.item<std::int64_t>(), 3);
  expect_close(running.mean, x.mean(2).mean(0), tolerance(torch::kFloat32), "mean");
  const auto var = x.var(torch::IntArrayRef({2}), /*unbiased=*/true, /*keepdim=*/false);
  expect_close(running.var, var.mean(0), tolerance(torch::kFloat32), "var");
}

// torch would poison its running statistics for good.
TEST(TorchInstanceNorm, ABatchThatIsNotFiniteDoesNotMoveTheRunningStatistics) {
  InstanceNorm1d layer(Options(2).track_running_stats(true));
  auto x = random({3, 2, 4}, torch::kFloat32);
  x[1][0][2] = std::numeric_limits<float>::quiet_NaN();
  const auto y = layer->forward(x);
  EXPECT_TRUE(y[1][0].isnan().all().item<bool>());
  EXPECT_TRUE(y.select(1, 1).isfinite().all().item<bool>());
  EXPECT_TRUE(torch::equal(layer->running_mean, torch::zeros({2})));
  EXPECT_TRUE(torch::equal(layer->running_var, torch::ones({2})));
  EXPECT_EQ(layer->skipped_batches, 1);
}

TEST(TorchInstanceNorm, AnEmptyBatchGivesAnEmptyOutput) {
  InstanceNorm2d layer(Options(3).affine(true).track_running_stats(true));
  const auto x = torch::zeros({0, 3, 4, 4}).requires_grad_();
  const auto y = layer->forward(x);
  EXPECT_EQ(y.sizes(), x.sizes());
  y.sum().backward();
  EXPECT_TRUE(torch::equal(layer->weight.grad(), torch::zeros({3})));
  EXPECT_TRUE(torch::equal(layer->running_mean, torch::zeros({3})));
}

}  // namespace
}  // namespace evenkeel::nn::testing
