#include "evenkeel/layer_norm.h"

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
class LayerNorm : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LayerNorm, Types);

template <class T>
struct Case {
  Shape shape;
  std::int64_t features;
  double eps = 1e-5;
  std::vector<T> x, dy;
  std::vector<Stat<T>> weight, bias;
  reference::Normalized expected;
  std::vector<double> largest;  // |x^| of each row

  Case(std::int64_t samples, std::int64_t features_, double mean, bool with_weight, bool with_bias)
      : shape{samples, features_},
        features(features_),
        x(random_values<T>(shape.size(), mean, 2, 1)),
        dy(random_values<T>(shape.size(), 0.1, 1, 2)) {
    if (with_weight) weight = random_values<Stat<T>>(features, 1, 0.5, 3);
    if (with_bias) bias = random_values<Stat<T>>(features, 0, 0.5, 4);
    expected = reference::layer_norm(shape, to_double(x), to_double(weight), to_double(bias), eps);
    largest.resize(static_cast<std::size_t>(samples));
    for (std::size_t i = 0; i < x.size(); ++i) {
      largest[row(i)] = std::max(largest[row(i)], std::abs(x_hat(i)));
    }
  }

  StatisticsError<T> error(std::size_t r) const { return {features, largest[r]}; }

  std::size_t row(std::size_t i) const { return i / static_cast<std::size_t>(features); }
  std::size_t column(std::size_t i) const { return i % static_cast<std::size_t>(features); }
  double weight_of(std::size_t i) const {
    return weight.empty() ? 1 : static_cast<double>(weight[column(i)]);
  }
  double x_hat(std::size_t i) const {
    return (static_cast<double>(x[i]) - expected.mean[row(i)]) * expected.rstd[row(i)];
  }
};

// As in batch_norm_test.cc.
template <class T>
void expect_forward(const Case<T>& c, const std::vector<T>& y) {
  expect_close(
      y, c.expected.y,
      [&](std::size_t i) {
        const double x_hat = std::abs(c.x_hat(i)), weight = std::abs(c.weight_of(i));
        const double mean = std::abs(c.expected.mean[c.row(i)]) * c.expected.rstd[c.row(i)];
        return (c.error(c.row(i)).x_hat(x_hat) + 4 * unit<double>() * mean) * weight +
               5 * unit<T>() * (x_hat * weight + std::abs(c.expected.y[i]) + 1);
      },
      "y");
}

const std::vector<std::array<std::int64_t, 2>> kSizes = {
    {1, 1},  {3, 2},   {5, 7},    {4, 15},    {4, 16},   {4, 17},   {2, 63},    {2, 64},
    {2, 65}, {1, 768}, {37, 100}, {257, 129}, {3, 4095}, {2, 4097}, {5, 20011}, {300, 3}};

TYPED_TEST(LayerNorm, ForwardMatchesTheReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const auto& [samples, features] : kSizes) {
      for (const int options : {0, 1, 2, 3}) {
        for (const double mean : {0.3, 1e4, -1e6}) {
          SCOPED_TRACE(std::to_string(samples) + " x " + std::to_string(features));
          const Case<T> c(samples, features, mean, options & 1, options & 2);
          std::vector<T> y(c.x.size());
          std::vector<Stat<T>> saved_mean(static_cast<std::size_t>(samples)),
              rstd(saved_mean.size());
          layer_norm_forward<T>({.x = view(c.x, c.shape),
                                 .weight = c.weight,
                                 .bias = c.bias,
                                 .y = view(y, c.shape),
                                 .mean = saved_mean,
                                 .rstd = rstd},
                                c.eps);
          expect_forward(c, y);
          expect_close(
              saved_mean, c.expected.mean,
              [&](std::size_t r) {
                return c.error(r).mean() / c.expected.rstd[r] +
                       (unit<T>() + 4 * unit<double>()) * std::abs(c.expected.mean[r]);
              },
              "mean");
          expect_close(
              rstd, c.expected.rstd,
              [&](std::size_t r) { return (c.error(r).rstd() + unit<T>()) * c.expected.rstd[r]; },
              "rstd");
          auto in_place = c.x;
          layer_norm_forward<T>({.x = TensorView<const T>(in_place.data(), c.shape),
                                 .weight = c.weight,
                                 .bias = c.bias,
                                 .y = view(in_place, c.shape)},
                                c.eps);
          EXPECT_EQ(in_place, y);
          if (::testing::Test::HasFailure()) return;
        }
      }
    }
  });
}

