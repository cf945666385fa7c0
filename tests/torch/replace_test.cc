// Replacing torch's normalization in a network.
#include "evenkeel/torch/replace.h"

#include "evenkeel/torch.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

// A Sequential inside a Sequential needs a forward that is not a template.
struct BlockImpl : torch::nn::SequentialImpl {
  using torch::nn::SequentialImpl::SequentialImpl;
  torch::Tensor forward(torch::Tensor x) { return torch::nn::SequentialImpl::forward(x); }
};
TORCH_MODULE(Block);

torch::nn::Sequential network() {
  torch::manual_seed(3);
  Block block;
  block->push_back("conv", torch::nn::Conv2d(4, 4, 1));
  block->push_back("norm", torch::nn::BatchNorm2d(4));
  block->push_back("relu", torch::nn::ReLU());
  return torch::nn::Sequential(
      torch::nn::Conv2d(1, 4, 3), torch::nn::LocalResponseNorm(3), block, torch::nn::Flatten(),
      torch::nn::Linear(64, 10), torch::nn::BatchNorm1d(10),
      torch::nn::LayerNorm(torch::nn::LayerNormOptions({10})), torch::nn::Linear(10, 2));
}

const auto images = [](std::uint64_t seed = 1) {
  return random({8, 1, 6, 6}, torch::kFloat32, seed);
};

TEST(TorchReplace, TheSameTensorsAndTheSameFunction) {
  auto reference = network(), net = network();
  const auto parameters = net->named_parameters(), buffers = net->named_buffers();
  EXPECT_EQ(replace_normalization(*net), 4);
  EXPECT_EQ(replace_normalization(*net), 0) << "what is ours is left alone";
  ASSERT_EQ(batch_norm_layers(*net).size(), 2U);
  EXPECT_EQ(batch_norm_layers(*net)[0].name, "2.norm");

  ASSERT_EQ(net->named_parameters().keys(), parameters.keys());
  for (const auto& p : net->named_parameters()) {
    EXPECT_TRUE(p.value().is_same(parameters[p.key()])) << p.key();
  }
  ASSERT_EQ(net->named_buffers().keys(), buffers.keys());
  for (const auto& b : net->named_buffers()) {
    EXPECT_TRUE(b.value().is_same(buffers[b.key()])) << b.key();
  }
  // Ten float layers deep: the error of one layer, times ten.
  expect_close(net->forward(images()), reference->forward(images()), 1e-4, "training");
  net->eval();
  reference->eval();
  expect_close(net->forward(images(2)), reference->forward(images(2)), 1e-4, "evaluation");
}

TEST(TorchReplace, AnOptimizerMadeBeforeGoesOnWorking) {
  auto reference = network(), net = network();
  torch::optim::SGD before(net->parameters(), 0.1), expected(reference->parameters(), 0.1);
  replace_normalization(*net);
  for (std::uint64_t step = 0; step < 3; ++step) {
    before.zero_grad();
    expected.zero_grad();
    net->forward(images(step)).square().sum().backward();
    reference->forward(images(step)).square().sum().backward();
    before.step();
    expected.step();
  }
  const auto trained = reference->named_parameters(), initial = network()->named_parameters();
  for (const auto& p : net->named_parameters()) {
    // Three steps of a network of ten layers amplify the rounding of each.
    expect_close(p.value(), trained[p.key()], 1e-3, p.key());
  }
  EXPECT_FALSE(torch::allclose(net->named_parameters()["2.norm.weight"], initial["2.norm.weight"],
                               1e-3, 1e-3));
}

TEST(TorchReplace, TrainingFlagsAreKept) {
  auto net = network();
  net->children()[5]->eval();
  replace_normalization(*net);
  EXPECT_FALSE(net->children()[5]->is_training());
  EXPECT_TRUE(net->children()[6]->is_training());
  EXPECT_TRUE(std::dynamic_pointer_cast<BatchNorm1dImpl>(net->children()[5]));
}

TEST(TorchReplace, CloningAfterwardsClonesOurs) {
  torch::nn::Sequential net(torch::nn::Linear(2, 3), torch::nn::BatchNorm1d(3));
  replace_normalization(*net);
  const auto copy = net->clone();
  EXPECT_EQ(batch_norm_layers(*copy).size(), 1U);
}

// A user's own layer has a forward of its own, which a replacement would lose.
struct HalvedLayerNormImpl : torch::nn::LayerNormImpl {
  using torch::nn::LayerNormImpl::LayerNormImpl;
  torch::Tensor forward(const torch::Tensor& x) { return torch::nn::LayerNormImpl::forward(x) / 2; }
};

TEST(TorchReplace, ClassesDerivedFromTorchsAreLeftAlone) {
  torch::nn::Sequential net;
  net->push_back(HalvedLayerNormImpl(torch::nn::LayerNormOptions({3})));
  const auto x = torch::arange(6, torch::kFloat32).reshape({2, 3});
  const auto before = net->forward(x);
  EXPECT_EQ(replace_normalization(*net), 0);
  EXPECT_TRUE(torch::equal(net->forward(x), before));
}

// Each normalization of each sample, behind a convolution, and what stands before and behind it.
torch::nn::Sequential per_sample_network() {
  torch::manual_seed(4);
  const auto options = [](std::int64_t channels) {
    return torch::nn::InstanceNormOptions(channels).affine(true).track_running_stats(true);
  };
  return torch::nn::Sequential(torch::nn::Conv2d(1, 6, 3), torch::nn::GroupNorm(3, 6),
                               torch::nn::SiLU(), torch::nn::Conv2d(6, 4, 1),
                               torch::nn::InstanceNorm2d(options(4)),
                               torch::nn::Flatten(torch::nn::FlattenOptions().start_dim(2)),
                               torch::nn::InstanceNorm1d(options(4)),
                               torch::nn::Unflatten(torch::nn::UnflattenOptions(2, {4, 2, 2})),
                               torch::nn::InstanceNorm3d(options(4)));
}

