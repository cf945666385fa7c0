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

TEST(Reference, StepsAroundByHand) {
  const double nan = std::nan("");
  expect_near(add({1, 2}, {3, -5}), {4, -3});
  const Values y = relu({2, 0, -3, nan});
  expect_near({y[0], y[1], y[2]}, {2, 0, 0});
  EXPECT_TRUE(std::isnan(y[3]));
  expect_near(relu_backward({5, 6, 7, 8}, y), {5, 0, 0, 8});
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