TYPED_TEST(LayerNorm, BackwardMatchesTheReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const auto& [samples, features] : kSizes) {
      if (features == 1) continue;  // below: a single feature has no variance
      for (const bool weighted : {false, true}) {
        SCOPED_TRACE(std::to_string(samples) + " x " + std::to_string(features));
        const Case<T> c(samples, features, weighted ? 0.3 : 1e4, weighted, false);
        const auto expected = reference::layer_norm_backward(
            c.shape, to_double(c.dy), to_double(c.x), to_double(c.weight), c.eps);
        const auto rows = static_cast<std::size_t>(samples);
        const auto cols = static_cast<std::size_t>(features);
        std::vector<Stat<T>> mean(rows), rstd(rows), dweight(cols), dbias(cols);
        std::vector<T> y(c.x.size()), dx(c.x.size());
        layer_norm_forward<T>(
            {.x = view(c.x, c.shape), .y = view(y, c.shape), .mean = mean, .rstd = rstd}, c.eps);
        LayerNormBackward<T> args{.dy = view(c.dy, c.shape),
                                  .x = view(c.x, c.shape),
                                  .weight = c.weight,
                                  .mean = mean,
                                  .rstd = rstd,
                                  .dx = view(dx, c.shape),
                                  .dweight = dweight,
                                  .dbias = dbias};
        layer_norm_backward<T>(args);

        // The error of x^: rounding of the stored mean, and of the statistics.
        std::vector<double> x_error(rows), sum(rows), sum_x(rows);
        std::vector<double> column_sum(cols), column_sum_x(cols), column_error(cols);
        for (std::size_t i = 0; i < c.x.size(); ++i) {
          const double g = std::abs(static_cast<double>(c.dy[i]) * c.weight_of(i));
          sum[c.row(i)] += g;
          sum_x[c.row(i)] += g * std::abs(c.x_hat(i));
        }
        for (std::size_t r = 0; r < rows; ++r) {
          x_error[r] =
              (unit<T>() + 4 * unit<double>()) * std::abs(c.expected.mean[r]) * c.expected.rstd[r] +
              c.error(r).x_hat(c.largest[r]);
        }
        for (std::size_t i = 0; i < c.x.size(); ++i) {
          const double dy = std::abs(static_cast<double>(c.dy[i]));
          column_sum[c.column(i)] += dy;
          column_sum_x[c.column(i)] += dy * std::abs(c.x_hat(i));
          column_error[c.column(i)] += dy * x_error[c.row(i)];
        }
        expect_close(
            dx, expected.dx,
            [&](std::size_t i) {
              const std::size_t r = c.row(i);
              const double n = static_cast<double>(features), x_hat = std::abs(c.x_hat(i));
              const double g = std::abs(static_cast<double>(c.dy[i]) * c.weight_of(i));
              return c.expected.rstd[r] *
                     c.error(r).dx(g, sum[r] / n, x_hat, sum_x[r] / n, x_error[r]);
            },
            "dx");
        // Up to 256 rows are added in T, one after the other.
        const double chain =
            (static_cast<double>(std::min<std::int64_t>(samples, 256)) + 2) * unit<T>();
        expect_close(
            dbias, expected.dbias, [&](std::size_t j) { return chain * column_sum[j]; }, "dbias");
        expect_close(
            dweight, expected.dweight,
            [&](std::size_t j) { return (chain + unit<T>()) * column_sum_x[j] + column_error[j]; },
            "dweight");

        auto in_place = c.dy;
        args.dy = TensorView<const T>(in_place.data(), c.shape);
        args.dx = view(in_place, c.shape);
        layer_norm_backward<T>(args);
        EXPECT_EQ(in_place, dx);

        std::vector<Stat<T>> alone(cols);
        args.dy = view(c.dy, c.shape);
        args.dx = {};
        args.dweight = {};
        args.dbias = alone;
        layer_norm_backward<T>(args);
        EXPECT_EQ(alone, dbias);
        if (::testing::Test::HasFailure()) return;
      }
    }
  });
}