TEST(TorchReplace, NormalizationOfEachSampleToo) {
  auto reference = per_sample_network(), net = per_sample_network();
  const auto parameters = net->named_parameters(), buffers = net->named_buffers();
  EXPECT_EQ(replace_normalization(*net), 4);
  EXPECT_EQ(replace_normalization(*net), 0);
  EXPECT_TRUE(net->children()[1]->as<GroupNorm>());
  EXPECT_TRUE(net->children()[4]->as<InstanceNorm2d>());
  EXPECT_TRUE(net->children()[6]->as<InstanceNorm1d>());
  EXPECT_TRUE(net->children()[8]->as<InstanceNorm3d>());
  ASSERT_EQ(net->named_parameters().keys(), parameters.keys());
  for (const auto& p : net->named_parameters()) {
    EXPECT_TRUE(p.value().is_same(parameters[p.key()])) << p.key();
  }
  ASSERT_EQ(net->named_buffers().keys(), buffers.keys());
  for (const auto& b : net->named_buffers()) {
    EXPECT_TRUE(b.value().is_same(buffers[b.key()])) << b.key();
  }
  EXPECT_EQ(fuse_activations(*net), 1);
  // Nine float layers deep: the error of one layer, times ten.
  expect_close(net->forward(images()), reference->forward(images()), 1e-4, "training");
  net->eval();
  reference->eval();
  expect_close(net->forward(images(2)), reference->forward(images(2)), 1e-4, "evaluation");
}

template <class Module>
void expect_fused(Module activation, const Activation& expected) {
  torch::nn::Sequential net(GroupNorm(1, 4), activation, BatchNorm1d(4), activation,
                            torch::nn::Linear(4, 4), activation);
  const auto x = random({8, 4}, torch::kFloat32);
  const auto before = net->forward(x);
  EXPECT_EQ(fuse_activations(*net), 2);
  EXPECT_EQ(net->ptr<GroupNormImpl>(0)->activation, expected);
  EXPECT_EQ(net->ptr<BatchNorm1dImpl>(2)->activation, expected);
  EXPECT_TRUE(net->children()[1]->template as<torch::nn::Identity>());
  // Six float layers deep: the error of one layer, times ten.
  expect_close(net->forward(x), before, 1e-4, "output");
}

TEST(TorchReplace, EveryActivationThatALayerCanComputeIsFused) {
  expect_fused(torch::nn::ReLU(), Activation::relu);
  expect_fused(torch::nn::ReLU6(), Activation::relu6);
  expect_fused(torch::nn::SiLU(), Activation::silu);
  expect_fused(torch::nn::Hardtanh(torch::nn::HardtanhOptions().min_val(-0.5).max_val(0.75)),
               Activation::hardtanh(-0.5, 0.75));
  expect_fused(torch::nn::LeakyReLU(torch::nn::LeakyReLUOptions().negative_slope(0.3)),
               Activation::leaky_relu(0.3));
  torch::nn::Sequential net(BatchNorm1d(3), torch::nn::Tanh());
  EXPECT_EQ(fuse_activations(*net), 0);
}

TEST(TorchReplace, AReluAfterABatchNormIsFused) {
  auto reference = network(), net = network();
  EXPECT_EQ(fuse_activations(*net), 0) << "torch's own are left alone";
  replace_normalization(*net);
  const auto parameters = net->named_parameters().keys(), buffers = net->named_buffers().keys();
  EXPECT_EQ(fuse_activations(*net), 1);
  EXPECT_EQ(fuse_activations(*net), 0);
  EXPECT_EQ(net->named_parameters().keys(), parameters);
  EXPECT_EQ(net->named_buffers().keys(), buffers);
  const auto layers = batch_norm_layers(*net);
  EXPECT_EQ(layers[0].layer->activation, Activation::relu);
  EXPECT_EQ(layers[1].layer->activation, Activation::none);
  // As in TheSameTensorsAndTheSameFunction.
  expect_close(net->forward(images()), reference->forward(images()), 1e-4, "training");
  net->eval();
  reference->eval();
  expect_close(net->forward(images(2)), reference->forward(images(2)), 1e-4, "evaluation");
}

// Fused, its other place would see the ReLU as well.
TEST(TorchReplace, ABatchNormInTwoPlacesIsNotFused) {
  BatchNorm1d shared(2);
  torch::nn::Sequential net(shared, torch::nn::ReLU(), torch::nn::Linear(2, 2), shared);
  EXPECT_EQ(fuse_activations(*net), 0);
}

struct Wrapper : torch::nn::Module {
  Wrapper() { register_module("layers", layers); }
  torch::nn::Sequential layers = network();
};

TEST(TorchReplace, ReachesSequentialsInsideOtherModules) {
  const auto wrapper = std::make_shared<Wrapper>();
  EXPECT_EQ(replace_normalization(*wrapper), 4);
  ASSERT_EQ(batch_norm_layers(*wrapper).size(), 2U);
  EXPECT_EQ(batch_norm_layers(*wrapper)[0].name, "layers.2.norm");
}

}  // namespace
}  // namespace evenkeel::nn::testing
