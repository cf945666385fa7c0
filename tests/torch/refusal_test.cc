// Bad input: every refusal names the operation, the argument, what came and the remedy.
#include <limits>

#include "evenkeel/torch.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

const std::vector<std::int64_t> three = {3};

TEST(TorchRefusal, TypesThatAreNotRealFloatingPoint) {
  const auto x = torch::ones({4, 3});
  for (const auto dtype : {torch::kInt32, torch::kBool, torch::kComplexFloat}) {
    const auto wrong = x.to(dtype);
    const std::string name = c10::toString(dtype);
    expect_error(
        [&] { BatchNorm1d(3)->forward(wrong); },
        {"BatchNorm1d: x is of type " + name, "expected Float, Double, BFloat16 or Half", ".to("});
    expect_error([&] { nn::layer_norm(wrong, three); }, {"layer_norm: x is of type " + name});
    expect_error([&] { local_response_norm(wrong); },
                 {"local_response_norm: x is of type " + name});
    expect_error([&] { batch_norm(wrong, {}, {}, {}, Statistics::batch); },
                 {"batch_norm: x is of type " + name});
    expect_error([&] { nn::group_norm(wrong, {}, {}, {.groups = 1}); },
                 {"group_norm: x is of type " + name});
    expect_error([&] { InstanceNorm1d(4)->forward(wrong); },
                 {"InstanceNorm1d: x is of type " + name});
    expect_error([&] { nn::instance_norm(wrong, {}, {}); },
                 {"instance_norm: x is of type " + name});
    expect_error([&] { nn::rms_norm(wrong, three); }, {"rms_norm: x is of type " + name});
  }
}

TEST(TorchRefusal, TensorsThatAreNotOnTheCpu) {
  const auto x = torch::ones({4, 3}, torch::kMeta);
  expect_error([&] { BatchNorm1d(3)->forward(x); },
               {"BatchNorm1d: x is on device meta", "expected cpu", ".to(torch::kCPU)"});
  expect_error(
      [&] {
        nn::layer_norm(torch::ones({4, 3}), three, torch::ones({3}, torch::kMeta));
      },
      {"layer_norm: weight is on device meta"});
}

TEST(TorchRefusal, SparseAndUndefinedTensors) {
  expect_error(
      [] {
        BatchNorm1d(3)->forward(torch::ones({4, 3}).to_sparse());
      },
      {"BatchNorm1d: x has layout Sparse", ".to_dense()"});
  expect_error([] { local_response_norm({}); }, {"local_response_norm: x is undefined"});
}

TEST(TorchRefusal, MixedTypes) {
  expect_error(
      [] {
        BatchNorm1d(3)->forward(torch::ones({4, 3}, torch::kFloat64));
      },
      {"batch_norm: weight is of type Float", "expected Double (the type of x)"});
  expect_error(
      [] {
        nn::layer_norm(torch::ones({4, 3}), three, {}, torch::ones({3}, torch::kFloat64));
      },
      {"layer_norm: bias is of type Double", "expected Float"});
  const auto plain = torch::nn::BatchNormOptions(3).affine(false);
  expect_error(
      [&] {
        BatchNorm1d(plain)->forward(torch::ones({4, 3}, torch::kFloat64));
      },
      {"batch_norm: running mean is of type Float"});
}

TEST(TorchRefusal, ParametersThatDoNotGoWith16Bits) {
  const auto x = torch::ones({4, 3}, torch::kBFloat16);
  for (const auto dtype : {torch::kFloat64, torch::kFloat16}) {
    expect_error([&] { nn::layer_norm(x, three, torch::ones({3}, dtype)); },
                 {c10::str("layer_norm: weight is of type ", dtype),
                  "expected BFloat16 (the type of x) or Float"});
  }
  expect_error([&] { nn::layer_norm(x.to(torch::kFloat32), three, torch::ones({3}, x.options())); },
               {"layer_norm: weight is of type BFloat16", "expected Float (the type of x)"});
}

