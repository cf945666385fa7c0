// Writing y over x: where it is done, where not, that autograd knows, and what memory it saves.
#include <c10/core/Allocator.h>

#include "evenkeel/error.h"
#include "evenkeel/torch.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

using Forward = std::function<torch::Tensor(const torch::Tensor&)>;

// Every layer with in_place set, its parameters needing gradients where it has some.
std::vector<std::pair<std::string, Forward>> layers() {
  BatchNorm2d training(6), evaluation(6), fused(6);
  evaluation->eval();
  fused->activation = Activation::relu;
  LayerNorm norm(std::vector<std::int64_t>{6, 5, 4});
  LocalResponseNorm lrn(5);
  GroupNorm groups(3, 6), fused_groups(3, 6);
  fused_groups->activation = Activation::silu;
  InstanceNorm2d instances(6), given(torch::nn::InstanceNorm2dOptions(6).track_running_stats(true));
  given->eval();
  RMSNorm rms(std::vector<std::int64_t>{6, 5, 4});
  groups->in_place = fused_groups->in_place = instances->in_place = given->in_place = true;
  rms->in_place = true;
  training->in_place = evaluation->in_place = fused->in_place = true;
  norm->in_place = lrn->in_place = true;
  const auto call = [](auto layer) -> Forward {
    return [layer](const torch::Tensor& x) mutable { return layer->forward(x); };
  };
  return {{"training", call(training)},
          {"evaluation", call(evaluation)},
          {"fused", call(fused)},
          {"layer norm", call(norm)},
          {"rms norm", call(rms)},
          {"group norm", call(groups)},
          {"fused group norm", call(fused_groups)},
          {"instance norm", call(instances)},
          {"instance norm, given", call(given)},
          {"lrn", call(lrn)}};
}

torch::Tensor input(Arrangement arrangement = Arrangement::contiguous) {
  return arranged(random({3, 6, 5, 4}, torch::kFloat32), arrangement);
}

// With gradients on, y is a tensor of its own.
torch::Tensor expected_of(const Forward& forward, const torch::Tensor& x) {
  return forward(x.clone().requires_grad_()).detach();
}

TEST(TorchInPlace, AnUpdateThatIsRefusedLeavesX) {
  for (const auto statistics : {Statistics::batch, Statistics::given}) {
    const auto x = input(), before = x.clone();
    const RunningTensors running{.mean = torch::zeros({6}), .var = torch::ones({6}), .batches = {}};
    const BatchNormOptions options{.update = RunningUpdate::moving_average(1.5)};
    EXPECT_THROW(batch_norm(x, {}, {}, running, statistics, options, {}, /*in_place=*/true), Error);
    EXPECT_TRUE(torch::equal(x, before));
    EXPECT_TRUE(torch::equal(running.mean, torch::zeros({6})));
  }
}

TEST(TorchInPlace, WithoutGradientsYIsX) {
  for (const auto& [name, forward] : layers()) {
    for (const auto arrangement : {Arrangement::contiguous, Arrangement::channels_last}) {
      // The features of a sample are not contiguous then.
      const bool by_rows = name == "layer norm" || name == "rms norm";
      if (by_rows && arrangement == Arrangement::channels_last) continue;
      SCOPED_TRACE(name + " " + name_of(arrangement));
      const auto x = input(arrangement);
      const auto expected = expected_of(forward, x);
      const torch::NoGradGuard no_grad;
      const auto before = x._version();
      const auto y = forward(x);
      EXPECT_TRUE(y.is_same(x));
      EXPECT_GT(x._version(), before);
      EXPECT_TRUE(torch::equal(y, expected));
    }
  }
}

TEST(TorchInPlace, InInferenceModeYIsX) {
  for (const auto& [name, forward] : layers()) {
    const auto expected = expected_of(forward, input());
    const c10::InferenceMode guard;
    const auto x = input();
    EXPECT_TRUE(forward(x).is_same(x)) << name;
    EXPECT_TRUE(torch::equal(x, expected)) << name;
  }
}

TEST(TorchInPlace, AnInputThatIsNotDenseIsLeftAlone) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, forward] : layers()) {
    const auto x = input(Arrangement::strided), before = x.clone();
    const auto y = forward(x);
    EXPECT_TRUE(torch::equal(x, before)) << name;
    EXPECT_EQ(x._version(), 0) << name;
    EXPECT_TRUE(torch::equal(y, forward(before.contiguous()))) << name;
  }
}

