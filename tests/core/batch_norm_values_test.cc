// BatchNorm on values that break careless code: constants, NaN, infinity.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
class BatchNormValues : public ::testing::Test {};
TYPED_TEST_SUITE(BatchNormValues, AllTypes, TypeName);

// By the geometry that they go through: planes, short planes, columns, narrow columns.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const auto& [n, c, s] :
       std::vector<std::array<std::int64_t, 3>>{{6, 20, 9}, {4, 3, 300}, {60, 3, 1}, {9, 40, 1}}) {
    all.push_back({n, c, s, Layout::channels_first});
    all.push_back({n, c, s, Layout::channels_last});
  }
  return all;
}

TYPED_TEST(BatchNormValues, NoVarianceGivesBias) {
  using T = TypeParam;
  for_each_target([] {
    for (const Shape& shape : shapes()) {
      for (const double value : {0.0, 0.1, 30003.0, -3.3e-5}) {
        const std::vector<T> x(static_cast<std::size_t>(shape.size()), from_double<T>(value));
        const auto bias = random_values<Wide<T>>(shape.c);
        std::vector<T> y(x.size());
        std::vector<double> mean(bias.size()), rstd(bias.size());
        batch_norm_forward<T>(
            {.x = view(x, shape), .bias = bias, .mean = mean, .rstd = rstd, .y = view(y, shape)});
        for (std::size_t i = 0; i < y.size(); ++i) {
          const auto b = static_cast<double>(bias[channel_of(shape, i)]);
          ASSERT_EQ(to_double(y[i]), to_double(from_double<T>(b))) << name_of(shape);
        }
        for (std::size_t c = 0; c < bias.size(); ++c) {
          EXPECT_EQ(static_cast<double>(mean[c]), to_double(x[0]));
          EXPECT_EQ(rstd[c], 1 / std::sqrt(1e-5));  // the variance is 0
        }
      }
    }
  });
}

TYPED_TEST(BatchNormValues, NonFiniteValuesStayInTheirChannel) {
  using T = TypeParam;
  for_each_target([] {
    for (const Shape& shape : shapes()) {
      SCOPED_TRACE(name_of(shape));
      const auto clean = random_values<T>(shape.size());
      const auto forward = [&](const std::vector<T>& x, Activation activation) {
        std::vector<T> y(x.size());
        batch_norm_forward<T>({.x = view(x, shape), .y = view(y, shape)},
                              {.activation = activation});
        return y;
      };
      for (const Activation activation : {Activation::none, Activation::relu}) {
        const auto expected = forward(clean, activation);
        for (const double bad : {std::nan(""), HUGE_VAL}) {
          auto x = clean;
          x[reference::index_of(shape, 3, 2, shape.s / 2)] = from_double<T>(bad);
          const auto y = forward(x, activation);
          for (std::size_t i = 0; i < y.size(); ++i) {
            if (channel_of(shape, i) == 2) {
              ASSERT_TRUE(std::isnan(to_double(y[i])));
            } else {
              ASSERT_EQ(y[i], expected[i]);
            }
          }
        }
      }
    }
  });
}

// As in PyTorch: NaN is not cut off, and neither is the gradient that comes to it. Infinity is
// positive.
TYPED_TEST(BatchNormValues, NanPassesTheActivation) {
  using T = TypeParam;
  for_each_target([] {
    for (const Shape& shape : shapes()) {
      SCOPED_TRACE(name_of(shape));
      const auto channels = static_cast<std::size_t>(shape.c);
      auto x = random_values<T>(shape.size()), residual = random_values<T>(shape.size(), 0, 1, 2);
      for (std::size_t i = 0; i < x.size(); i += 7) x[i] = from_double<T>(std::nan(""));
      for (std::size_t i = 3; i < x.size(); i += 7) residual[i] = from_double<T>(std::nan(""));
      for (std::size_t i = 5; i < x.size(); i += 7) x[i] = from_double<T>(-HUGE_VAL);
      for (std::size_t i = 6; i < x.size(); i += 7) residual[i] = from_double<T>(HUGE_VAL);
      const std::vector<Wide<T>> mean(channels), var(channels, 1), bias(channels);
      std::vector<double> saved_mean(channels), rstd(channels);
      std::vector<T> y(x.size()), dx(x.size()), dresidual(x.size());
      const std::vector<T> dy(x.size(), from_double<T>(3));
      batch_norm_inference<T>({.x = view(x, shape),
                               .mean = mean,
                               .var = var,
                               .rstd = rstd,
                               .residual = view(residual, shape),
                               .y = view(y, shape)},
                              {.activation = Activation::relu});
      batch_norm_backward<T>({.dy = view(dy, shape),
                              .x = view(x, shape),
                              .bias = bias,
                              .mean = saved_mean,
                              .rstd = rstd,
                              .residual = view(residual, shape),
                              .dx = view(dx, shape),
                              .dresidual = view(dresidual, shape)},
                             {.statistics = Statistics::given, .activation = Activation::relu});
      for (std::size_t i = 0; i < x.size(); ++i) {
        const bool nan = i % 7 == 0 || i % 7 == 3;
        ASSERT_EQ(std::isnan(to_double(y[i])), nan) << i;
        ASSERT_TRUE(i % 7 != 5 || to_double(y[i]) == 0) << i;
        ASSERT_TRUE(i % 7 != 6 || to_double(y[i]) == HUGE_VAL) << i;
        const bool passes = nan || to_double(y[i]) > 0;
        ASSERT_EQ(to_double(dresidual[i]), passes ? 3 : 0) << i;
        ASSERT_EQ(to_double(dx[i]) != 0, passes) << i;
      }
      // Without an activation, dx with given statistics does not look at x at all.
      std::vector<Wide<T>> dbias(channels);
      const std::vector<T> expected(x.size(), from_double<T>(3 * static_cast<double>(rstd[0])));
      for (const bool with_dbias : {false, true}) {
        BatchNormBackward<T> args{.dy = view(dy, shape),
                                  .x = view(x, shape),
                                  .mean = saved_mean,
                                  .rstd = rstd,
                                  .dx = view(dx, shape)};
        if (with_dbias) args.dbias = dbias;
        batch_norm_backward<T>(args, {.statistics = Statistics::given});
        expect_same(dx, expected, with_dbias ? "dx beside dbias" : "dx");
      }
      EXPECT_EQ(static_cast<double>(dbias[0]), 3.0 * static_cast<double>(shape.per_channel()));
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
