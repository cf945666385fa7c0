#include "evenkeel/batch_norm.h"

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
class BatchNorm : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(BatchNorm, Types);

// One batch: data, parameters and what the reference makes of them.
template <class T>
struct Case {
  Shape shape;
  double eps = 1e-5;
  std::vector<T> x, dy;
  std::vector<Stat<T>> weight, bias;
  reference::Normalized expected;
  std::vector<double> largest;  // |x^| of each channel

  Case(const Shape& shape_, double mean, double std, bool with_weight, bool with_bias)
      : shape(shape_),
        x(random_values<T>(shape.size(), mean, std, 1)),
        dy(random_values<T>(shape.size(), 0.1, 1, 2)) {
    if (with_weight) weight = random_values<Stat<T>>(shape.c, 1, 0.5, 3);
    if (with_bias) bias = random_values<Stat<T>>(shape.c, 0, 0.5, 4);
    expected = reference::batch_norm(shape, to_double(x), to_double(weight), to_double(bias), eps);
    largest.resize(static_cast<std::size_t>(shape.c));
    for (std::size_t i = 0; i < x.size(); ++i) {
      largest[channel(i)] = std::max(largest[channel(i)], std::abs(x_hat(i)));
    }
  }

  StatisticsError<T> error(std::size_t c) const { return {shape.per_channel(), largest[c]}; }

  std::size_t channel(std::size_t i) const {
    const auto at = static_cast<std::int64_t>(i);
    return static_cast<std::size_t>(shape.layout == Layout::channels_first ? at / shape.s % shape.c
                                                                           : at % shape.c);
  }
  double weight_of(std::size_t c) const {
    return weight.empty() ? 1 : static_cast<double>(weight[c]);
  }
  double x_hat(std::size_t i) const {
    const std::size_t c = channel(i);
    return (static_cast<double>(x[i]) - expected.mean[c]) * expected.rstd[c];
  }
};

// x^ is as good as the statistics; the roundings of the three operations, of the coefficients and
// of the merged mean (in double) come on top.
template <class T>
void expect_forward(const Case<T>& c, const std::vector<T>& y) {
  expect_close(
      y, c.expected.y,
      [&](std::size_t i) {
        const std::size_t channel = c.channel(i);
        const double x_hat = std::abs(c.x_hat(i)), weight = std::abs(c.weight_of(channel));
        return c.error(channel).x_hat(x_hat) * weight +
               4 * unit<T>() * (x_hat * weight + std::abs(c.expected.y[i]) + 1) +
               4 * unit<double>() * std::abs(c.expected.mean[channel]) * c.expected.rstd[channel] *
                   weight;
      },
      "y");
}

TYPED_TEST(BatchNorm, ForwardMatchesTheReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const Shape& shape : test_shapes()) {
      if (shape.per_channel() == 1) continue;
      SCOPED_TRACE(name_of(shape));
      for (const int options : {0, 1, 2, 3}) {
        const Case<T> c(shape, 0.3, 2, options & 1, options & 2);
        std::vector<T> y(c.x.size());
        std::vector<Stat<T>> mean(static_cast<std::size_t>(shape.c)), rstd(mean.size());
        batch_norm_forward<T>({.x = view(c.x, shape),
                               .weight = c.weight,
                               .bias = c.bias,
                               .y = view(y, shape),
                               .mean = mean,
                               .rstd = rstd});
        expect_forward(c, y);
        expect_close(
            mean, c.expected.mean,
            [&](std::size_t i) {
              return c.error(i).mean() / c.expected.rstd[i] +
                     unit<T>() * std::abs(c.expected.mean[i]);
            },
            "mean");
        expect_close(
            rstd, c.expected.rstd,
            [&](std::size_t i) { return (c.error(i).rstd() + unit<T>()) * c.expected.rstd[i]; },
            "rstd");

        auto in_place = c.x;
        batch_norm_forward<T>({.x = TensorView<const T>(in_place.data(), shape),
                               .weight = c.weight,
                               .bias = c.bias,
                               .y = view(in_place, shape)});
        EXPECT_EQ(in_place, y);
        if (::testing::Test::HasFailure()) return;
      }
    }
  });
}

// x - center is exact near a large mean, so an offset costs nothing.
TYPED_TEST(BatchNorm, ForwardKeepsItsAccuracyAtLargeMeans) {
  using T = TypeParam;
  for_each_target([] {
    for (const double mean : {1e4, 1e6, -1e6}) {
      for (const double std : {1.0, 30.0}) {
        for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
          const Shape shape{8, 5, 131, layout};
          const Case<T> c(shape, mean, std, true, true);
          std::vector<T> y(c.x.size());
          batch_norm_forward<T>(
              {.x = view(c.x, shape), .weight = c.weight, .bias = c.bias, .y = view(y, shape)});
          SCOPED_TRACE(mean);
          expect_forward(c, y);
        }
      }
    }
  });
}

