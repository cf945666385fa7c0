// Exact population statistics against those of the concatenated data set by torch's operations.
#include "evenkeel/torch/population.h"

#include <cmath>
#include <limits>

#include "evenkeel/error.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

constexpr double default_eps = 1e-5;  // the default of BatchNormOptions

torch::nn::Sequential network() {
  torch::manual_seed(5);
  torch::nn::Sequential net(torch::nn::Linear(3, 5), BatchNorm1d(5), torch::nn::Sigmoid(),
                            torch::nn::Dropout(0.5), torch::nn::Linear(5, 4), BatchNorm1d(4));
  net->to(torch::kFloat64);
  return net;
}

torch::Tensor data() { return random({50, 3}, torch::kFloat64); }

// Unequal batches, the last of one sample.
std::vector<torch::Tensor> batches() { return data().split_with_sizes({20, 17, 12, 1}); }

BatchNorm1dImpl& norm(torch::nn::Sequential& net, std::size_t index) {
  return net->at<BatchNorm1dImpl>(index);
}

torch::Tensor linear(torch::nn::Sequential& net, std::size_t index, const torch::Tensor& x) {
  const torch::NoGradGuard no_grad;
  return net->at<torch::nn::LinearImpl>(index).forward(x);
}

// y as a layer of default parameters computes it from running statistics.
torch::Tensor normalized(const torch::Tensor& x, const torch::Tensor& mean,
                         const torch::Tensor& var) {
  return (x - mean) / (var + default_eps).sqrt();
}

void expect_statistics(const BatchNorm1dImpl& layer, const torch::Tensor& inputs) {
  expect_close(layer.running_mean, inputs.mean(0), tolerance(torch::kFloat64), "mean");
  expect_close(layer.running_var, inputs.var(0, /*unbiased=*/true), tolerance(torch::kFloat64),
               "unbiased variance");
}

TEST(TorchPopulation, ExactStatisticsAreThoseOfTheWholeSet) {
  auto net = network();
  estimate_population_statistics(*net, batches());
  const auto first = linear(net, 0, data());
  expect_statistics(norm(net, 1), first);
  const auto hidden = torch::sigmoid(normalized(first, first.mean(0), first.var(0, true)));
  expect_statistics(norm(net, 5), linear(net, 4, hidden));
}

TEST(TorchPopulation, SinglePassNormalizesByTheBatch) {
  auto net = network();
  const auto parts = data().split_with_sizes({30, 20});
  estimate_population_statistics(*net, parts, PopulationMethod::single_pass);
  expect_statistics(norm(net, 1), linear(net, 0, data()));
  std::vector<torch::Tensor> seconds;
  for (const auto& part : parts) {
    const auto first = linear(net, 0, part);
    const auto hidden = torch::sigmoid(normalized(first, first.mean(0), first.var(0, false)));
    seconds.push_back(linear(net, 4, hidden));
  }
  expect_statistics(norm(net, 5), torch::cat(seconds));
}

TEST(TorchPopulation, WorksOverADataLoader) {
  auto net = network(), expected = network();
  auto loader = torch::data::make_data_loader(
      torch::data::datasets::TensorDataset(data()).map(
          torch::data::transforms::Stack<torch::data::TensorExample>()),
      7);
  estimate_population_statistics(*net, *loader);
  estimate_population_statistics(*expected, batches());
  expect_close(norm(net, 5).running_mean, norm(expected, 5).running_mean,
               tolerance(torch::kFloat64), "mean");
  expect_close(norm(net, 5).running_var, norm(expected, 5).running_var, tolerance(torch::kFloat64),
               "var");
}

TEST(TorchPopulation, WorksForALoneModuleInEitherLayout) {
  const auto x = random({6, 3, 4, 5}, torch::kFloat32);
  for (const auto format : {torch::MemoryFormat::Contiguous, torch::MemoryFormat::ChannelsLast}) {
    BatchNorm2d layer(3);
    std::vector<torch::Tensor> parts;
    for (const auto& part : x.split(2)) parts.push_back(part.contiguous(format));
    estimate_population_statistics(*layer, parts);
    expect_close(layer->running_mean, x.mean({0, 2, 3}), 1e-5, "mean");
    expect_close(layer->running_var, x.var({0, 2, 3}, true), 1e-5, "var");
  }
}

// The layer is the first, so in place it would normalize the data itself, once in every pass.
TEST(TorchPopulation, LayersInPlaceLeaveTheDataAlone) {
  torch::nn::Sequential net(BatchNorm1d(3), BatchNorm1d(3));
  net->to(torch::kFloat64);
  norm(net, 0).in_place = norm(net, 1).in_place = true;
  const auto parts = batches();
  estimate_population_statistics(*net, parts);
  EXPECT_TRUE(torch::equal(torch::cat(parts), data()));
  expect_statistics(norm(net, 0), data());
  EXPECT_TRUE(norm(net, 0).in_place);
}

TEST(TorchPopulation, ItsStatisticsOf16BitBatchesAreOfTheirValues) {
  BatchNorm1d layer(3);
  const auto x = data().to(torch::kBFloat16);
  estimate_population_statistics(*layer, x.split(20));
  expect_close(layer->running_mean, x.to(torch::kFloat32).mean(0), 1e-5, "mean");
  expect_close(layer->running_var, x.to(torch::kFloat32).var(0, true), 1e-5, "var");
}

