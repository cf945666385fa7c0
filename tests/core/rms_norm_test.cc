// RMSNorm's forward and backward against the reference, with and without a residual.
#include "evenkeel/rms_norm.h"

#include <utility>

#include "tests/core/layer_norm_case.h"
#include "tests/core/rms_norm_case.h"

namespace evenkeel::testing {
namespace {

template <class T>
class RmsNorm : public ::testing::Test {};
TYPED_TEST_SUITE(RmsNorm, AllTypes, TypeName);

template <class T>
void expect_forward(const RmsNormCase<T>& c) {
  std::vector<T> y(c.x.size());
  std::vector<double> rstd(static_cast<std::size_t>(c.shape.n));
  RmsNormForward<T> args = c.forward(y);
  args.rstd = rstd;
  rms_norm_forward<T>(args, c.options);
  expect_close(
      y, c.expected.y, [&](std::size_t i) { return c.y_bound(i); }, "y");
  expect_close(
      rstd, c.expected.rstd, [&](std::size_t r) { return c.rstd_bound(r); }, "rstd");

  auto in_place = c.x;
  args = c.forward(in_place);
  args.x = args.y;
  rms_norm_forward<T>(args, c.options);
  expect_same(in_place, y, "y in place of x");
}

// The sum is x + residual rounded once, it is what is normalized, and it may replace either.
template <class T>
void expect_residual(const RmsNormCase<T>& c) {
  std::vector<T> y(c.x.size()), of_sum(c.x.size()), sum(c.x.size());
  rms_norm_forward<T>(c.forward(y), c.options);
  RmsNormForward<T> args = c.forward(of_sum);
  args.x = view(c.sum, c.shape);
  args.residual = {};
  rms_norm_forward<T>(args, c.options);
  expect_same(y, of_sum, "y of x and a residual, and of their sum");

  auto again = y;
  args = c.forward(again);
  args.sum = view(sum, c.shape);
  rms_norm_forward<T>(args, c.options);
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
    rms_norm_forward<T>(args, c.options);
    expect_same(sum_over_x ? x : residual, c.sum, "sum in place");
    expect_same(y_over_x ? x : y_over_residual ? residual : own_y, y, "y beside a sum in place");
  }
  auto over_residual = c.residual;
  args = c.forward(over_residual);
  args.residual = args.y;
  rms_norm_forward<T>(args, c.options);
  expect_same(over_residual, y, "y in place of the residual");
}

TYPED_TEST(RmsNorm, ForwardMatchesTheReference) {
  for (const auto& [samples, features] : layer_norm_sizes()) {
    SCOPED_TRACE(std::to_string(samples) + " x " + std::to_string(features));
    for (const RmsNormTraits& traits :
         {RmsNormTraits{.weight = false},
          {.weight = true},
          {.unit_offset = true},
          {.mean = large_mean<TypeParam>(), .unit_offset = true},
          {.weight = false, .unit_offset = true}}) {  // an absent weight is a factor of 1
      const RmsNormCase<TypeParam> c(samples, features, traits);
      for_each_target([&] { expect_forward(c); });
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TYPED_TEST(RmsNorm, ForwardOfASumMatchesTheReference) {
  for (const auto& [samples, features] : layer_norm_sizes()) {
    SCOPED_TRACE(std::to_string(samples) + " x " + std::to_string(features));
    const RmsNormCase<TypeParam> c(samples, features, {.unit_offset = true, .residual = true});
    for_each_target([&] {
      expect_forward(c);
      expect_residual(c);
    });
    if (::testing::Test::HasFailure()) return;
  }
}

template <class T>
void expect_backward(const RmsNormCase<T>& c) {
  std::vector<double> rstd(static_cast<std::size_t>(c.shape.n));
  std::vector<Wide<T>> dweight(static_cast<std::size_t>(c.features));
  std::vector<T> dx(c.x.size());
  RmsNormForward<T> forward = c.forward(dx);
  forward.rstd = rstd;
  rms_norm_forward<T>(forward, c.options);

  RmsNormBackward<T> args = c.backward(rstd);
  args.dx = view(dx, c.shape);
  args.dweight = dweight;
  rms_norm_backward<T>(args, c.options);
  expect_close(
      dx, c.gradients.dx, [&](std::size_t i) { return c.dx_bound(i); }, "dx");
  expect_close(
      dweight, c.gradients.dweight, [&](std::size_t j) { return c.dweight_bound(j); }, "dweight");

  auto in_place = c.dy;
  args.dy = view(std::as_const(in_place), c.shape);
  args.dx = view(in_place, c.shape);
  rms_norm_backward<T>(args, c.options);
  expect_same(in_place, dx, "dx in place of dy");
  if (!c.dsum.empty()) {
    in_place = c.dsum;
    args.dy = view(c.dy, c.shape);
    args.dsum = args.dx;
    rms_norm_backward<T>(args, c.options);
    expect_same(in_place, dx, "dx in place of dsum");
  }

  std::vector<Wide<T>> alone(dweight.size());
  args = c.backward(rstd);
  args.dweight = alone;
  rms_norm_backward<T>(args, c.options);
  EXPECT_EQ(alone, dweight);
  args.dweight = {};
  args.dx = view(in_place, c.shape);
  rms_norm_backward<T>(args, c.options);
  expect_same(in_place, dx, "dx alone");
}

TYPED_TEST(RmsNorm, BackwardMatchesTheReference) {
  for (const auto& [samples, features] : layer_norm_sizes()) {
    SCOPED_TRACE(std::to_string(samples) + " x " + std::to_string(features));
    for (const RmsNormTraits& traits :
         {RmsNormTraits{.mean = large_mean<TypeParam>(), .weight = false},
          {.weight = true},
          {.residual = true, .dsum = true},
          {.unit_offset = true, .dsum = true},
          {.weight = false, .unit_offset = true}}) {
      const RmsNormCase<TypeParam> c(samples, features, traits);
      for_each_target([&] { expect_backward(c); });
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// Bitwise, forward and dx: alone, or anywhere in any batch.
TYPED_TEST(RmsNorm, ASampleDoesNotDependOnItsBatch) {
  using T = TypeParam;
  for (const std::int64_t features : {1, 3, 17, 100, 200, 400, 5000}) {
    SCOPED_TRACE(features);
    const RmsNormCase<T> c(301, features, {.residual = true, .dsum = true});
    const Shape one{1, features};
    for_each_target([&] {
      std::vector<T> y(c.x.size()), dx(c.x.size());
      std::vector<double> rstd(301);
      RmsNormForward<T> forward = c.forward(y);
      forward.rstd = rstd;
      rms_norm_forward<T>(forward, c.options);
      RmsNormBackward<T> backward = c.backward(rstd);
      backward.dx = view(dx, c.shape);
      rms_norm_backward<T>(backward, c.options);
      for (const std::int64_t row : {0, 1, 150, 300}) {
        const auto at = row * features;
        std::vector<T> y1(static_cast<std::size_t>(features)), dx1(y1.size());
        std::vector<double> rstd1(1);
        rms_norm_forward<T>({.x = {c.x.data() + at, one},
                             .weight = c.weight,
                             .rstd = rstd1,
                             .residual = {c.residual.data() + at, one},
                             .y = view(y1, one)},
                            c.options);
        rms_norm_backward<T>({.dy = {c.dy.data() + at, one},
                              .x = {c.sum.data() + at, one},
                              .weight = c.weight,
                              .rstd = rstd1,
                              .dsum = {c.dsum.data() + at, one},
                              .dx = view(dx1, one)},
                             c.options);
        EXPECT_EQ(rstd1[0], rstd[static_cast<std::size_t>(row)]);
        EXPECT_TRUE(std::equal(y1.begin(), y1.end(), y.begin() + at));
        EXPECT_TRUE(std::equal(dx1.begin(), dx1.end(), dx.begin() + at));
      }
    });
  }
}

// Zeros have the mean square 0, and stay zeros; the gradient is that of a factor 1/sqrt(eps).
TYPED_TEST(RmsNorm, ZerosStayZeros) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t features : {1, 3, 100, 5000}) {
      const Shape shape{2, features};
      const std::vector<T> x(static_cast<std::size_t>(shape.size())),
          dy(x.size(), from_double<T>(0.5));
      std::vector<T> y(x.size(), from_double<T>(7)), dx(x.size());
      std::vector<double> rstd(2);
      rms_norm_forward<T>({.x = view(x, shape), .rstd = rstd, .y = view(y, shape)});
      rms_norm_backward<T>(
          {.dy = view(dy, shape), .x = view(x, shape), .rstd = rstd, .dx = view(dx, shape)});
      EXPECT_EQ(rstd[0], 1 / std::sqrt(1e-5));
      for (std::size_t i = 0; i < y.size(); ++i) {
        ASSERT_EQ(to_double(y[i]), 0) << i;
        ASSERT_EQ(to_double(dx[i]), to_double(from_double<T>(0.5 * static_cast<double>(rstd[0]))))
            << i;
      }
    }
  });
}

// The features of a sample are its C*S values, whatever the layout.
TYPED_TEST(RmsNorm, SpansChannelsAndPositions) {
  using T = TypeParam;
  const auto x = random_values<T>(2 * 3 * 5);
  std::vector<T> flat(30), y(30);
  rms_norm_forward<T>({.x = view(x, {2, 15}), .y = view(flat, {2, 15})});
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    const Shape shape{2, 3, 5, layout};
    rms_norm_forward<T>({.x = view(x, shape), .y = view(y, shape)});
    expect_same(y, flat, "y");
  }
}

// NaN spoils its sample. Infinity makes rstd 0, so that the sample's other values become 0, or NaN
// where the mean square is made of differences of infinities.
TYPED_TEST(RmsNorm, NonFiniteValuesStayInTheirSample) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t features : {33, 200, 400, 5000}) {
      SCOPED_TRACE(features);
      const Shape shape{40, features};
      const auto clean = random_values<T>(shape.size());
      const auto forward = [&](const std::vector<T>& x) {
        std::vector<T> y(x.size());
        rms_norm_forward<T>({.x = view(x, shape), .y = view(y, shape)});
        return y;
      };
      const auto expected = forward(clean);
      const auto first = static_cast<std::size_t>(5 * features), last = first + clean.size() / 40;
      for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
        auto x = clean;
        x[last - 1] = from_double<T>(bad);
        const auto y = forward(x);
        for (std::size_t i = 0; i < y.size(); ++i) {
          const double v = to_double(y[i]);
          if (i < first || i >= last) {
            ASSERT_EQ(y[i], expected[i]) << i;
          } else if (std::isnan(bad) || i == last - 1) {
            ASSERT_TRUE(std::isnan(v)) << i;
          } else {
            ASSERT_TRUE(std::isnan(v) || v == 0) << i << ": " << v;
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
