// What the tests of the bridge share: inputs in every arrangement of memory, and comparisons.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>
#include <string>
#include <vector>

#include "evenkeel/activation.h"

namespace evenkeel::nn::testing {

enum class Arrangement {
  contiguous,
  channels_last,  // dense, channels innermost; the same as contiguous for two dimensions
  strided,        // every second value of a larger tensor: not dense in any order
};
inline constexpr Arrangement all_arrangements[] = {
    Arrangement::contiguous, Arrangement::channels_last, Arrangement::strided};
std::string name_of(Arrangement arrangement);

// The values of x, a leaf, in another arrangement.
torch::Tensor arranged(const torch::Tensor& x, Arrangement arrangement);

// Normal values of mean 1/2 and deviation 2, the same for every call with one seed.
torch::Tensor random(torch::IntArrayRef sizes, torch::ScalarType dtype, std::uint64_t seed = 1);

// Gives every parameter of the module values of random().
void randomize_parameters(torch::nn::Module& module);

// Every activation, with bounds and a slope that are not the defaults where there are some.
inline constexpr Activation all_activations[] = {
    Activation::none,
    Activation::relu,
    Activation::relu6,
    Activation::hardtanh(-0.75, 1.5),
    Activation::leaky_relu(0.2),
    Activation::silu,
    Activation::hardswish,
};
std::string name_of(const Activation& activation);
// By torch's own operations.
torch::Tensor activated(const torch::Tensor& x, const Activation& activation);

// The relative error allowed between two correct computations of one quantity in one precision:
// sums of K <= 1000 values, which the other side may accumulate one after another in the element
// type, err by about sqrt(K) * ulp / 2 (1.9e-6 in float, 3.5e-15 in double); five times that. In 16
// bits the elements are computed in float and rounded once: half an ulp more, 2^-8 or 2^-11.
double tolerance(torch::ScalarType dtype);

// Same shape and type, and no element further off than `tolerance` times the largest expected
// magnitude, at least 1. Both undefined is equal too.
void expect_close(const torch::Tensor& actual, const torch::Tensor& expected, double tolerance,
                  const std::string& what);

// The derivatives of sum(f() * seed) by the values of x (float64), central differences. With
// h = 1e-5 the rounding error is ulp * |f| / h = 1e-10 for sums of order 10, and the truncation
// h^2 / 6 * f''' is 1e-9 for third derivatives of order 100: compare with 1e-7.
torch::Tensor finite_differences(const std::function<torch::Tensor()>& f, const torch::Tensor& x,
                                 const torch::Tensor& seed);
inline constexpr double finite_difference_tolerance = 1e-7;

// Checks the gradients of f() with respect to each of `leaves` against finite differences.
void expect_gradients(const std::function<torch::Tensor()>& f,
                      const std::vector<torch::Tensor>& leaves);

// Expects an evenkeel::Error whose message holds every part.
void expect_error(const std::function<void()>& f, const std::vector<std::string>& parts);

// Runs both modules on the same values and expects equal outputs, gradients (input and parameters)
// and buffers. Ours gets x in the arrangement; torch's gets it contiguous. Expects that ours keeps
// a dense input's strides in output and gradient if `keeps_strides`.
template <class Ours, class Theirs>
void expect_same_step(Ours& ours, Theirs& theirs, const torch::Tensor& x, Arrangement arrangement,
                      bool keeps_strides = true) {
  const auto x_ours = arranged(x, arrangement).requires_grad_();
  const auto x_theirs = x.clone().requires_grad_();
  const auto y_ours = ours->forward(x_ours);
  const auto y_theirs = theirs->forward(x_theirs);
  const double allowed = tolerance(x.scalar_type());
  expect_close(y_ours, y_theirs, allowed, "output");

  const auto dy = random(x.sizes(), x.scalar_type(), 99);
  const auto gradients_of = [&](auto& module, const auto& y, const auto& input) {
    std::vector<torch::Tensor> leaves = {input};
    for (const auto& parameter : module->parameters()) leaves.push_back(parameter);
    return torch::autograd::grad({y}, leaves, {dy});
  };
  const auto d_ours = gradients_of(ours, y_ours, x_ours);
  const auto d_theirs = gradients_of(theirs, y_theirs, x_theirs);
  ASSERT_EQ(d_ours.size(), d_theirs.size());
  for (std::size_t i = 0; i < d_ours.size(); ++i) {
    expect_close(d_ours[i], d_theirs[i], allowed, "gradient " + std::to_string(i));
  }
  if (keeps_strides && arrangement != Arrangement::strided) {
    EXPECT_EQ(y_ours.strides(), x_ours.strides());
    EXPECT_EQ(d_ours[0].strides(), x_ours.strides());
  }
  const auto b_ours = ours->named_buffers(), b_theirs = theirs->named_buffers();
  ASSERT_EQ(b_ours.keys(), b_theirs.keys());
  for (const auto& buffer : b_theirs) {
    expect_close(b_ours[buffer.key()], buffer.value(), allowed, buffer.key());
  }
}

}  // namespace evenkeel::nn::testing
