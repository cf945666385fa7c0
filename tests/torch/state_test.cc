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
    expect_round_trip<GroupNorm, torch::nn::GroupNorm>(
        torch::nn::GroupNormOptions(3, 3).affine(affine), x4);
    for (const bool track : {true, false}) {
      const auto options =
          torch::nn::InstanceNormOptions(3).affine(affine).track_running_stats(track);
      expect_round_trip<InstanceNorm1d, torch::nn::InstanceNorm1d>(options, x4.flatten(2));
      expect_round_trip<InstanceNorm2d, torch::nn::InstanceNorm2d>(options, x4);
      expect_round_trip<InstanceNorm3d, torch::nn::InstanceNorm3d>(options, x5);
    }
  }
  expect_round_trip<LocalResponseNorm, torch::nn::LocalResponseNorm>(
      torch::nn::LocalResponseNormOptions(3), x4);
}

// PyTorch's Python module, whose state this is, has the one parameter `weight` as well.
TEST(TorchState, AnRmsNormLoadsIntoAnother) {
  RMSNorm from(std::vector<std::int64_t>{2, 3}), to(std::vector<std::int64_t>{2, 3});
  randomize_parameters(*from);
  EXPECT_EQ(from->named_parameters().keys(), std::vector<std::string>{"weight"});
  EXPECT_TRUE(from->named_buffers().is_empty());
  expect_state_moves(from, to);
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

  GroupNorm groups(2, 4);
  groups->activation = Activation::leaky_relu(0.3);
  groups->in_place = true;
  const auto group_copy = std::dynamic_pointer_cast<GroupNormImpl>(groups->clone());
  ASSERT_TRUE(group_copy);
  EXPECT_EQ(group_copy->activation, Activation::leaky_relu(0.3));
  EXPECT_TRUE(group_copy->in_place);
  EXPECT_EQ(group_copy->options.num_groups(), 2);
  EXPECT_FALSE(group_copy->weight.is_same(groups->weight));

  InstanceNorm2d instances(
      torch::nn::InstanceNorm2dOptions(3).affine(true).track_running_stats(true));
  instances->forward(random({2, 3, 4, 4}, torch::kFloat32));
  instances->in_place = true;
  const auto instance_copy = std::dynamic_pointer_cast<InstanceNorm2dImpl>(instances->clone());
  ASSERT_TRUE(instance_copy);
  EXPECT_TRUE(instance_copy->in_place);
  EXPECT_TRUE(torch::equal(instance_copy->running_mean, instances->running_mean));
  EXPECT_FALSE(instance_copy->running_mean.is_same(instances->running_mean));

  RMSNorm rms(RMSNormOptions({4}).eps(0.5).unit_offset(true));
  randomize_parameters(*rms);
  rms->in_place = true;
  const auto rms_copy = std::dynamic_pointer_cast<RMSNormImpl>(rms->clone());
  ASSERT_TRUE(rms_copy);
  EXPECT_TRUE(rms_copy->in_place);
  EXPECT_EQ(rms_copy->options.eps(), 0.5);
  EXPECT_TRUE(rms_copy->options.unit_offset());
  EXPECT_TRUE(torch::equal(rms_copy->weight, rms->weight));
  EXPECT_FALSE(rms_copy->weight.is_same(rms->weight));
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
  GroupNorm groups(2, 4);
  EXPECT_EQ(text(groups).find("evenkeel::nn::GroupNorm(2, 4, eps=1e-05"), 0U);
  groups->activation = Activation::hardtanh(-2, 3);
  EXPECT_TRUE(text(groups).ends_with(") + Hardtanh(min_val=-2, max_val=3)"));
  const std::pair<Activation, std::string> named[] = {
      {Activation::relu6, " + ReLU6"},
      {Activation::leaky_relu(0.5), " + LeakyReLU(negative_slope=0.5)"},
      {Activation::silu, " + SiLU"},
      {Activation::hardswish, " + Hardswish"}};
  for (const auto& [activation, name] : named) {
    groups->activation = activation;
    EXPECT_TRUE(text(groups).ends_with(")" + name)) << text(groups);
  }
  EXPECT_EQ(text(InstanceNorm3d(5)).find("evenkeel::nn::InstanceNorm3d(5, eps=1e-05"), 0U);
  EXPECT_EQ(text(RMSNorm(std::vector<std::int64_t>{4, 2})),
            "evenkeel::nn::RMSNorm([4, 2], eps=machine epsilon, elementwise_affine=true, "
            "unit_offset=false)");
  EXPECT_EQ(text(RMSNorm(RMSNormOptions({4}).eps(0.5).unit_offset(true))),
            "evenkeel::nn::RMSNorm([4], eps=0.5, elementwise_affine=true, unit_offset=true)");
}

}  // namespace
}  // namespace evenkeel::nn::testing
