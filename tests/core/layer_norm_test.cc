// LayerNorm's forward and backward against the reference, with and without a residual.
#include "evenkeel/layer_norm.h"

#include <utility>

#include "tests/core/layer_norm_case.h"

namespace evenkeel::testing {
namespace {

template <class T>
class LayerNorm : public ::testing::Test {};
TYPED_TEST_SUITE(LayerNorm, AllTypes, TypeName);

template <class T>
void expect_forward(const LayerNormCase<T>& c) {
  std::vector<T> y(c.x.size());
  std::vector<double> mean(static_cast<std::size_t>(c.shape.n)), rstd(mean.size());
  LayerNormForward<T> args = c.forward(y);
  args.mean = mean;
  args.rstd = rstd;
  layer_norm_forward<T>(args, {.eps = c.eps});
  expect_close(
      y, c.expected.y, [&](std::size_t i) { return c.y_bound(i); }, "y");
  expect_close(
      mean, c.expected.mean, [&](std::size_t r) { return c.mean_bound(r); }, "mean");
  expect_close(
      rstd, c.expected.rstd, [&](std::size_t r) { return c.rstd_bound(r); }, "rstd");

  auto in_place = c.x;
  args = c.forward(in_place);
  args.x = args.y;
  layer_norm_forward<T>(args, {.eps = c.eps});
  expect_same(in_place, y, "y in place of x");
}

// The sum is x + residual rounded once, it is what is normalized, and it may replace either.
template <class T>
void expect_residual(const LayerNormCase<T>& c) {
  std::vector<T> y(c.x.size()), of_sum(c.x.size()), sum(c.x.size());
  layer_norm_forward<T>(c.forward(y), {.eps = c.eps});
  LayerNormForward<T> args = c.forward(of_sum);
  args.x = view(c.sum, c.shape);
  args.residual = {};
  layer_norm_forward<T>(args, {.eps = c.eps});
  expect_same(y, of_sum, "y of x and a residual, and of their sum");

  auto again = y;
  args = c.forward(again);
  args.sum = view(sum, c.shape);
  layer_norm_forward<T>(args, {.eps = c.eps});
  expect_same(sum, c.sum, "sum");
  expect_same(again, y, "y beside the sum");
  // Which of x and the residual the sum replaces, and which the y.
  for (const auto& [sum_over_x, y_over_x, y_over_residual] :
       {std::array{true, false, false}, std::array{false, false, false},
        std::array{true, false, true}, std::array{false, true, false}}) {
    auto x = c.x, residual = c.residual;
    std::vector<T> own_y(x.size());
    args = c.forward(y_over_x ? x : y_over_residual ? residual : own_y);
    args.x = view(std::as_const(x), c.shape);
    args.residual = view(std::as_const(residual), c.shape);
    args.sum = view(sum_over_x ? x : residual, c.shape);
    layer_norm_forward<T>(args, {.eps = c.eps});
    expect_same(sum_over_x ? x : residual, c.sum, "sum in place");
    expect_same(y_over_x ? x : y_over_residual ? residual : own_y, y, "y beside a sum in place");
  }
  auto over_residual = c.residual;
  args = c.forward(over_residual);
  args.residual = args.y;
  layer_norm_forward<T>(args, {.eps = c.eps});
  expect_same(over_residual, y, "y in place of the residual");
}

TYPED_TEST(LayerNorm, ForwardMatchesTheReference) {
  using T = TypeParam;
  for (const auto& [samples, features] : layer_norm_sizes()) {
    SCOPED_TRACE(std::to_string(samples) + " x " + std::to_string(features));
    for (const int options : {0, 1, 2, 3}) {
      for (const double mean : {0.3, 1e4, -1e6}) {
        if (kIs16Bit<T> && mean != 0.3 && options != 3) continue;
        const double offset = !kIs16Bit<T> || mean == 0.3   ? mean
                              : std::is_same_v<T, BFloat16> ? 40
                                                            : 600;
        const LayerNormCase<T> c(
            samples, features,
            {.mean = offset, .weight = (options & 1) != 0, .bias = (options & 2) != 0});
        for_each_target([&] { expect_forward(c); });
        if (::testing::Test::HasFailure()) return;
      }
    }
  }
}

TYPED_TEST(LayerNorm, ForwardOfASumMatchesTheReference) {
  for (const auto& [samples, features] : layer_norm_sizes()) {
    SCOPED_TRACE(std::to_string(samples) + " x " + std::to_string(features));
    const LayerNormCase<TypeParam> c(samples, features, {.residual = true});
    for_each_target([&] {
      expect_forward(c);
      expect_residual(c);
    });
    if (::testing::Test::HasFailure()) return;
  }
}

template <class T>
void expect_backward(const LayerNormCase<T>& c) {
  const auto rows = static_cast<std::size_t>(c.shape.n),
             columns = static_cast<std::size_t>(c.features);
  std::vector<double> mean(rows), rstd(rows);
  std::vector<Wide<T>> dweight(columns), dbias(columns);
  std::vector<T> dx(c.x.size());
  LayerNormForward<T> forward = c.forward(dx);
  forward.mean = mean;
  forward.rstd = rstd;
  layer_norm_forward<T>(forward, {.eps = c.eps});

  LayerNormBackward<T> args = c.backward(mean, rstd);
  args.dx = view(dx, c.shape);
  args.dweight = dweight;
  args.dbias = dbias;
  layer_norm_backward<T>(args);
  expect_close(
      dx, c.gradients.dx, [&](std::size_t i) { return c.dx_bound(i); }, "dx");
  expect_close(
      dbias, c.gradients.dbias, [&](std::size_t j) { return c.dbias_bound(j); }, "dbias");
  expect_close(
      dweight, c.gradients.dweight, [&](std::size_t j) { return c.dweight_bound(j); }, "dweight");

  auto in_place = c.dy;
  args.dy = view(std::as_const(in_place), c.shape);
  args.dx = view(in_place, c.shape);
  layer_norm_backward<T>(args);
  expect_same(in_place, dx, "dx in place of dy");
  if (!c.dsum.empty()) {
    in_place = c.dsum;
    args.dy = view(c.dy, c.shape);
    args.dsum = args.dx;
    layer_norm_backward<T>(args);
    expect_same(in_place, dx, "dx in place of dsum");
  }

  std::vector<Wide<T>> alone(columns);
  args = c.backward(mean, rstd);
  args.dbias = alone;
  layer_norm_backward<T>(args);
  EXPECT_EQ(alone, dbias);
  args.dbias = {};
  args.dweight = alone;
  layer_norm_backward<T>(args);
  EXPECT_EQ(alone, dweight);
  args.dweight = {};
  args.dx = view(in_place, c.shape);
  layer_norm_backward<T>(args);
  expect_same(in_place, dx, "dx alone");
}

TYPED_TEST(LayerNorm, BackwardMatchesTheReference) {
  using T = TypeParam;
  for (const auto& [samples, features] : layer_norm_sizes()) {
    if (features == 1) continue;  // layer_norm_values_test.cc: a single feature has no variance
    SCOPED_TRACE(std::to_string(samples) + " x " + std::to_string(features));
    const double offset = !kIs16Bit<T> ? 1e4 : std::is_same_v<T, BFloat16> ? 40 : 600;
    for (const LayerNormTraits& traits :
         {LayerNormTraits{.mean = offset, .weight = false, .bias = false},
          {.bias = false},
          {.residual = true, .dsum = true},
          {.weight = false, .dsum = true}}) {
      const LayerNormCase<T> c(samples, features, traits);
      for_each_target([&] { expect_backward(c); });
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// Bitwise, forward and dx: alone, or anywhere in any batch. The longest rows are cut if they are
// few, and are taken whole in the batch.
TYPED_TEST(LayerNorm, ASampleDoesNotDependOnItsBatch) {
  using T = TypeParam;
  for (const std::int64_t features : {1, 3, 17, 100, 200, 400, 5000, 16500}) {
    const std::int64_t samples = features > 5000 ? 65 : 301;
    const LayerNormCase<T> c(samples, features, {.residual = true, .dsum = true});
    const Shape one{1, features};
    for_each_target([&] {
      std::vector<T> y(c.x.size()), dx(c.x.size());
      std::vector<double> mean(static_cast<std::size_t>(samples)), rstd(mean.size());
      LayerNormForward<T> forward = c.forward(y);
      forward.mean = mean;
      forward.rstd = rstd;
      layer_norm_forward<T>(forward);
      LayerNormBackward<T> backward = c.backward(mean, rstd);
      backward.dx = view(dx, c.shape);
      layer_norm_backward<T>(backward);
      for (const std::int64_t row : {std::int64_t{0}, std::int64_t{1}, samples / 2, samples - 1}) {
        const auto at = row * features;
        std::vector<T> y1(static_cast<std::size_t>(features)), dx1(y1.size()), sum1(y1.size());
        std::vector<double> mean1(1), rstd1(1);
        layer_norm_forward<T>({.x = {c.x.data() + at, one},
                               .weight = c.weight,
                               .bias = c.bias,
                               .mean = mean1,
                               .rstd = rstd1,
                               .residual = {c.residual.data() + at, one},
                               .sum = view(sum1, one),
                               .y = view(y1, one)});
        layer_norm_backward<T>({.dy = {c.dy.data() + at, one},
                                .x = {c.sum.data() + at, one},
                                .weight = c.weight,
                                .mean = mean1,
                                .rstd = rstd1,
                                .dsum = {c.dsum.data() + at, one},
                                .dx = view(dx1, one)});
        EXPECT_EQ(mean1[0], mean[static_cast<std::size_t>(row)]);
        EXPECT_EQ(rstd1[0], rstd[static_cast<std::size_t>(row)]);
        EXPECT_TRUE(std::equal(y1.begin(), y1.end(), y.begin() + at));
        EXPECT_TRUE(std::equal(dx1.begin(), dx1.end(), dx.begin() + at));
      }
    });
  }
}

}  // namespace
}  // namespace evenkeel::testing