TEST(TorchRefusal, RunningStatisticsOf16BitsThatWouldMove) {
  BatchNorm1d layer(3);
  layer->to(torch::kBFloat16);
  const auto x = random({4, 3}, torch::kBFloat16);
  expect_error([&] { layer->forward(x); }, {"running statistics are of type BFloat16",
                                            "layer->to(torch::kFloat32)", "freeze()"});
  EXPECT_TRUE(torch::equal(layer->running_mean, torch::zeros({3}, torch::kBFloat16)));
  layer->to(torch::kFloat32);
  EXPECT_NO_THROW(layer->forward(x));
}

TEST(TorchRefusal, ResidualsThatDoNotFit) {
  const auto x = torch::ones({4, 3});
  BatchNorm1d layer(3);
  expect_error([&] { layer->forward(x, torch::ones({3})); },
               {"batch_norm: residual has shape [3]", "expected [4, 3]", ".expand_as(x)"});
  expect_error(
      [&] {
        layer->forward(x, torch::ones({4, 3}, torch::kFloat64));
      },
      {"batch_norm: residual is of type Double", "expected Float"});
  expect_error(
      [&] {
        layer_norm_residual(x, torch::ones({4, 1}), three);
      },
      {"layer_norm: residual has shape [4, 1]"});
  expect_error([&] { layer_norm_residual(x, {}, three); }, {"layer_norm: residual is undefined"});
  expect_error(
      [&] {
        rms_norm_residual(x, torch::ones({4, 1}), three);
      },
      {"rms_norm: residual has shape [4, 1]"});
  expect_error([&] { rms_norm_residual(x, {}, three); }, {"rms_norm: residual is undefined"});
  EXPECT_NO_THROW(layer->forward(x, torch::ones({3}).expand_as(x)));
}

TEST(TorchRefusal, WrongNumbersOfDimensions) {
  const std::vector<torch::Tensor> x = {torch::ones({3}), torch::ones({2, 3}),
                                        torch::ones({2, 3, 4}), torch::ones({2, 3, 4, 4}),
                                        torch::ones({2, 3, 4, 4, 4})};
  for (const int d : {1, 4, 5}) {
    expect_error([&] { BatchNorm1d(3)->forward(x[static_cast<std::size_t>(d - 1)]); },
                 {"BatchNorm1d: x has " + std::to_string(d) + " dimensions", "2 or 3: (N, C)"});
  }
  for (const int d : {2, 3, 5}) {
    expect_error([&] { BatchNorm2d(3)->forward(x[static_cast<std::size_t>(d - 1)]); },
                 {"BatchNorm2d: x has " + std::to_string(d) + " dimensions", "4: (N, C, H, W)"});
  }
  for (const int d : {3, 4}) {
    expect_error([&] { BatchNorm3d(3)->forward(x[static_cast<std::size_t>(d - 1)]); },
                 {"BatchNorm3d: x has " + std::to_string(d) + " dimensions", "5: (N, C, D, H, W)"});
  }
  for (const int d : {1, 4, 5}) {
    expect_error([&] { InstanceNorm1d(3)->forward(x[static_cast<std::size_t>(d - 1)]); },
                 {"InstanceNorm1d: x has " + std::to_string(d) + " dimensions", "(N, C, L)"});
  }
  for (const int d : {1, 2, 5}) {
    expect_error([&] { InstanceNorm2d(3)->forward(x[static_cast<std::size_t>(d - 1)]); },
                 {"InstanceNorm2d: x has " + std::to_string(d) + " dimensions", "(N, C, H, W)"});
  }
  for (const int d : {1, 2, 3}) {
    expect_error([&] { InstanceNorm3d(3)->forward(x[static_cast<std::size_t>(d - 1)]); },
                 {"InstanceNorm3d: x has " + std::to_string(d) + " dimensions", "(N, C, D, H, W)"});
  }
  expect_error([&] { local_response_norm(x[0]); }, {"local_response_norm: x has 1 dimensions"});
  expect_error([&] { GroupNorm(1, 3)->forward(x[0]); }, {"group_norm: x has 1 dimensions"});
  expect_error([&] { nn::instance_norm(x[0], {}, {}); }, {"instance_norm: x has 1 dimensions"});
  expect_error([&] { batch_norm(x[0], {}, {}, {}, Statistics::batch); },
               {"batch_norm: x has 1 dimensions"});
}

