#include "lab/gradient.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <memory>
#include <vector>

namespace evenkeel::lab {
namespace {

Split random_batch() {
  torch::manual_seed(1);
  return {torch::randn({8, 1, 12, 12}), torch::randint(0, classes, {8}, torch::kInt64)};
}

std::shared_ptr<Network> network_with_batch_norm() {
  return std::make_shared<Network>(network_plan("cnn"), batch_norm(), 12, 12, 1);
}

// The same operations on the same numbers as training's own backward: equal bit by bit.
TEST(Gradient, IsThatOfTrainingAndLeavesNoTrace) {
  const Split batch = random_batch();
  const auto network = network_with_batch_norm();
  std::vector<torch::Tensor> state;
  for (const auto& buffer : network->buffers()) state.push_back(buffer.clone());
  const LossGradient seen = loss_gradient(*network, batch, network->parameters());
  EXPECT_TRUE(network->is_training());
  for (std::size_t i = 0; i < state.size(); ++i) {
    EXPECT_TRUE(network->buffers()[i].equal(state[i])) << i;
  }
  for (const auto& parameter : network->parameters()) EXPECT_FALSE(parameter.grad().defined());

  auto loss = torch::cross_entropy_loss(network->forward(batch.images), batch.labels);
  loss.backward();
  EXPECT_EQ(seen.loss, loss.item<double>());
  const auto parameters = network->parameters();
  ASSERT_EQ(seen.of.size(), parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    EXPECT_TRUE(seen.of[i].equal(parameters[i].grad())) << i;
  }
}

TEST(Gradient, StepsAreTakenBack) {
  const auto network = network_with_batch_norm();
  const auto parameters = network->parameters();
  std::vector<torch::Tensor> old;
  for (const auto& parameter : parameters) old.push_back(parameter.detach().clone());
  std::vector<torch::Tensor> ones;
  for (const auto& parameter : parameters) ones.push_back(torch::ones_like(parameter));
  {
    ParameterGuard keep(parameters);
    step(parameters, ones, -0.5);
    EXPECT_TRUE(parameters[0].equal(old[0] - 0.5));
    keep.restore();
    EXPECT_TRUE(parameters[0].equal(old[0]));
    step(parameters, ones, 2);
  }
  for (std::size_t i = 0; i < old.size(); ++i) EXPECT_TRUE(parameters[i].equal(old[i])) << i;
}

TEST(Gradient, LayersHaveTheirOwnParameters) {
  const auto network = network_with_batch_norm();
  const auto layers = parameters_by_layer(*network, network_plan("cnn"));
  ASSERT_EQ(layers.size(), 4U);  // three hidden ones and the output
  std::size_t count = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(layers[i].all.front().is_same(network->hidden_weights()[i])) << layers[i].name;
    EXPECT_EQ(layers[i].all.size(), 4U) << "weight, bias, gamma, beta";
    count += layers[i].all.size();
  }
  EXPECT_EQ(count + layers[3].all.size(), network->parameters().size());
}

TEST(Gradient, ComparesByHand) {
  const auto a = torch::tensor({3.0, 4.0}, torch::kFloat64);
  const auto b = torch::tensor({0.0, 5.0}, torch::kFloat64);
  // |(3, -1)| / 5, and 20 / 25.
  EXPECT_DOUBLE_EQ(relative_difference(a, b), std::sqrt(10.0) / 5);
  EXPECT_DOUBLE_EQ(cosine(a, b), 0.8);
  EXPECT_EQ(flat({a.reshape({1, 2}), b}).numel(), 4);
}

}  // namespace
}  // namespace evenkeel::lab
