// BatchNorm against torch::nn's, against finite differences, and its switches.
#include "evenkeel/torch/batch_norm.h"

#include "evenkeel/torch/convert.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

using Options = torch::nn::BatchNormOptions;

// Three training steps, which move the running statistics, then evaluation.
template <class Ours, class Theirs>
void expect_parity(const Options& options, torch::IntArrayRef sizes) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(c10::str(sizes, " ", dtype, " ", name_of(arrangement), " affine ",
                            options.affine(), " track ", options.track_running_stats(),
                            " momentum ", options.momentum().value_or(-1)));
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
      if (!options.track_running_stats()) continue;
      auto one = sizes.vec();
      one[0] = 1;
      expect_same_step(ours, theirs, random(one, dtype, 10), arrangement);
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
  expect_parity<Ours, Theirs>(Options(base).momentum(torch::nullopt), sizes);
  expect_parity<Ours, Theirs>(Options(base).momentum(0.7).eps(1e-2), sizes);
}

TEST(TorchBatchNorm, AgreesWithTorchIn1d) {
  expect_parity_with_all_options<BatchNorm1d, torch::nn::BatchNorm1d>({12, 7});
  expect_parity_with_all_options<BatchNorm1d, torch::nn::BatchNorm1d>({5, 3, 11});
  expect_parity<BatchNorm1d, torch::nn::BatchNorm1d>(Options(1), {4, 1});
  expect_parity<BatchNorm1d, torch::nn::BatchNorm1d>(Options(17), {1, 17, 9});
}

TEST(TorchBatchNorm, AgreesWithTorchIn2d) {
  expect_parity_with_all_options<BatchNorm2d, torch::nn::BatchNorm2d>({4, 6, 5, 7});
  expect_parity<BatchNorm2d, torch::nn::BatchNorm2d>(Options(1), {2, 1, 3, 3});
  expect_parity<BatchNorm2d, torch::nn::BatchNorm2d>(Options(19), {3, 19, 1, 1});
}

TEST(TorchBatchNorm, AgreesWithTorchIn3d) {
  expect_parity_with_all_options<BatchNorm3d, torch::nn::BatchNorm3d>({3, 4, 2, 5, 3});
}

TEST(TorchBatchNorm, DenseInputsAreNotCopied) {
  const auto same = [](const torch::Tensor& x, Layout expected) {
    EXPECT_EQ(layout_of(x), expected) << x.strides();
    EXPECT_EQ(dense(x, layout_of(x)).data_ptr(), x.data_ptr()) << x.strides();
  };
  const auto x4 = random({2, 3, 4, 5}, torch::kFloat32);
  const auto x5 = random({2, 3, 4, 5, 2}, torch::kFloat32);
  same(x4, Layout::channels_first);
  same(x4.contiguous(torch::MemoryFormat::ChannelsLast), Layout::channels_last);
  same(x5.contiguous(torch::MemoryFormat::ChannelsLast3d), Layout::channels_last);
  const auto strided = arranged(x4, Arrangement::strided);
  EXPECT_NE(dense(strided, layout_of(strided)).data_ptr(), strided.data_ptr());
}

TEST(TorchBatchNorm, TorchSeesChannelsLastOutputs) {
  const auto x =
      random({2, 3, 4, 5}, torch::kFloat32).contiguous(torch::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(BatchNorm2d(3)->forward(x).is_contiguous(torch::MemoryFormat::ChannelsLast));
  const auto x3d =
      random({2, 3, 4, 5, 2}, torch::kFloat32).contiguous(torch::MemoryFormat::ChannelsLast3d);
  EXPECT_TRUE(BatchNorm3d(3)->forward(x3d).is_contiguous(torch::MemoryFormat::ChannelsLast3d));
}

TEST(TorchBatchNorm, GradientsAgreeWithFiniteDifferences) {
  for (const auto statistics : {Statistics::batch, Statistics::given}) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(name_of(arrangement));
      const auto x = arranged(random({3, 4, 2, 3}, torch::kFloat64), arrangement).requires_grad_();
      const auto weight = random({4}, torch::kFloat64, 2).requires_grad_();
      const auto bias = random({4}, torch::kFloat64, 3).requires_grad_();
      const RunningTensors running{
          random({4}, torch::kFloat64, 4), random({4}, torch::kFloat64, 5).square().add(0.5), {}};
      expect_gradients([&] { return batch_norm(x, weight, bias, running, statistics); },
                       {x, weight, bias});
      expect_gradients([&] { return batch_norm(x, {}, bias, running, statistics); }, {x, bias});
      expect_gradients([&] { return batch_norm(x, weight, {}, running, statistics); }, {x, weight});
    }
  }
}

TEST(TorchBatchNorm, OnlyWantedGradientsAreReturned) {
  BatchNorm1d ours(5);
  torch::nn::BatchNorm1d theirs(5);
  const auto x = random({8, 5}, torch::kFloat32);
  for (auto* weight : {&ours->weight, &theirs->weight}) weight->requires_grad_(false);
  ours->forward(x).square().sum().backward();
  theirs->forward(x).square().sum().backward();
  EXPECT_FALSE(ours->weight.grad().defined());
  expect_close(ours->bias.grad(), theirs->bias.grad(), 1e-5, "bias");

  const auto leaf = x.clone().requires_grad_();
  ours->bias.requires_grad_(false);
  ours->forward(leaf).square().sum().backward();
  EXPECT_TRUE(leaf.grad().defined());
  EXPECT_FALSE(ours->weight.grad().defined());
  EXPECT_FALSE(ours->forward(x).requires_grad());
}

