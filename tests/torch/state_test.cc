// Saved state goes from torch's modules to ours and back; clones and descriptions.
#include <sstream>

#include "evenkeel/torch.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

template <class From, class To>
void expect_state_moves(From& from, To& to) {
  std::stringstream stream;
  torch::save(from, stream);
  torch::load(to, stream);
  const auto expect_equal = [](const auto& a, const auto& b) {
    ASSERT_EQ(a.keys(), b.keys());
    for (const auto& item : a) EXPECT_TRUE(torch::equal(item.value(), b[item.key()])) << item.key();
  };
  expect_equal(from->named_parameters(), to->named_parameters());
  expect_equal(from->named_buffers(), to->named_buffers());
}

template <class Ours, class Theirs, class Options>
void expect_round_trip(const Options& options, const torch::Tensor& x) {
  const auto randomize = [](auto& module, std::uint64_t seed) {
    const torch::NoGradGuard no_grad;
    for (auto& p : module->parameters()) p.copy_(random(p.sizes(), torch::kFloat32, seed++));
  };
  Ours ours(options), back(options);
  // What ours has beyond torch's is no part of the state.
  ours->in_place = true;
  if constexpr (requires { ours->activation; }) ours->activation = Activation::relu;
  Theirs theirs(options);
  randomize(ours, 1);
  ours->forward(x);  // moves the running statistics
  expect_state_moves(ours, theirs);
  expect_state_moves(theirs, back);
  randomize(theirs, 5);
  theirs->forward(x * 3 + 1);
  expect_state_moves(theirs, ours);
}

TEST(TorchState, MovesBetweenTorchAndOursBothWays) {
  const auto x2 = random({6, 3}, torch::kFloat32);
  const auto x4 = random({6, 3, 2, 2}, torch::kFloat32);
  const auto x5 = random({6, 3, 2, 2, 1}, torch::kFloat32);
  for (const bool affine : {true, false}) {
    for (const bool track : {true, false}) {
      const auto options = torch::nn::BatchNormOptions(3).affine(affine).track_running_stats(track);
      expect_round_trip<BatchNorm1d, torch::nn::BatchNorm1d>(options, x2);
      expect_round_trip<BatchNorm2d, torch::nn::BatchNorm2d>(options, x4);
      expect_round_trip<BatchNorm3d, torch::nn::BatchNorm3d>(options, x5);
    }
    expect_round_trip<LayerNorm, torch::nn::LayerNorm>(
        torch::nn::LayerNormOptions({2, 2}).elementwise_affine(affine), x4);
  }
  expect_round_trip<LocalResponseNorm, torch::nn::LocalResponseNorm>(
      torch::nn::LocalResponseNormOptions(3), x4);
}

TEST(TorchState, AClonedBatchNormIsOursWithItsOwnTensors) {
  BatchNorm2d layer(3);
  layer->forward(random({2, 3, 4, 4}, torch::kFloat32));
  layer->freeze();
  layer->activation = Activation::relu;
  layer->in_place = true;
  const auto copy = std::dynamic_pointer_cast<BatchNorm2dImpl>(layer->clone());
  ASSERT_TRUE(copy);
  EXPECT_TRUE(copy->frozen());
  EXPECT_EQ(copy->activation, Activation::relu);
  EXPECT_TRUE(copy->in_place);
  EXPECT_TRUE(torch::equal(copy->running_mean, layer->running_mean));
  EXPECT_FALSE(copy->weight.is_same(layer->weight));
  EXPECT_FALSE(copy->running_mean.is_same(layer->running_mean));
}

TEST(TorchState, ClonesOfTheOthersAreOurs) {
  LayerNorm layer(std::vector<std::int64_t>{4});
  layer->in_place = true;
  const auto norm = std::dynamic_pointer_cast<LayerNormImpl>(layer->clone());
  ASSERT_TRUE(norm);
  EXPECT_TRUE(norm->in_place);
  LocalResponseNorm lrn(evenkeel::LocalResponseNormOptions::paper());
  lrn->in_place = true;
  const auto copy = std::dynamic_pointer_cast<LocalResponseNormImpl>(lrn->clone());
  ASSERT_TRUE(copy && copy->window);
  EXPECT_TRUE(copy->in_place);
  EXPECT_EQ(copy->window->k, 2);
}

TEST(TorchState, DescriptionsNameOurModules) {
  const auto text = [](const auto& module) {
    std::ostringstream out;
    out << *module;
    return out.str();
  };
  BatchNorm2d fused(3);
  EXPECT_EQ(text(fused).find("evenkeel::nn::BatchNorm2d(3, eps=1e-05"), 0U);
  EXPECT_EQ(text(fused).find("ReLU"), std::string::npos);
  fused->activation = Activation::relu;
  EXPECT_TRUE(text(fused).ends_with(") + ReLU"));
  EXPECT_EQ(text(LayerNorm(std::vector<std::int64_t>{4})).find("evenkeel::nn::LayerNorm("), 0U);
  EXPECT_EQ(text(LocalResponseNorm(3)).find("evenkeel::nn::LocalResponseNorm(3"), 0U);
  EXPECT_EQ(text(LocalResponseNorm(evenkeel::LocalResponseNormOptions::paper(4))),
            "evenkeel::nn::LocalResponseNorm(behind=2, ahead=2, alpha=0.0001, beta=0.75, k=2)");
}

}  // namespace
}  // namespace evenkeel::nn::testing
