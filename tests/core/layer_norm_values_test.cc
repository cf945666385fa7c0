// LayerNorm on values that break careless code, and its view of a sample.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
class LayerNormValues : public ::testing::Test {};
TYPED_TEST_SUITE(LayerNormValues, AllTypes, TypeName);

// One feature, or equal features: x^ is 0, y is the bias and no gradient reaches x.
TYPED_TEST(LayerNormValues, NoVarianceGivesBias) {
  using T = TypeParam;
  for_each_target([] {
    for (const std::int64_t features : {1, 3, 100, 5000}) {
      const Shape shape{2, features};
      std::vector<T> x(static_cast<std::size_t>(shape.size()), from_double<T>(7)), y(x.size());
      std::fill(x.begin() + features, x.end(), from_double<T>(-30003));
      const auto bias = random_values<Wide<T>>(features);
      layer_norm_forward<T>({.x = view(x, shape), .bias = bias, .y = view(y, shape)});
      for (std::size_t i = 0; i < y.size(); ++i) {
        const auto b = static_cast<double>(bias[i % bias.size()]);
        ASSERT_EQ(to_double(y[i]), to_double(from_double<T>(b)));
      }
    }
  });
}

// An empty span is an absent argument wherever it points, such as a cleared vector's.
TYPED_TEST(LayerNormValues, EmptySpansAreAbsent) {
  using T = TypeParam;
  const Shape shape{20, 33};
  const auto x = random_values<T>(shape.size()), dy = random_values<T>(shape.size(), 0, 1, 2);
  std::vector<T> expected(x.size()), y(x.size()), expected_dx(x.size()), dx(x.size());
  std::vector<double> mean(20), rstd(20);
  layer_norm_forward<T>(
      {.x = view(x, shape), .mean = mean, .rstd = rstd, .y = view(expected, shape)});
  layer_norm_backward<T>({.dy = view(dy, shape),
                          .x = view(x, shape),
                          .mean = mean,
                          .rstd = rstd,
                          .dx = view(expected_dx, shape)});

  std::vector<Wide<T>> untouched(40, Wide<T>{3});
  const auto none = std::span(untouched).subspan(20, 0);
  std::vector<double> statistics(40, 3);
  const auto no_statistics = std::span(statistics).subspan(20, 0);
  layer_norm_forward<T>({.x = view(x, shape),
                         .weight = none,
                         .bias = none,
                         .mean = no_statistics,
                         .rstd = no_statistics,
                         .y = view(y, shape)});
  layer_norm_backward<T>({.dy = view(dy, shape),
                          .x = view(x, shape),
                          .weight = none,
                          .mean = mean,
                          .rstd = rstd,
                          .dx = view(dx, shape),
                          .dweight = none,
                          .dbias = none});
  expect_same(y, expected, "y");
  expect_same(dx, expected_dx, "dx");
  EXPECT_EQ(untouched, std::vector<Wide<T>>(40, Wide<T>{3}));
  EXPECT_EQ(statistics, std::vector<double>(40, 3));
}

// The features of a sample are its C*S values, whatever the layout.
TYPED_TEST(LayerNormValues, SpansChannelsAndPositions) {
  using T = TypeParam;
  const auto x = random_values<T>(2 * 3 * 5);
  std::vector<T> flat(30), y(30);
  layer_norm_forward<T>({.x = view(x, {2, 15}), .y = view(flat, {2, 15})});
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    const Shape shape{2, 3, 5, layout};
    layer_norm_forward<T>({.x = view(x, shape), .y = view(y, shape)});
    expect_same(y, flat, "y");
  }
}

// Whether row `row` of y is NaN and all others are as expected.
template <class T>
void expect_only_row_is_nan(const std::vector<T>& y, const std::vector<T>& expected,
                            std::size_t row, std::int64_t features) {
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (i / static_cast<std::size_t>(features) == row) {
      EXPECT_TRUE(std::isnan(to_double(y[i]))) << i;
    } else {
      EXPECT_EQ(y[i], expected[i]) << i;
    }
  }
}

TYPED_TEST(LayerNormValues, NonFiniteValuesStayInTheirSample) {
  using T = TypeParam;
  const auto expect_for = [](std::int64_t features) {
    SCOPED_TRACE(std::to_string(features) + " features");
    const Shape shape{40, features};
    const auto at = static_cast<std::size_t>(6 * features - 1);
    const auto clean = random_values<T>(shape.size());
    std::vector<double> mean(40), rstd(40), bad_mean(40), bad_rstd(40);
    std::vector<T> expected(clean.size()), y(clean.size()), expected_dx(y.size()), dx(y.size());
    layer_norm_forward<T>({.x = view(clean, shape),
                           .mean = mean,
                           .rstd = rstd,
                           .residual = view(clean, shape),
                           .y = view(expected, shape)});
    layer_norm_backward<T>({.dy = view(clean, shape),
                            .x = view(clean, shape),
                            .mean = mean,
                            .rstd = rstd,
                            .dx = view(expected_dx, shape)});
    for (const double bad : {std::nan(""), -HUGE_VAL}) {
      auto spoilt = clean;
      spoilt[at] = from_double<T>(bad);
      for (const bool in_residual : {false, true}) {
        layer_norm_forward<T>({.x = view(in_residual ? clean : spoilt, shape),
                               .mean = bad_mean,
                               .rstd = bad_rstd,
                               .residual = view(in_residual ? spoilt : clean, shape),
                               .y = view(y, shape)});
        expect_only_row_is_nan(y, expected, 5, features);
        // An infinite value has an infinite mean or none, but never a large one.
        EXPECT_FALSE(std::isfinite(static_cast<double>(bad_mean[5])));
        EXPECT_TRUE(std::isnan(static_cast<double>(bad_rstd[5])));
      }
      for (const bool in_dy : {false, true}) {
        layer_norm_backward<T>({.dy = view(in_dy ? spoilt : clean, shape),
                                .x = view(in_dy ? clean : spoilt, shape),
                                .mean = mean,
                                .rstd = rstd,
                                .dx = view(dx, shape)});
        // Where x or dy is infinite dx is, with a sign or as NaN; everywhere else in the row NaN or
        // infinite, through the means.
        for (std::size_t i = 0; i < dx.size(); ++i) {
          if (i / static_cast<std::size_t>(features) == 5) {
            EXPECT_FALSE(std::isfinite(to_double(dx[i]))) << i;
          } else {
            EXPECT_EQ(dx[i], expected_dx[i]) << i;
          }
        }
      }
    }
  };
  for_each_target([&] {
    for (const std::int64_t features : {33, 200, 400}) expect_for(features);
  });
}

}  // namespace
}  // namespace evenkeel::testing