// One feature, or equal features: x^ is 0, y is the bias and no gradient reaches x.
TEST(LayerNorm, NoVarianceGivesBias) {
  for_each_target([] {
    const std::vector<float> x = {7, 7, 7, -1e6f, -1e6f, -1e6f}, bias = {1, 2, 3};
    std::vector<float> y(6);
    layer_norm_forward<float>({.x = view(x, {2, 3}), .bias = bias, .y = view(y, {2, 3})});
    EXPECT_EQ(y, (std::vector<float>{1, 2, 3, 1, 2, 3}));
  });
}

// The features of a sample are its C*S values, whatever the layout.
TEST(LayerNorm, SpansChannelsAndPositions) {
  const auto x = random_values<float>(2 * 3 * 5);
  std::vector<float> flat(30), y(30);
  layer_norm_forward<float>({.x = view(x, {2, 15}), .y = view(flat, {2, 15})});
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    const Shape shape{2, 3, 5, layout};
    layer_norm_forward<float>({.x = view(x, shape), .y = view(y, shape)});
    EXPECT_EQ(y, flat);
  }
}

TEST(LayerNorm, NonFiniteValuesStayInTheirSample) {
  for_each_target([] {
    const Shape shape{40, 33};
    auto x = random_values<float>(shape.size());
    std::vector<float> expected(x.size()), y(x.size());
    layer_norm_forward<float>({.x = view(x, shape), .y = view(expected, shape)});
    for (const float bad : {std::nanf(""), -HUGE_VALF}) {
      x[5 * 33 + 32] = bad;
      layer_norm_forward<float>({.x = view(x, shape), .y = view(y, shape)});
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (i / 33 == 5) {
          EXPECT_TRUE(std::isnan(y[i]));
        } else {
          EXPECT_EQ(y[i], expected[i]);
        }
      }
    }
  });
}

// Bitwise, forward and dx: alone, or anywhere in any batch.
TEST(LayerNorm, ASampleDoesNotDependOnItsBatch) {
  for_each_target([] {
    for (const std::int64_t features : {1, 17, 100, 5000}) {
      const Shape batch{301, features}, one{1, features};
      const auto x = random_values<float>(batch.size());
      const auto dy = random_values<float>(batch.size(), 0, 1, 2);
      std::vector<float> y(x.size()), dx(x.size()), mean(301), rstd(301);
      layer_norm_forward<float>(
          {.x = view(x, batch), .y = view(y, batch), .mean = mean, .rstd = rstd});
      layer_norm_backward<float>({.dy = view(dy, batch),
                                  .x = view(x, batch),
                                  .mean = mean,
                                  .rstd = rstd,
                                  .dx = view(dx, batch)});
      for (const std::int64_t row : {0, 1, 150, 300}) {
        const auto at = row * features;
        const auto size = static_cast<std::size_t>(features);
        std::vector<float> y1(size), dx1(size), mean1(1), rstd1(1);
        layer_norm_forward<float>(
            {.x = {x.data() + at, one}, .y = view(y1, one), .mean = mean1, .rstd = rstd1});
        layer_norm_backward<float>({.dy = {dy.data() + at, one},
                                    .x = {x.data() + at, one},
                                    .mean = mean1,
                                    .rstd = rstd1,
                                    .dx = view(dx1, one)});
        EXPECT_TRUE(std::equal(y1.begin(), y1.end(), y.begin() + at));
        EXPECT_TRUE(std::equal(dx1.begin(), dx1.end(), dx.begin() + at));
      }
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