TEST(TorchRefusal, ShapesThatDoNotFit) {
  expect_error(
      [] {
        BatchNorm1d(3)->forward(torch::ones({4, 5}));
      },
      {"batch_norm: weight has shape [3]", "expected [5]"});
  expect_error(
      [] {
        batch_norm(torch::ones({4, 3}), torch::ones({0}), {}, {}, Statistics::batch);
      },
      {"batch_norm: weight has shape [0]", "expected [3]"});
  expect_error(
      [] {
        nn::layer_norm(torch::ones({4, 5}), three);
      },
      {"layer_norm: x has shape [4, 5]", "normalized_shape [3]"});
  expect_error(
      [] {
        nn::layer_norm(torch::ones({4, 3}), std::vector<std::int64_t>{2, 4, 3});
      },
      {"layer_norm: x has shape [4, 3]", "normalized_shape [2, 4, 3]"});
  expect_error(
      [] {
        nn::layer_norm(torch::ones({4, 3}), {});
      },
      {"layer_norm: normalized_shape is empty"});
  expect_error(
      [] {
        nn::layer_norm(torch::ones({4, 3}), three, torch::ones({2}));
      },
      {"layer_norm: weight has shape [2]", "expected [3]"});
}

TEST(TorchRefusal, ShapesThatDoNotFitTheNormalizationsOfEachSample) {
  expect_error(
      [] {
        GroupNorm(1, 3)->forward(torch::ones({4, 5}));
      },
      {"group_norm: weight has shape [3]", "expected [5]"});
  expect_error(
      [] {
        nn::group_norm(torch::ones({4, 5}), {}, {}, {.groups = 2});
      },
      {"group_norm", "groups"});
  expect_error(
      [] {
        const auto affine = torch::nn::InstanceNorm1dOptions(3).affine(true);
        InstanceNorm1d(affine)->forward(torch::ones({2, 5, 4}));
      },
      {"instance_norm: weight has shape [3]", "expected [5]"});
  expect_error(
      [] {
        const auto tracks = torch::nn::InstanceNorm1dOptions(3).track_running_stats(true);
        InstanceNorm1d(tracks)->forward(torch::ones({2, 5, 4}));
      },
      {"instance_norm: running mean has shape [3]", "expected [5]"});
  expect_error(
      [] {
        RMSNorm(three)->forward(torch::ones({4, 5}));
      },
      {"rms_norm: x has shape [4, 5]", "normalized_shape [3]"});
  expect_error(
      [] {
        nn::rms_norm(torch::ones({4, 3}), {});
      },
      {"rms_norm: normalized_shape is empty"});
  expect_error(
      [] {
        nn::rms_norm(torch::ones({4, 3}), three, torch::ones({2}));
      },
      {"rms_norm: weight has shape [2]", "expected [3]"});
}

TEST(TorchRefusal, OnePositionPerInstance) {
  InstanceNorm1d layer(torch::nn::InstanceNorm1dOptions(3).track_running_stats(true));
  expect_error([&] { layer->forward(torch::ones({2, 3, 1})); }, {"instance_norm", "one"});
  EXPECT_TRUE(torch::equal(layer->running_mean, torch::zeros({3})));
  layer->eval();
  EXPECT_NO_THROW(layer->forward(torch::ones({2, 3, 1})));
}

TEST(TorchRefusal, InstanceNormsThatMoveGivenStatistics) {
  const RunningTensors running{torch::zeros({3}), torch::ones({3}), {}};
  expect_error(
      [&] {
        nn::instance_norm(torch::ones({2, 3, 4}), {}, {}, running, Statistics::given,
                          {.update = RunningUpdate::moving_average(0.1)});
      },
      {"instance_norm: options.update", "Statistics::batch"});
}

