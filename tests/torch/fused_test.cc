// BatchNorm with a residual and an activation in its pass, against torch's three layers one after
// another. A value so near a kink of the activation that rounding decides on which side it is would
// get another derivative there; none of these is.
#include "evenkeel/torch/batch_norm.h"
#include "evenkeel/torch/functional.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

// torch::nn's layer, then add, then the activation.
template <class Theirs>
torch::Tensor one_by_one(Theirs& layer, const Activation& activation, const torch::Tensor& x,
                         const torch::Tensor& residual) {
  auto y = layer->forward(x);
  if (residual.defined()) y = y + residual;
  return activated(y, activation);
}

template <class Ours, class Theirs>
void expect_parity(torch::IntArrayRef sizes, torch::ScalarType dtype, Arrangement of_x,
                   Arrangement of_residual, const Activation& activation, bool training) {
  SCOPED_TRACE(c10::str(sizes, " ", dtype, " ", name_of(of_x), " residual ", name_of(of_residual),
                        " ", name_of(activation), " training ", training));
  Ours ours(sizes[1]);
  Theirs theirs(sizes[1]);
  randomize_parameters(*ours);
  randomize_parameters(*theirs);
  ours->to(dtype);
  theirs->to(dtype);
  ours->train(training);
  theirs->train(training);
  ours->activation = activation;
  const auto x = arranged(random(sizes, dtype), of_x).requires_grad_();
  const auto residual = arranged(random(sizes, dtype, 2), of_residual).requires_grad_();
  const auto dy = random(sizes, dtype, 3);
  for (const auto& added : {residual, torch::Tensor()}) {
    const auto y = ours->forward(x, added);
    const auto expected = one_by_one(theirs, activation, x, added);
    expect_close(y, expected, tolerance(dtype), "output");
    std::vector<torch::Tensor> leaves = {x};
    if (added.defined()) leaves.push_back(added);
    const auto gradients_of = [&](const torch::Tensor& of, torch::nn::Module& module) {
      auto all = leaves;
      for (const auto& parameter : module.parameters()) all.push_back(parameter);
      return torch::autograd::grad({of}, all, {dy});
    };
    const auto d_ours = gradients_of(y, *ours), d_theirs = gradients_of(expected, *theirs);
    for (std::size_t i = 0; i < d_theirs.size(); ++i) {
      expect_close(d_ours[i], d_theirs[i], tolerance(dtype), "gradient " + std::to_string(i));
    }
    if (of_x != Arrangement::strided) {
      EXPECT_EQ(y.strides(), x.strides());
      EXPECT_EQ(d_ours[0].strides(), x.strides());
    }
  }
  expect_close(ours->running_mean, theirs->running_mean, tolerance(dtype), "running mean");
  expect_close(ours->running_var, theirs->running_var, tolerance(dtype), "running var");
}

TEST(TorchFused, AgreesWithTorchsLayersOneByOne) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const auto& activation : all_activations) {
      for (const bool training : {true, false}) {
        for (const auto of_x : all_arrangements) {
          for (const auto of_residual : all_arrangements) {
            expect_parity<BatchNorm2d, torch::nn::BatchNorm2d>({4, 6, 5, 7}, dtype, of_x,
                                                               of_residual, activation, training);
          }
        }
        expect_parity<BatchNorm1d, torch::nn::BatchNorm1d>(
            {12, 7}, dtype, Arrangement::contiguous, Arrangement::contiguous, activation, training);
        expect_parity<BatchNorm3d, torch::nn::BatchNorm3d>(
            {3, 4, 2, 5, 3}, dtype, Arrangement::contiguous, Arrangement::channels_last, activation,
            training);
      }
    }
  }
}

// No value is within 1e-5 of a kink, over which finite differences would not be of one side.
TEST(TorchFused, GradientsAgreeWithFiniteDifferences) {
  for (const auto statistics : {Statistics::batch, Statistics::given}) {
    for (const auto& activation : all_activations) {
      const auto x = random({3, 4, 2, 3}, torch::kFloat64).requires_grad_();
      const auto residual = random({3, 4, 2, 3}, torch::kFloat64, 6).requires_grad_();
      const auto weight = random({4}, torch::kFloat64, 2).requires_grad_();
      const auto bias = random({4}, torch::kFloat64, 3).requires_grad_();
      const RunningTensors running{
          random({4}, torch::kFloat64, 4), random({4}, torch::kFloat64, 5).square().add(0.5), {}};
      const auto of = [&](const torch::Tensor& w, const torch::Tensor& b, const torch::Tensor& r) {
        return batch_norm(x, w, b, running, statistics, {.activation = activation}, r);
      };
      expect_gradients([&] { return of(weight, bias, residual); }, {x, weight, bias, residual});
      expect_gradients([&] { return of({}, {}, residual); }, {x, residual});
      expect_gradients([&] { return of({}, bias, {}); }, {x, bias});
      expect_gradients([&] { return of(weight, {}, residual); }, {weight, residual});
    }
  }
}

TEST(TorchFused, OnlyWantedGradientsAreReturned) {
  const auto x = random({8, 5}, torch::kFloat32), residual = random({8, 5}, torch::kFloat32, 2);
  for (const auto& activation : all_activations) {
    for (const auto& leaf : {x, residual}) {
      BatchNorm1d layer(5);
      layer->activation = activation;
      for (auto& parameter : layer->parameters()) parameter.requires_grad_(false);
      x.requires_grad_(leaf.is_same(x));
      residual.requires_grad_(leaf.is_same(residual));
      torch::nn::BatchNorm1d theirs(5);
      const auto dy = random({8, 5}, torch::kFloat32, 3);
      const auto actual = torch::autograd::grad({layer->forward(x, residual)}, {leaf}, {dy});
      const auto expected =
          torch::autograd::grad({one_by_one(theirs, activation, x, residual)}, {leaf}, {dy});
      expect_close(actual[0], expected[0], tolerance(torch::kFloat32), "gradient");
    }
  }
}

// The shortcut of a block that starts with its normalization.
TEST(TorchFused, TheResidualMayBeXItself) {
  BatchNorm1d ours(5);
  torch::nn::BatchNorm1d theirs(5);
  ours->activation = Activation::relu;
  const auto x = random({8, 5}, torch::kFloat32).requires_grad_();
  const auto dy = random({8, 5}, torch::kFloat32, 3);
  const auto y = ours->forward(x, x), expected = one_by_one(theirs, Activation::relu, x, x);
  expect_close(y, expected, tolerance(torch::kFloat32), "output");
  expect_close(torch::autograd::grad({y}, {x}, {dy})[0],
               torch::autograd::grad({expected}, {x}, {dy})[0], tolerance(torch::kFloat32),
               "gradient");
}

TEST(TorchFused, AnEmptyBatchGivesAnEmptyOutputAndZeroGradients) {
  BatchNorm2d layer(3);
  layer->activation = Activation::relu;
  const auto x = torch::zeros({0, 3, 4, 4}).requires_grad_();
  const auto y = layer->forward(x, x.detach());
  EXPECT_EQ(y.sizes(), x.sizes());
  y.sum().backward();
  EXPECT_TRUE(torch::equal(layer->weight.grad(), torch::zeros({3})));
  EXPECT_TRUE(torch::equal(layer->bias.grad(), torch::zeros({3})));
}

}  // namespace
}  // namespace evenkeel::nn::testing