TYPED_TEST(BatchNorm, BackwardMatchesTheReference) {
  using T = TypeParam;
  for_each_target([] {
    for (const Shape& shape : test_shapes()) {
      if (shape.per_channel() == 1) continue;
      SCOPED_TRACE(name_of(shape));
      for (const double mean : {0.3, 1e4}) {
        // The std of 2 makes rstd 1/2; two equal values in a channel would make it 1/sqrt(eps).
        const Case<T> c(shape, mean, 2, mean < 1, true);
        const auto expected = reference::batch_norm_backward(shape, to_double(c.dy), to_double(c.x),
                                                             to_double(c.weight), c.eps);
        const auto channels = static_cast<std::size_t>(shape.c);
        std::vector<Stat<T>> saved_mean(channels), rstd(channels), dweight(channels),
            dbias(channels);
        std::vector<T> y(c.x.size()), dx(c.x.size());
        batch_norm_forward<T>({.x = view(c.x, shape),
                               .weight = c.weight,
                               .bias = c.bias,
                               .y = view(y, shape),
                               .mean = saved_mean,
                               .rstd = rstd});
        BatchNormBackward<T> args{.dy = view(c.dy, shape),
                                  .x = view(c.x, shape),
                                  .weight = c.weight,
                                  .mean = saved_mean,
                                  .rstd = rstd,
                                  .dx = view(dx, shape),
                                  .dweight = dweight,
                                  .dbias = dbias};
        batch_norm_backward<T>(args);

        // Sums of |dy| and |dy*x^| bound the sums' errors; x^ is off by the stored mean's rounding
        // by its error from merging in double, and by the
        // statistics' errors.
        std::vector<double> sum(channels), sum_x(channels), x_error(channels);
        for (std::size_t i = 0; i < c.x.size(); ++i) {
          const std::size_t ch = c.channel(i);
          sum[ch] += std::abs(static_cast<double>(c.dy[i]));
          sum_x[ch] += std::abs(static_cast<double>(c.dy[i]) * c.x_hat(i));
        }
        const auto count = static_cast<double>(shape.per_channel());
        for (std::size_t ch = 0; ch < channels; ++ch) {
          x_error[ch] = (unit<T>() + 4 * unit<double>()) * std::abs(c.expected.mean[ch]) *
                            c.expected.rstd[ch] +
                        c.error(ch).x_hat(c.largest[ch]);
        }
        expect_close(
            dbias, expected.dbias,
            [&](std::size_t ch) { return (c.error(ch).sum + unit<T>()) * sum[ch]; }, "dbias");
        expect_close(
            dweight, expected.dweight,
            [&](std::size_t ch) {
              return (c.error(ch).sum + unit<T>()) * sum_x[ch] + x_error[ch] * sum[ch];
            },
            "dweight");
        expect_close(
            dx, expected.dx,
            [&](std::size_t i) {
              const std::size_t ch = c.channel(i);
              const double mean_dy = sum[ch] / count, mean_dy_x = sum_x[ch] / count;
              const double x_hat = std::abs(c.x_hat(i));
              const double scale = std::abs(c.weight_of(ch)) * c.expected.rstd[ch];
              return scale * c.error(ch).dx(std::abs(static_cast<double>(c.dy[i])), mean_dy, x_hat,
                                            mean_dy_x, x_error[ch]);
            },
            "dx");

        auto in_place = c.dy;
        args.dy = TensorView<const T>(in_place.data(), shape);
        args.dx = view(in_place, shape);
        batch_norm_backward<T>(args);
        EXPECT_EQ(in_place, dx);

        // Without dx, and without the sums, the rest is the same.
        std::vector<Stat<T>> alone(channels);
        args.dy = view(c.dy, shape);
        args.dx = {};
        args.dweight = alone;
        args.dbias = {};
        batch_norm_backward<T>(args);
        EXPECT_EQ(alone, dweight);
        if (::testing::Test::HasFailure()) return;
      }
    }
  });
}