TEST(TorchPopulation, FlagsSwitchesAndCountsAreLeftAsTheyWere) {
  auto net = network();
  net->forward(data());
  norm(net, 5).eval();
  norm(net, 1).update_running = true;
  estimate_population_statistics(*net, batches());
  EXPECT_TRUE(net->is_training());
  EXPECT_TRUE(norm(net, 1).is_training());
  EXPECT_FALSE(norm(net, 5).is_training());
  EXPECT_EQ(norm(net, 1).update_running, true);
  EXPECT_FALSE(norm(net, 1).normalize_with.has_value());
  EXPECT_FALSE(norm(net, 1).on_input);
  EXPECT_EQ(norm(net, 1).num_batches_tracked.item<std::int64_t>(), 1);
}

TEST(TorchPopulation, FrozenLayersAreLeftAlone) {
  auto net = network();
  norm(net, 1).freeze();
  estimate_population_statistics(*net, batches());
  EXPECT_TRUE(torch::equal(norm(net, 1).running_mean, torch::zeros({5}, torch::kFloat64)));
  const auto hidden = torch::sigmoid(linear(net, 0, data()) / std::sqrt(1 + default_eps));
  expect_statistics(norm(net, 5), linear(net, 4, hidden));
}

// The second layer to run is registered first.
struct Backwards : torch::nn::Module {
  Backwards() {
    register_module("second", second);
    register_module("first", first);
    to(torch::kFloat64);
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return second->forward(torch::sigmoid(first->forward(x)));
  }
  BatchNorm1d second = BatchNorm1d(3), first = BatchNorm1d(3), unused = BatchNorm1d(3);
};

TEST(TorchPopulation, FollowsTheOrderOfExecution) {
  const auto net = std::make_shared<Backwards>();
  estimate_population_statistics(*net, batches());
  const auto x = data();
  expect_statistics(*net->first, x);
  expect_statistics(*net->second, torch::sigmoid(normalized(x, x.mean(0), x.var(0, true))));
}

TEST(TorchPopulation, ANetworkWithoutBatchNormIsNotRun) {
  torch::nn::Sequential net(torch::nn::Linear(3, 2));
  bool called = false;
  estimate_population_statistics(*net, [&] { called = true; });
  EXPECT_FALSE(called);
}

TEST(TorchPopulation, TheGuardRestoresEverything) {
  auto net = network();
  net->forward(data());
  const auto mean = norm(net, 5).running_mean.clone(), var = norm(net, 5).running_var.clone();
  norm(net, 1).freeze();
  {
    const BatchNormStateGuard keep(*net);
    norm(net, 1).unfreeze();
    estimate_population_statistics(*net, batches());
    EXPECT_FALSE(torch::equal(norm(net, 5).running_mean, mean));
    net->train();
    net->forward(data());
    use_batch_statistics(*net);
    net->eval();
  }
  EXPECT_TRUE(torch::equal(norm(net, 5).running_mean, mean));
  EXPECT_TRUE(torch::equal(norm(net, 5).running_var, var));
  EXPECT_EQ(norm(net, 5).num_batches_tracked.item<std::int64_t>(), 1);
  EXPECT_TRUE(norm(net, 1).frozen());
  EXPECT_FALSE(norm(net, 5).normalize_with.has_value());
  EXPECT_TRUE(norm(net, 5).is_training());
}

TEST(TorchPopulation, BatchStatisticsCanBeUsedInEvaluation) {
  auto net = network();
  net->at<torch::nn::DropoutImpl>(3).options.p(0);
  const BatchNormStateGuard keep(*net);
  use_batch_statistics(*net);
  net->eval();
  const auto y = net->forward(data());
  expect_close(y.mean(0), torch::zeros({4}, torch::kFloat64), tolerance(torch::kFloat64), "mean");
  EXPECT_TRUE(torch::equal(norm(net, 1).running_mean, torch::zeros({5}, torch::kFloat64)));
}

TEST(TorchPopulation, FailuresLoseNothing) {
  auto net = network();
  net->forward(data());
  const auto mean = norm(net, 1).running_mean.clone();
  const auto unchanged = [&] {
    EXPECT_TRUE(torch::equal(norm(net, 1).running_mean, mean));
    EXPECT_TRUE(net->is_training());
    EXPECT_FALSE(norm(net, 1).on_input);
  };
  auto bad = data();
  bad[3][1] = std::numeric_limits<double>::infinity();
  expect_error(
      [&] {
        estimate_population_statistics(*net, std::vector{data(), bad});
      },
      {"layer '1'", "not finite"});
  unchanged();
  expect_error([&] { estimate_population_statistics(*net, std::vector{data().slice(0, 0, 1)}); },
               {"layer '1' saw 1 values per channel", "2 or more"});
  unchanged();
  expect_error([&] { estimate_population_statistics(*net, std::vector<torch::Tensor>()); },
               {"reached no BatchNorm layer"});
  unchanged();
  expect_error([&] { estimate_population_statistics(*net, [] { throw Error("loader"); }); },
               {"loader"});
  unchanged();
}

}  // namespace
}  // namespace evenkeel::nn::testing
