// GroupNorm against torch::nn's, with and without an activation, and against finite differences.
#include "evenkeel/torch/group_norm.h"

#include "evenkeel/torch/functional.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

using Options = torch::nn::GroupNormOptions;

void expect_parity(const Options& options, torch::IntArrayRef sizes) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(c10::str(sizes, " in ", options.num_groups(), " groups ", dtype, " ",
                            name_of(arrangement), " affine ", options.affine()));
      GroupNorm ours(options);
      torch::nn::GroupNorm theirs(options);
      randomize_parameters(*ours);
      randomize_parameters(*theirs);
      ours->to(dtype);
      theirs->to(dtype);
      expect_same_step(ours, theirs, random(sizes, dtype), arrangement);
      ours->eval();
      theirs->eval();
      expect_same_step(ours, theirs, random(sizes, dtype, 2), arrangement);
    }
  }
}

TEST(TorchGroupNorm, AgreesWithTorch) {
  for (const bool affine : {true, false}) {
    for (const std::int64_t groups : {1, 2, 4, 8}) {
      const auto options = Options(groups, 8).affine(affine);
      expect_parity(options, {5, 8, 11});
      expect_parity(options, {2, 8, 5, 7});
      expect_parity(options, {2, 8, 2, 3, 5});
    }
    expect_parity(Options(3, 12).affine(affine), {6, 12});
  }
  expect_parity(Options(1, 17), {1, 17, 9});
  expect_parity(Options(2, 6).eps(0.1), {3, 6, 4, 4});
}

TEST(TorchGroupNorm, WithAnActivationAgreesWithTorchsLayersOneByOne) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto& activation : all_activations) {
      for (const auto arrangement : all_arrangements) {
        SCOPED_TRACE(c10::str(dtype, " ", name_of(activation), " ", name_of(arrangement)));
        GroupNorm ours(3, 6);
        torch::nn::GroupNorm theirs(3, 6);
        ours->activation = activation;
        randomize_parameters(*ours);
        randomize_parameters(*theirs);
        ours->to(dtype);
        theirs->to(dtype);
        const auto x = arranged(random({4, 6, 5, 7}, dtype), arrangement).requires_grad_();
        const auto dy = random({4, 6, 5, 7}, dtype, 3);
        const auto y = ours->forward(x);
        const auto expected = activated(theirs->forward(x), activation);
        expect_close(y, expected, tolerance(dtype), "output");
        const auto d_ours = torch::autograd::grad({y}, {x, ours->weight, ours->bias}, {dy});
        const auto d_theirs =
            torch::autograd::grad({expected}, {x, theirs->weight, theirs->bias}, {dy});
        for (std::size_t i = 0; i < d_theirs.size(); ++i) {
          expect_close(d_ours[i], d_theirs[i], tolerance(dtype), "gradient " + std::to_string(i));
        }
        if (arrangement == Arrangement::strided) continue;
        EXPECT_EQ(y.strides(), x.strides());
        EXPECT_EQ(d_ours[0].strides(), x.strides());
      }
    }
  }
}

// No value is within 1e-5 of a kink, over which finite differences would not be of one side.
TEST(TorchGroupNorm, GradientsAgreeWithFiniteDifferences) {
  for (const auto& activation : all_activations) {
    for (const auto arrangement : all_arrangements) {
      SCOPED_TRACE(name_of(activation) + " " + name_of(arrangement));
      const auto x = arranged(random({3, 4, 2, 3}, torch::kFloat64), arrangement).requires_grad_();
      const auto weight = random({4}, torch::kFloat64, 2).requires_grad_();
      const auto bias = random({4}, torch::kFloat64, 3).requires_grad_();
      const GroupNormOptions options{.groups = 2, .activation = activation};
      expect_gradients([&] { return nn::group_norm(x, weight, bias, options); }, {x, weight, bias});
      expect_gradients([&] { return nn::group_norm(x, {}, bias, options); }, {x, bias});
      expect_gradients([&] { return nn::group_norm(x, weight, {}, options); }, {x, weight});
    }
  }
}

TEST(TorchGroupNorm, OnlyWantedGradientsAreReturned) {
  GroupNorm layer(2, 6);
  const auto x = random({4, 6, 3}, torch::kFloat32);
  layer->weight.requires_grad_(false);
  layer->forward(x).square().sum().backward();
  EXPECT_FALSE(layer->weight.grad().defined());
  EXPECT_TRUE(layer->bias.grad().defined());
  layer->bias.requires_grad_(false);
  EXPECT_FALSE(layer->forward(x).requires_grad());
}

TEST(TorchGroupNorm, ChangedOptionsTakeEffect) {
  GroupNorm ours(2, 6);
  torch::nn::GroupNorm theirs(2, 6);
  ours->options.num_groups(3).eps(0.5);
  theirs->options.num_groups(3).eps(0.5);
  expect_same_step(ours, theirs, random({2, 6, 5}, torch::kFloat32), Arrangement::contiguous);
}

TEST(TorchGroupNorm, AnEmptyBatchGivesAnEmptyOutputAndZeroGradients) {
  GroupNorm layer(2, 4);
  const auto y = layer->forward(torch::zeros({0, 4, 3}));
  EXPECT_EQ(y.sizes(), torch::IntArrayRef({0, 4, 3}));
  y.sum().backward();
  EXPECT_TRUE(torch::equal(layer->weight.grad(), torch::zeros({4})));
  EXPECT_TRUE(torch::equal(layer->bias.grad(), torch::zeros({4})));
}

}  // namespace
}  // namespace evenkeel::nn::testing