TEST(TorchRefusal, OneValuePerChannelInTraining) {
  BatchNorm1d layer(3);
  expect_error([&] { layer->forward(torch::ones({1, 3})); }, {"batch_norm", "one value"});
  EXPECT_EQ(layer->num_batches_tracked.item<std::int64_t>(), 0);
  layer->eval();
  EXPECT_NO_THROW(layer->forward(torch::ones({1, 3})));
}

TEST(TorchRefusal, BadOptions) {
  const auto x = torch::ones({4, 3});
  for (const double eps : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    expect_error([&] { BatchNorm1d(torch::nn::BatchNormOptions(3).eps(eps))->forward(x); },
                 {"eps"});
    expect_error([&] { nn::layer_norm(x, three, {}, {}, eps); }, {"eps"});
    expect_error([&] { nn::rms_norm(x, three, {}, {.eps = eps}); }, {"eps"});
    expect_error([&] { nn::group_norm(x, {}, {}, {.groups = 1, .eps = eps}); }, {"eps"});
    expect_error(
        [&] {
          InstanceNorm1d(torch::nn::InstanceNorm1dOptions(3).eps(eps))
              ->forward(torch::ones({2, 3, 4}));
        },
        {"eps"});
  }
  expect_error([&] { local_response_norm(x, {.behind = -1}); }, {"behind"});
}

TEST(TorchRefusal, RunningStatisticsThatAreNeededButMissing) {
  BatchNorm1d layer(torch::nn::BatchNormOptions(3).track_running_stats(false));
  const auto x = random({4, 3}, torch::kFloat32);
  layer->normalize_with = Statistics::given;
  expect_error([&] { layer->forward(x); }, {"running statistics", "track_running_stats(true)"});
  layer->unfreeze();
  layer->update_running = true;
  expect_error([&] { layer->forward(x); }, {"running statistics", "track_running_stats(true)"});
}

TEST(TorchRefusal, RunningStatisticsThatCannotBeUpdated) {
  const auto x = random({4, 3}, torch::kFloat32);
  const auto every_second = torch::ones({6}).slice(0, 0, 6, 2);
  expect_error(
      [&] {
        batch_norm(x, {}, {}, {every_second, every_second, {}}, Statistics::given);
      },
      {"running statistics are not contiguous"});
  expect_error(
      [&] {
        batch_norm(x, {}, {}, {torch::ones({3}), torch::ones({3}), torch::ones({2})},
                   Statistics::given);
      },
      {"number of batches has 2 elements", "expected 1"});
}

TEST(TorchRefusal, SecondDerivatives) {
  const auto x = random({4, 3, 2}, torch::kFloat32).requires_grad_();
  const auto refused = [&](const std::string& op, const torch::Tensor& y) {
    expect_error(
        [&] {
          torch::autograd::grad({y.square().sum()}, {x}, {}, /*retain_graph=*/true,
                                /*create_graph=*/true);
        },
        {op + ": second derivatives are not supported", "create_graph"});
  };
  refused("batch_norm", batch_norm(x, {}, {}, {}, Statistics::batch));
  refused("batch_norm",
          batch_norm(x, {}, {}, {}, Statistics::batch, {.activation = Activation::relu}));
  refused("layer_norm", nn::layer_norm(x, std::vector<std::int64_t>{2}));
  refused("layer_norm", layer_norm_residual(x, x, std::vector<std::int64_t>{2}).y);
  refused("local_response_norm", local_response_norm(x));
  refused("group_norm", nn::group_norm(x, {}, {}, {.groups = 3}));
  refused("group_norm", nn::group_norm(x, {}, {}, {.groups = 3, .activation = Activation::silu}));
  refused("instance_norm", nn::instance_norm(x, {}, {}));
  refused("rms_norm", nn::rms_norm(x, std::vector<std::int64_t>{2}));
  refused("rms_norm", rms_norm_residual(x, x, std::vector<std::int64_t>{2}).y);
}

}  // namespace
}  // namespace evenkeel::nn::testing