// The gradient of sum() is a single value expanded to the output's shape.
TEST(TorchBatchNorm, ExpandedGradientsAreAccepted) {
  BatchNorm2d ours(3);
  torch::nn::BatchNorm2d theirs(3);
  const auto x = random({2, 3, 4, 4}, torch::kFloat32);
  ours->forward(x.contiguous(torch::MemoryFormat::ChannelsLast)).sum().backward();
  theirs->forward(x).sum().backward();
  expect_close(ours->weight.grad(), theirs->weight.grad(), 1e-5, "weight");
  expect_close(ours->bias.grad(), theirs->bias.grad(), 1e-5, "bias");
}

TEST(TorchBatchNorm, BackwardUsesTheStatisticsOfItsOwnForward) {
  BatchNorm1d layer(4);
  layer->eval();
  const auto x = random({6, 4}, torch::kFloat32).requires_grad_();
  const auto dy = random({6, 4}, torch::kFloat32, 3);
  const auto run = [&] { return layer->forward(x); };
  const auto expected = torch::autograd::grad({run()}, {layer->weight}, {dy})[0];
  const auto y = run();
  layer->train();
  layer->forward(random({6, 4}, torch::kFloat32, 8));  // moves the running statistics
  EXPECT_TRUE(torch::equal(torch::autograd::grad({y}, {layer->weight}, {dy})[0], expected));
}

TEST(TorchBatchNorm, FrozenStaysFrozenInTraining) {
  BatchNorm2d ours(3);
  torch::nn::BatchNorm2d theirs(3);
  const auto first = random({4, 3, 5, 5}, torch::kFloat32);
  ours->forward(first);
  theirs->forward(first);
  ours->freeze();
  ours->train();
  theirs->eval();
  EXPECT_TRUE(ours->frozen());
  expect_same_step(ours, theirs, random({4, 3, 5, 5}, torch::kFloat32, 2),
                   Arrangement::channels_last);
  ours->unfreeze();
  theirs->train();
  expect_same_step(ours, theirs, random({4, 3, 5, 5}, torch::kFloat32, 3), Arrangement::contiguous);
}

TEST(TorchBatchNorm, SwitchesAreIndependent) {
  const auto first = random({16, 3}, torch::kFloat32), second = random({16, 3}, torch::kFloat32, 2);
  torch::nn::BatchNorm1d theirs(3);
  theirs->forward(first);
  const auto mean_after_first = theirs->running_mean.clone();
  theirs->eval();
  const auto by_running = theirs->forward(second);
  theirs->train();
  const auto by_batch = theirs->forward(second);

  BatchNorm1d tracking(3);
  tracking->forward(first);
  tracking->normalize_with = Statistics::given;  // and still update, as train() says
  expect_close(tracking->forward(second), by_running, 1e-5, "running statistics, tracking");
  expect_close(tracking->running_mean, theirs->running_mean, 1e-5, "moved mean");
  expect_close(tracking->running_var, theirs->running_var, 1e-5, "moved var");
  EXPECT_EQ(tracking->num_batches_tracked.item<std::int64_t>(), 2);

  BatchNorm1d still(3);
  still->forward(first);
  still->update_running = false;  // and still normalize by the batch, as train() says
  expect_close(still->forward(second), by_batch, 1e-5, "batch statistics, not tracking");
  expect_close(still->running_mean, mean_after_first, 1e-5, "unmoved mean");
  EXPECT_EQ(still->num_batches_tracked.item<std::int64_t>(), 1);
}

// torch would poison its running statistics for good.
TEST(TorchBatchNorm, ABatchThatIsNotFiniteDoesNotMoveTheRunningStatistics) {
  BatchNorm1d layer(2);
  auto x = random({4, 2}, torch::kFloat32);
  x[1][0] = std::numeric_limits<float>::quiet_NaN();
  const auto y = layer->forward(x);
  EXPECT_TRUE(y.select(1, 0).isnan().all().item<bool>());
  EXPECT_TRUE(y.select(1, 1).isfinite().all().item<bool>());
  EXPECT_TRUE(torch::equal(layer->running_mean, torch::zeros({2})));
  EXPECT_EQ(layer->num_batches_tracked.item<std::int64_t>(), 0);
  EXPECT_EQ(layer->skipped_batches, 1);
  layer->forward(random({4, 2}, torch::kFloat32));
  EXPECT_EQ(layer->num_batches_tracked.item<std::int64_t>(), 1);
  EXPECT_EQ(layer->skipped_batches, 1);
}

TEST(TorchBatchNorm, AnEmptyBatchGivesAnEmptyOutput) {
  BatchNorm2d layer(3);
  const auto x = torch::zeros({0, 3, 4, 4}).requires_grad_();
  const auto y = layer->forward(x);
  EXPECT_EQ(y.sizes(), x.sizes());
  y.sum().backward();
  EXPECT_TRUE(torch::equal(layer->weight.grad(), torch::zeros({3})));
  EXPECT_EQ(layer->num_batches_tracked.item<std::int64_t>(), 0);
}

}  // namespace
}  // namespace evenkeel::nn::testing