TYPED_TEST(BatchNorm, InferenceMatchesTheReference) {
  using T = TypeParam;
  for_each_target([] {
    for (Shape shape : test_shapes()) {
      SCOPED_TRACE(name_of(shape));
      const auto x = random_values<T>(shape.size(), 1, 2);
      const auto mean = random_values<Stat<T>>(shape.c, 1, 1, 5);
      auto var = random_values<Stat<T>>(shape.c, 2, 0.1, 6);
      const auto weight = random_values<Stat<T>>(shape.c, 1, 0.5, 7);
      const auto bias = random_values<Stat<T>>(shape.c, 0, 0.5, 8);
      const auto expected =
          reference::batch_norm_inference(shape, to_double(x), to_double(weight), to_double(bias),
                                          to_double(mean), to_double(var), 1e-3);
      std::vector<T> y(x.size());
      std::vector<Stat<T>> rstd(var.size());
      batch_norm_inference<T>({.x = view(x, shape),
                               .weight = weight,
                               .bias = bias,
                               .mean = mean,
                               .var = var,
                               .y = view(y, shape),
                               .rstd = rstd},
                              1e-3);
      // A difference, a product and a sum, with rounded coefficients: terms of at most about 20.
      expect_close(
          y, expected, [](std::size_t) { return 4 * 20 * unit<T>(); }, "y");
      for (std::size_t c = 0; c < var.size(); ++c) {
        EXPECT_NEAR(rstd[c], 1 / std::sqrt(static_cast<double>(var[c]) + 1e-3), 2 * unit<T>());
      }
    }
  });
}

// With given statistics nothing flows through them: dx = weight * rstd * dy, even where x is not
// finite.
TEST(BatchNormGiven, BackwardIsAScaling) {
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape{3, 2, 5, layout};
      auto x = random_values<float>(30);
      x[4] = HUGE_VALF;
      const auto dy = random_values<float>(30, 0, 1, 2);
      const std::vector<float> weight = {2, -1}, mean = {0.5f, 0.25f}, rstd = {1, 4};
      std::vector<float> dx(30), dbias(2);
      batch_norm_backward<float>({.dy = view(dy, shape),
                                  .x = view(x, shape),
                                  .weight = weight,
                                  .mean = mean,
                                  .rstd = rstd,
                                  .dx = view(dx, shape),
                                  .dbias = dbias},
                                 Statistics::given);
      Values sums(2);
      for (std::size_t i = 0; i < 30; ++i) {
        const std::size_t c = layout == Layout::channels_first ? i / 5 % 2 : i % 2;
        EXPECT_EQ(dx[i], dy[i] * weight[c] * rstd[c]);
        sums[c] += static_cast<double>(dy[i]);
      }
      EXPECT_NEAR(dbias[0], sums[0], 15 * unit<float>() * 15);
      EXPECT_NEAR(dbias[1], sums[1], 15 * unit<float>() * 15);
    }
  });
}

TEST(BatchNorm, NoVarianceGivesBias) {
  for_each_target([] {
    for (const Shape& shape : {Shape{4, 3, 5}, Shape{4, 3, 5, Layout::channels_last}}) {
      const std::vector<float> x(60, 1e6f + 3), bias = {1, -2, 3};
      std::vector<float> y(60);
      batch_norm_forward<float>({.x = view(x, shape), .bias = bias, .y = view(y, shape)});
      for (std::size_t i = 0; i < 60; ++i) {
        EXPECT_EQ(y[i], bias[shape.layout == Layout::channels_first ? i / 5 % 3 : i % 3]);
      }
    }
  });
}

// Standard deviation 1e-4 under eps 1e-5: eps rules, nothing blows up.
TEST(BatchNorm, TinyVariance) {
  const Shape shape{64, 2, 9};
  const Case<float> c(shape, 0, 1e-4, true, true);
  std::vector<float> y(c.x.size());
  batch_norm_forward<float>(
      {.x = view(c.x, shape), .weight = c.weight, .bias = c.bias, .y = view(y, shape)});
  expect_forward(c, y);
}

TEST(BatchNorm, NonFiniteValuesStayInTheirChannel) {
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape{6, 20, 9, layout};
      const auto clean = random_values<float>(shape.size());
      std::vector<float> expected(clean.size()), y(clean.size());
      const auto forward = [&](const std::vector<float>& x, std::vector<float>& out) {
        batch_norm_forward<float>({.x = view(x, shape), .y = view(out, shape)});
      };
      forward(clean, expected);
      for (const float bad : {std::nanf(""), HUGE_VALF}) {
        auto x = clean;
        x[reference::index_of(shape, 3, 7, 4)] = bad;
        forward(x, y);
        for (std::int64_t n = 0; n < 6; ++n) {
          for (std::int64_t ch = 0; ch < 20; ++ch) {
            for (std::int64_t s = 0; s < 9; ++s) {
              const auto i = reference::index_of(shape, n, ch, s);
              if (ch == 7) {
                EXPECT_TRUE(std::isnan(y[i]));
              } else {
                EXPECT_EQ(y[i], expected[i]);
              }
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