TEST(TorchInPlace, WhatIsRecordedIsLeftAlone) {
  for (const auto& [name, forward] : layers()) {
    const auto x = input().requires_grad_(), before = x.detach().clone();
    const auto y = forward(x);
    EXPECT_FALSE(y.is_alias_of(x)) << name;
    EXPECT_TRUE(torch::equal(x, before)) << name;
    EXPECT_EQ(x._version(), 0) << name;
  }
  // The gradient of the weight needs x as well.
  BatchNorm2d layer(6);
  layer->in_place = true;
  const auto x = input(), residual = input();
  EXPECT_FALSE(layer->forward(x).is_alias_of(x));
  for (auto& parameter : layer->parameters()) parameter.requires_grad_(false);
  EXPECT_FALSE(layer->forward(x, residual.requires_grad_()).is_alias_of(x));
  EXPECT_TRUE(layer->forward(x).is_same(x));
}

TEST(TorchInPlace, AnotherBackwardThatNeedsXThrows) {
  for (const auto& [name, forward] : layers()) {
    SCOPED_TRACE(name);
    // The gradient of the sigmoid is computed from its output.
    const auto leaf = input().requires_grad_();
    const auto hidden = torch::sigmoid(leaf);
    {
      const torch::NoGradGuard no_grad;
      EXPECT_TRUE(forward(hidden).is_alias_of(hidden));
    }
    try {
      hidden.sum().backward();
      ADD_FAILURE() << "the gradient of a value that is gone";
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find("modified by an inplace operation"),
                std::string::npos);
    }
  }
}

TEST(TorchInPlace, TheResidualIsOnlyRead) {
  const torch::NoGradGuard no_grad;
  BatchNorm2d layer(6);
  layer->activation = Activation::relu;
  const auto x = input(), residual = random(x.sizes(), torch::kFloat32, 2);
  const auto expected = layer->forward(x, residual);
  const auto doubled = layer->forward(x, x);
  layer->in_place = true;
  const auto before = residual.clone(), other = x.clone();
  EXPECT_TRUE(layer->forward(x, residual).is_same(x));
  EXPECT_TRUE(torch::equal(x, expected));
  EXPECT_TRUE(torch::equal(residual, before));
  layer->forward(other, other);
  EXPECT_TRUE(torch::equal(other, doubled));
}

template <class Layer>
void expect_sum_over_residual() {
  const torch::NoGradGuard no_grad;
  Layer layer(std::vector<std::int64_t>{4});
  const auto x = input(), residual = random(x.sizes(), torch::kFloat32, 2);
  const auto expected = layer->forward_residual(x, residual);
  const auto doubled = layer->forward_residual(x, x);
  layer->in_place = true;
  const auto other = x.clone();
  const auto [y, sum] = layer->forward_residual(x, residual);
  EXPECT_TRUE(y.is_same(x));
  EXPECT_TRUE(sum.is_same(residual));
  EXPECT_TRUE(torch::equal(y, expected.y));
  EXPECT_TRUE(torch::equal(sum, expected.sum));
  // One memory cannot hold both.
  const auto both = layer->forward_residual(other, other);
  EXPECT_TRUE(both.y.is_same(other));
  EXPECT_TRUE(torch::equal(both.y, doubled.y));
  EXPECT_TRUE(torch::equal(both.sum, doubled.sum));
}

TEST(TorchInPlace, TheSumGoesOverTheResidual) {
  expect_sum_over_residual<LayerNorm>();
  expect_sum_over_residual<RMSNorm>();
}

TEST(TorchInPlace, AnInstanceNormOfOneSampleAloneIsInPlaceToo) {
  const torch::NoGradGuard no_grad;
  InstanceNorm2d layer(6);
  const auto x = random({6, 5, 4}, torch::kFloat32);
  const auto expected = layer->forward(x);
  layer->in_place = true;
  EXPECT_TRUE(layer->forward(x).is_same(x));
  EXPECT_TRUE(torch::equal(x, expected));
}

