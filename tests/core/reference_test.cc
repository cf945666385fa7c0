// The oracle against numbers worked out by hand.
#include "reference/reference.h"

#include <gtest/gtest.h>

#include <cmath>

namespace evenkeel::reference {
namespace {

// Sums and products of a handful of doubles of size 1: a few units of rounding.
constexpr double kTolerance = 1e-14;

void expect_near(const Values& actual, const Values& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], kTolerance);
}

TEST(Reference, IndexFollowsTheLayout) {
  EXPECT_EQ(index_of({2, 3, 4}, 1, 2, 3), 23u);
  EXPECT_EQ(index_of({2, 3, 4}, 0, 1, 2), 6u);
  EXPECT_EQ(index_of({2, 3, 4, Layout::channels_last}, 0, 1, 2), 7u);
}

TEST(Reference, StatisticsOfFourValues) {
  const Statistics s = statistics_of({1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(s.mean, 3);
  EXPECT_DOUBLE_EQ(s.variance, 3.5);  // (4 + 1 + 0 + 9) / 4
}

// Two samples of two features. Column 0 is {1, 3}: mean 2, variance 1; column 1 {2, 8}: 5 and 9.
// With eps 3: rstd 1/2 and 1/sqrt(12).
TEST(Reference, BatchNormByHand) {
  const Normalized r = batch_norm({2, 2}, {1, 2, 3, 8}, {2, 1}, {10, 0}, 3);
  const double b = 3 / std::sqrt(12.0);
  expect_near(r.mean, {2, 5});
  expect_near(r.variance, {1, 9});
  expect_near(r.y, {9, -b, 11, b});
}

TEST(Reference, BatchNormInferenceByHand) {
  expect_near(batch_norm_inference({1, 2}, {1, 2}, {}, {}, {0, 5}, {1, 6}, 3), {0.5, -1});
}

// Statistics that are given: mean 1, variance 1, eps 3, so rstd 1/2 and x^ = {0, 1}; weight 4.
TEST(Reference, BatchNormGivenBackwardByHand) {
  const Gradients g = batch_norm_given_backward({2, 1}, {5, 7}, {1, 3}, {4}, {1}, {1}, 3);
  expect_near(g.dx, {10, 14});
  expect_near(g.dweight, {7});
  expect_near(g.dbias, {12});
}

TEST(Reference, AddByHand) { expect_near(add({1, 2}, {3, -5}), {4, -3}); }

TEST(Reference, ClampsByHand) {
  const double nan = std::nan(""), infinity = HUGE_VAL;
  const Values v = {-infinity, -2, 0, 1, 5, 6, infinity};
  EXPECT_EQ(activate(v, Activation::none), v);
  EXPECT_EQ(activate(v, Activation::relu), (Values{0, 0, 0, 1, 5, 6, infinity}));
  EXPECT_EQ(activate(v, Activation::relu6), (Values{0, 0, 0, 1, 5, 6, 6}));
  EXPECT_EQ(activate(v, Activation::hardtanh(-2, 5)), (Values{-2, -2, 0, 1, 5, 5, 5}));
  EXPECT_TRUE(std::isnan(activate({nan}, Activation::relu6)[0]));
  const Values dy = {1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(activate_backward(dy, v, Activation::none), dy);
  EXPECT_EQ(activate_backward(dy, v, Activation::relu), (Values{0, 0, 0, 4, 5, 6, 7}));
  EXPECT_EQ(activate_backward(dy, v, Activation::relu6), (Values{0, 0, 0, 4, 5, 0, 0}));
  EXPECT_EQ(activate_backward(dy, v, Activation::hardtanh(-2, 5)), (Values{0, 0, 3, 4, 0, 0, 0}));
  EXPECT_EQ(activate_backward({8}, {nan}, Activation::relu), Values{8});
}

TEST(Reference, LeakyReluByHand) {
  const Values v = {-2, 0, 3};
  expect_near(activate(v, Activation::leaky_relu(0.5)), {-1, 0, 3});
  expect_near(activate_backward({1, 2, 4}, v, Activation::leaky_relu(0.5)), {0.5, 1, 4});
}

// sigmoid(ln 3) = 3/4 and sigmoid(-ln 3) = 1/4. The derivative s + v*s*(1 - s) is 1/2 at 0 and
// 3/4 + 3/16 * ln 3 at ln 3.
TEST(Reference, SiluByHand) {
  const double v = std::log(3.0);
  expect_near(activate({0, v, -v}, Activation::silu), {0, 0.75 * v, -0.25 * v});
  expect_near(activate_backward({4, 16}, {0, v}, Activation::silu), {2, 12 + 3 * v});
}

// v * (v + 3) / 6 between -3 and 3, with the derivative (2v + 3) / 6.
TEST(Reference, HardswishByHand) {
  const Values v = {-4, -3, -1, 0, 2, 3, 5};
  expect_near(activate(v, Activation::hardswish), {0, 0, -2.0 / 6, 0, 10.0 / 6, 3, 5});
  expect_near(activate_backward({1, 1, 6, 6, 6, 1, 1}, v, Activation::hardswish),
              {0, 0, 1, 3, 7, 1, 1});
}

// Row {1, 3}: mean 2, variance 1, with eps 3 rstd 1/2. Row {2, 8}: 5, 9, 1/sqrt(12).
TEST(Reference, LayerNormByHand) {
  const Normalized r = layer_norm({2, 2}, {1, 3, 2, 8}, {2, 4}, {0, 1}, 3);
  const double b = 3 / std::sqrt(12.0);
  expect_near(r.y, {-1, 3, -2 * b, 4 * b + 1});
}

// One channel {0, 2}, weight 1, eps 0: x^ = {-1, 1}, rstd 1. dy = {1, 0}: mean dy = 1/2,
// mean dy*x^ = -1/2, so dx = {1 - 1/2 - 1/2, 0 - 1/2 + 1/2} = {0, 0}: two values normalize to
// -1 and 1 whatever they are.
TEST(Reference, BatchNormBackwardByHand) {
  const Gradients g = batch_norm_backward({2, 1}, {1, 0}, {0, 2}, {}, 0);
  expect_near(g.dx, {0, 0});
  expect_near(g.dweight, {-1});
  expect_near(g.dbias, {1});
}

// The same channel with eps 3: rstd = 1/2, x^ = {-1/2, 1/2}; mean dy = 1/2, mean dy*x^ = -1/4;
// dx_0 = 1/2 * (1 - 1/2 - 1/8) = 3/16, dx_1 = 1/2 * (-1/2 + 1/8) = -3/16.
TEST(Reference, BatchNormBackwardWithEpsByHand) {
  expect_near(batch_norm_backward({2, 1}, {1, 0}, {0, 2}, {}, 3).dx, {3.0 / 16, -3.0 / 16});
}

// One sample of two groups of two channels. Group {1, 3} has mean 2 and variance 1, group {2, 8}
// mean 5 and variance 9; with eps 3 rstd is 1/2 and 1/sqrt(12). The weights belong to the channels.
TEST(Reference, GroupNormByHand) {
  const Normalized r = group_norm({1, 4}, 2, {1, 3, 2, 8}, {2, 4, 1, 2}, {0, 1, 0, 3}, 3);
  const double b = 3 / std::sqrt(12.0);
  expect_near(r.mean, {2, 5});
  expect_near(r.variance, {1, 9});
  expect_near(r.y, {-1, 3, -b, 2 * b + 3});
}

// Two samples of two channels at two positions, one group a channel: the instances {0, 2}, {5, 5},
// {1, 3} and {4, 8}, in the order of memory of either layout.
TEST(Reference, InstanceNormByHand) {
  const Values first = {0, 2, 5, 5, 1, 3, 4, 8}, last = {0, 5, 2, 5, 1, 4, 3, 8};
  const double b = 2 / std::sqrt(7.0);
  const Normalized r = group_norm({2, 2, 2}, 2, first, {2, 1}, {}, 3);
  expect_near(r.mean, {1, 5, 2, 6});
  expect_near(r.variance, {1, 0, 1, 4});
  expect_near(r.y, {-1, 1, 0, 0, -1, 1, -b, b});
  expect_near(group_norm({2, 2, 2, Layout::channels_last}, 2, last, {2, 1}, {}, 3).y,
              {-1, 0, 1, 0, -1, -b, 1, b});
}

// Two samples of one group of two channels, {0, 2} and {2, 0}; with eps 3 rstd = 1/2. With weights
// {2, 1} the first sample's g = dy * weight is {2, 0}: mean g = 1, x^ = {-1/2, 1/2}, mean g*x^ =
// -1/2, dx = {1/2 * (2 - 1 - 1/4), 1/2 * (-1 + 1/4)}. The second sample's g is {0, 3}: mean 3/2,
// x^ = {1/2, -1/2}, mean g*x^ = -3/4, dx = {1/2 * (-3/2 + 3/8), 1/2 * (3 - 3/2 - 3/8)}.
TEST(Reference, GroupNormBackwardByHand) {
  const Gradients g = group_norm_backward({2, 2}, 1, {1, 0, 0, 3}, {0, 2, 2, 0}, {2, 1}, 3);
  expect_near(g.dx, {3.0 / 8, -3.0 / 8, -9.0 / 16, 9.0 / 16});
  expect_near(g.dweight, {-1.0 / 2, -3.0 / 2});
  expect_near(g.dbias, {1, 3});
}

// Row {1, 7} has the mean square 25, row {2, 4} 10; with eps 0 and 6 rstd is 1/5 and 1/4.
TEST(Reference, RmsNormByHand) {
  expect_near(rms_norm({1, 2}, {1, 7}, {5, 10}, 0).y, {1, 14});
  const Normalized r = rms_norm({1, 2}, {2, 4}, {}, 6);
  expect_near(r.y, {0.5, 1});
  expect_near(r.rstd, {0.25});
}

// The same second row, x^ = {1/2, 1}, with g = {2, 6}: mean g*x^ = 7/2, so
// dx = 1/4 * {2 - 7/4, 6 - 7/2}.
TEST(Reference, RmsNormBackwardByHand) {
  const Gradients g = rms_norm_backward({1, 2}, {1, 2}, {2, 4}, {2, 3}, 6);
  expect_near(g.dx, {1.0 / 16, 5.0 / 8});
  expect_near(g.dweight, {1.0 / 2, 2});
  EXPECT_TRUE(g.dbias.empty());
}

// Three channels {1, 2, 3}, one behind, none ahead, alpha 1, beta 1, k 1: bases 2, 6, 14.
TEST(Reference, LocalResponseNormByHand) {
  const LocalResponseNormOptions options{1, 0, 1, 1, 1};
  expect_near(local_response_norm({1, 3}, {1, 2, 3}, options), {1.0 / 2, 2.0 / 6, 3.0 / 14});
  // dy = {0, 1, 0}: y_1 = x_1 / (1 + x_0^2 + x_1^2); dy_1/dx_0 = -2 x_0 x_1 / 36,
  // dy_1/dx_1 = 1/6 - 2 x_1^2 / 36.
  expect_near(local_response_norm_backward({1, 3}, {0, 1, 0}, {1, 2, 3}, options),
              {-4.0 / 36, 1.0 / 6 - 8.0 / 36, 0});
}

}  // namespace
}  // namespace evenkeel::reference
