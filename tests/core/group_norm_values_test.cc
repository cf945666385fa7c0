// GroupNorm on values that break careless code: constants, NaN, infinity, groups of one value.
#include "tests/core/group_norm_case.h"

namespace evenkeel::testing {
namespace {

template <class T>
class GroupNormValues : public ::testing::Test {};
TYPED_TEST_SUITE(GroupNormValues, AllTypes, TypeName);

// By the geometry that they go through: short and long planes, columns, plain features.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const auto& [n, c, s] : std::vector<std::array<std::int64_t, 3>>{
           {6, 20, 9}, {4, 4, 300}, {9, 40, 1}, {2, 4, 5000}}) {
    all.push_back({n, c, s, Layout::channels_first});
    all.push_back({n, c, s, Layout::channels_last});
  }
  return all;
}

template <class T>
struct Result {
  std::vector<T> y, dx;
  std::vector<double> mean, rstd;
};

template <class T>
Result<T> run(const Shape& shape, const std::vector<T>& x, const std::vector<T>& dy,
              const GroupNormOptions& options, const std::vector<Wide<T>>& bias = {}) {
  const auto groups = static_cast<std::size_t>(shape.n * options.groups);
  Result<T> result{std::vector<T>(x.size()), std::vector<T>(x.size()), std::vector<double>(groups),
                   std::vector<double>(groups)};
  group_norm_forward<T>({.x = view(x, shape),
                         .bias = bias,
                         .mean = result.mean,
                         .rstd = result.rstd,
                         .y = view(result.y, shape)},
                        options);
  group_norm_backward<T>({.dy = view(dy, shape),
                          .x = view(x, shape),
                          .bias = bias,
                          .mean = result.mean,
                          .rstd = result.rstd,
                          .dx = view(result.dx, shape)},
                         options);
  return result;
}

// Equal values, or a single one: x^ is 0, so y is the bias.
TYPED_TEST(GroupNormValues, NoVarianceGivesBias) {
  using T = TypeParam;
  for_each_target([] {
    for (const Shape& shape : shapes()) {
      for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{4}, shape.c}) {
        SCOPED_TRACE(name_of(shape) + ", " + std::to_string(groups) + " groups");
        const auto bias = random_values<Wide<T>>(shape.c);
        for (const double value : {0.0, 0.1, 30003.0, -3.3e-5}) {
          const std::vector<T> x(static_cast<std::size_t>(shape.size()), from_double<T>(value));
          const auto r = run<T>(shape, x, x, {.groups = groups}, bias);
          for (std::size_t i = 0; i < x.size(); ++i) {
            const auto b = static_cast<double>(bias[channel_of(shape, i)]);
            ASSERT_EQ(to_double(r.y[i]), to_double(from_double<T>(b))) << i;
          }
          for (std::size_t g = 0; g < r.mean.size(); ++g) {
            ASSERT_EQ(static_cast<double>(r.mean[g]), to_double(x[0]));
            ASSERT_EQ(r.rstd[g], 1 / std::sqrt(1e-5));  // the variance is 0
          }
        }
      }
    }
  });
}

// A group of one value gives the bias whatever the value, and lets no gradient through: g - mean(g)
// is 0 but for the roundings of both coefficients and of their sum.
TYPED_TEST(GroupNormValues, AGroupMayBeOneValue) {
  using T = TypeParam;
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape{19, 37, 1, layout};
      const auto x = random_values<T>(shape.size(), 100, 30), dy = random_values<T>(shape.size());
      const auto bias = random_values<Wide<T>>(shape.c);
      const auto r = run<T>(shape, x, dy, {.groups = shape.c}, bias);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const auto b = static_cast<double>(bias[channel_of(shape, i)]);
        ASSERT_EQ(to_double(r.y[i]), to_double(from_double<T>(b))) << i;
        ASSERT_NEAR(to_double(r.dx[i]), 0,
                    3 * unit<T>() * static_cast<double>(r.rstd[i]) * std::abs(to_double(dy[i])))
            << i;
      }
    }
  });
}

TYPED_TEST(GroupNormValues, NonFiniteValuesStayInTheirGroup) {
  using T = TypeParam;
  for_each_target([] {
    for (const Shape& shape : shapes()) {
      for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{4}, shape.c}) {
        for (const Activation& activation : {Activation::none, Activation::relu}) {
          SCOPED_TRACE(name_of(shape) + ", " + std::to_string(groups) + " groups");
          const GroupNormOptions options{.groups = groups, .activation = activation};
          const auto clean = random_values<T>(shape.size()), dy = random_values<T>(shape.size(), 3);
          const auto expected = run<T>(shape, clean, dy, options);
          const auto group_of = [&](std::int64_t n, std::int64_t c) {
            return static_cast<std::size_t>(n * groups + c / (shape.c / groups));
          };
          const std::size_t spoilt = group_of(1, 2);
          for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
            auto x = clean;
            if (shape.s == 1 && groups == shape.c) break;  // AGroupMayBeOneValue
            x[reference::index_of(shape, 1, 2, shape.s / 2)] = from_double<T>(bad);
            const auto r = run<T>(shape, x, dy, options);
            for (std::int64_t n = 0; n < shape.n; ++n) {
              for (std::int64_t c = 0; c < shape.c; ++c) {
                for (std::int64_t s = 0; s < shape.s; ++s) {
                  const std::size_t i = reference::index_of(shape, n, c, s);
                  if (group_of(n, c) == spoilt) {
                    ASSERT_TRUE(std::isnan(to_double(r.y[i]))) << i;
                    ASSERT_TRUE(std::isnan(to_double(r.dx[i]))) << i;
                  } else {
                    ASSERT_EQ(r.y[i], expected.y[i]) << i;
                    ASSERT_EQ(r.dx[i], expected.dx[i]) << i;
                  }
                }
              }
            }
          }
        }
      }
    }
  });
}

// An empty span is an absent argument wherever it points, such as a cleared vector's.
TYPED_TEST(GroupNormValues, EmptySpansAreAbsent) {
  using T = TypeParam;
  const Shape shape{3, 8, 33};
  const GroupNormOptions options{.groups = 4};
  const auto x = random_values<T>(shape.size()), dy = random_values<T>(shape.size(), 0, 1, 2);
  const auto expected = run<T>(shape, x, dy, options);
  std::vector<T> y(x.size()), dx(x.size());
  std::vector<Wide<T>> untouched(40, Wide<T>{3});
  const auto none = std::span(untouched).subspan(20, 0);
  std::vector<double> statistics(40, 3);
  const auto no_statistics = std::span(statistics).subspan(20, 0);
  group_norm_forward<T>({.x = view(x, shape),
                         .weight = none,
                         .bias = none,
                         .mean = no_statistics,
                         .rstd = no_statistics,
                         .y = view(y, shape)},
                        options);
  group_norm_backward<T>({.dy = view(dy, shape),
                          .x = view(x, shape),
                          .weight = none,
                          .bias = none,
                          .mean = expected.mean,
                          .rstd = expected.rstd,
                          .dx = view(dx, shape),
                          .dweight = none,
                          .dbias = none},
                         options);
  expect_same(y, expected.y, "y");
  expect_same(dx, expected.dx, "dx");
  EXPECT_EQ(untouched, std::vector<Wide<T>>(40, Wide<T>{3}));
  EXPECT_EQ(statistics, std::vector<double>(40, 3));
}

}  // namespace
}  // namespace evenkeel::testing