TEST(TorchInPlace, RunningStatisticsMoveByXAsItWas) {
  const torch::NoGradGuard no_grad;
  BatchNorm2d expected(6), layer(6);
  for (auto* each : {&expected, &layer}) {
    (*each)->normalize_with = Statistics::given;
    (*each)->update_running = true;
  }
  expected->forward(input());
  layer->in_place = true;
  layer->forward(input());
  EXPECT_TRUE(torch::equal(layer->running_mean, expected->running_mean));
  EXPECT_TRUE(torch::equal(layer->running_var, expected->running_var));
}

// Bytes that libtorch's allocator hands out to the calling thread.
struct Allocations : c10::MemoryReportingInfoBase {
  // One of the two overrides: the totals are signed in libtorch 1.13 and unsigned in 2.15.
  void reportMemoryUsage(void*, std::int64_t bytes, std::int64_t, std::int64_t, c10::Device) {
    add(bytes);
  }
  void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t, c10::Device) {
    add(bytes);
  }
  void add(std::int64_t bytes) {
    if (bytes > 0) total += bytes;
  }
  bool memoryProfilingEnabled() const override { return true; }
  std::int64_t total = 0;
};

// How many tensors of the size of x a call allocates; those of C or N values are left out.
template <class Call>
std::int64_t tensors_allocated(const torch::Tensor& x, Call&& call) {
  const auto allocations = std::make_shared<Allocations>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, allocations);
  call();
  return allocations->total / static_cast<std::int64_t>(x.nbytes());
}

TEST(TorchInPlace, NoMoreMemoryThanTheOutputs) {
  const auto x = random({4, 8, 64, 64}, torch::kFloat32), r = torch::ones_like(x);
  const auto dy = torch::ones_like(x);
  BatchNorm2d layer(8);
  LayerNorm norm(std::vector<std::int64_t>{64});
  LocalResponseNorm lrn(5);
  GroupNorm groups(2, 8);
  InstanceNorm2d instances(8);
  RMSNorm rms(std::vector<std::int64_t>{64});
  {
    const torch::NoGradGuard no_grad;
    EXPECT_EQ(tensors_allocated(x, [&] { layer->forward(x); }), 1);
    layer->in_place = norm->in_place = lrn->in_place = true;
    EXPECT_EQ(tensors_allocated(x, [&] { layer->forward(x); }), 0);
    EXPECT_EQ(tensors_allocated(x, [&] { norm->forward_residual(x, r); }), 0);
    EXPECT_EQ(tensors_allocated(x, [&] { lrn->forward(x); }), 0);
    groups->in_place = instances->in_place = rms->in_place = true;
    EXPECT_EQ(tensors_allocated(x, [&] { groups->forward(x); }), 0);
    EXPECT_EQ(tensors_allocated(x, [&] { instances->forward(x); }), 0);
    EXPECT_EQ(tensors_allocated(x, [&] { rms->forward_residual(x, r); }), 0);
  }
  // y and dx; with a residual and its sum or its gradient one more each.
  const auto step = [&](const std::vector<torch::Tensor>& leaves, auto&& forward) {
    return tensors_allocated(x, [&] {
      const std::vector<torch::Tensor> outputs = forward();
      torch::autograd::grad(outputs, leaves, std::vector<torch::Tensor>(outputs.size(), dy));
    });
  };
  using Tensors = std::vector<torch::Tensor>;
  x.requires_grad_();
  EXPECT_EQ(step({x}, [&] { return Tensors{layer->forward(x)}; }), 2);
  EXPECT_EQ(step({x}, [&] { return Tensors{lrn->forward(x)}; }), 2);
  EXPECT_EQ(step({x}, [&] { return Tensors{norm->forward(x)}; }), 2);
  EXPECT_EQ(step({x}, [&] { return Tensors{groups->forward(x)}; }), 2);
  EXPECT_EQ(step({x}, [&] { return Tensors{instances->forward(x)}; }), 2);
  EXPECT_EQ(step({x}, [&] { return Tensors{rms->forward(x)}; }), 2);
  r.requires_grad_();
  EXPECT_EQ(step({x, r}, [&] { return Tensors{layer->forward(x, r)}; }), 2);
  layer->activation = Activation::relu;
  EXPECT_EQ(step({x, r}, [&] { return Tensors{layer->forward(x, r)}; }), 3);
  const auto both = [&] {
    const auto [y, sum] = norm->forward_residual(x, r);
    return Tensors{y, sum};
  };
  EXPECT_EQ(step({x, r}, both), 3);
}

}  // namespace
}  // namespace evenkeel::nn::testing
