// Every activation behind BatchNorm and GroupNorm, forward and backward: on ordinary values, at the
// bounds, at NaN and infinity.
#include "evenkeel/activation.h"

#include "tests/core/batch_norm_checks.h"
#include "tests/core/group_norm_checks.h"

namespace evenkeel::testing {
namespace {

template <class T>
class Activations : public ::testing::Test {};
TYPED_TEST_SUITE(Activations, AllTypes, TypeName);

// By the geometry that they go through: planes, short planes, columns, narrow columns.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const auto& [n, c, s] : std::vector<std::array<std::int64_t, 3>>{
           {3, 4, 300}, {6, 20, 9}, {9, 40, 1}, {60, 4, 1}, {2, 2, 4099}}) {
    all.push_back({n, c, s, Layout::channels_first});
    all.push_back({n, c, s, Layout::channels_last});
  }
  return all;
}

template <class F>
void for_each_activation(const F& f) {
  for (const Activation& activation : all_activations()) {
    SCOPED_TRACE(name_of(activation));
    f(activation);
    if (::testing::Test::HasFailure()) return;
  }
}

TYPED_TEST(Activations, BehindBatchNorm) {
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(name_of(shape));
    for_each_activation([&](const Activation& activation) {
      for (const bool residual : {false, true}) {
        const BatchNormCase<TypeParam> c(shape, {.residual = residual, .activation = activation});
        for_each_target([&] {
          expect_batch_norm_forward(c);
          expect_batch_norm_backward(c);
        });
      }
    });
  }
}

TYPED_TEST(Activations, BehindGroupNorm) {
  for (const Shape& shape : shapes()) {
    for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{2}, shape.c}) {
      SCOPED_TRACE(name_of(shape) + ", " + std::to_string(groups) + " groups");
      for_each_activation([&](const Activation& activation) {
        const GroupNormCase<TypeParam> c(shape, groups, {.activation = activation});
        for_each_target([&] {
          expect_group_norm_forward(c);
          expect_group_norm_backward(c);
        });
      });
    }
  }
}

// With mean 0 and var + eps = 1 the value before the activation is x itself, or x + residual.
template <class T>
struct Identity {
  Shape shape;
  std::vector<Wide<T>> mean = std::vector<Wide<T>>(static_cast<std::size_t>(shape.c), 0),
                       var = std::vector<Wide<T>>(static_cast<std::size_t>(shape.c), Wide<T>{0.5});
  std::vector<double> saved_mean = std::vector<double>(mean.size(), 0),
                      rstd = std::vector<double>(mean.size(), 1);

  std::vector<T> forward(const std::vector<T>& x, const std::vector<T>& residual,
                         const Activation& activation) const {
    std::vector<T> y(x.size());
    batch_norm_inference<T>({.x = view(x, shape),
                             .mean = mean,
                             .var = var,
                             .residual = view_or_absent(residual, shape),
                             .y = view(y, shape)},
                            {.eps = 0.5, .activation = activation});
    return y;
  }
  // Where dy is 1.
  std::vector<T> gradient(const std::vector<T>& x, const std::vector<T>& residual,
                          const Activation& activation) const {
    const std::vector<T> dy(x.size(), from_double<T>(1));
    std::vector<T> dresidual(x.size());
    batch_norm_backward<T>({.dy = view(dy, shape),
                            .x = view(x, shape),
                            .mean = saved_mean,
                            .rstd = rstd,
                            .residual = view_or_absent(residual, shape),
                            .dresidual = view(dresidual, shape)},
                           {.statistics = Statistics::given, .activation = activation});
    return dresidual;
  }
};

// Repeats a few values until the shape is full.
template <class T>
std::vector<T> repeated(const Values& values, const Shape& shape) {
  std::vector<T> all(static_cast<std::size_t>(shape.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = from_double<T>(values[i % values.size()]);
  }
  return all;
}

// The bounds of each activation and their neighbors, all exact in every type. The value is x
// itself, so nothing but the activation can round.
TYPED_TEST(Activations, AtTheirBounds) {
  using T = TypeParam;
  const Values values = {-4,     -3.0625,   -3,     -2.9375, -1,   -0.5,  -0.4375, -0.0,
                         0,      0.0078125, 0.25,   0.5,     0.75, 1,     1.0625,  2,
                         2.9375, 3,         3.0625, 5.875,   6,    6.125, 100};
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(name_of(shape));
    const Identity<T> identity{shape};
    const auto x = repeated<T>(values, shape);
    const std::vector<T> zero(x.size(), from_double<T>(0));
    for_each_activation([&](const Activation& activation) {
      const Values expected_y = reference::activate(to_double(x), activation);
      const Values expected_dy =
          reference::activate_backward(Values(x.size(), 1), to_double(x), activation);
      for_each_target([&] {
        for (const auto& residual : {std::vector<T>(), zero}) {
          const auto y = identity.forward(x, residual, activation);
          const auto dy = identity.gradient(x, residual, activation);
          if (activation.kind == Activation::Kind::clamp) {
            EXPECT_EQ(to_double(y), expected_y);
            EXPECT_EQ(to_double(dy), expected_dy);
          } else {
            const auto before = [&](std::size_t i) { return to_double(x[i]); };
            expect_close(
                y, expected_y,
                [&](std::size_t i) { return activation_error<T>(activation, before(i), 0); }, "y");
            expect_close(
                dy, expected_dy,
                [&](std::size_t i) { return derivative_error<T>(activation, before(i), 0); }, "dy");
          }
        }
      });
    });
  }
}

// The same through GroupNorm, whose backward is given mean 0 and rstd 1: dbias sums what passes.
TYPED_TEST(Activations, AtTheirBoundsBehindGroupNorm) {
  using T = TypeParam;
  const std::vector<T> x = repeated<T>({-4, -3, -1, -0.5, 0, 0.25, 0.75, 1, 2, 3, 6, 7}, {1, 12});
  const std::vector<T> dy(12, from_double<T>(1));
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    const Shape shape{1, 12, 1, layout};
    for_each_activation([&](const Activation& activation) {
      const Values expected = reference::activate_backward(Values(12, 1), to_double(x), activation);
      for_each_target([&] {
        const std::vector<double> mean(3, 0), rstd(3, 1);
        std::vector<Wide<T>> dbias(12);
        group_norm_backward<T>({.dy = view(dy, shape),
                                .x = view(x, shape),
                                .mean = mean,
                                .rstd = rstd,
                                .dbias = dbias},
                               {.groups = 3, .activation = activation});
        expect_close(
            dbias, expected,
            [&](std::size_t i) { return derivative_error<T>(activation, to_double(x[i]), 0); },
            "dbias");
      });
    });
  }
}

// NaN is never cut off, and the gradient that comes to it is not either: it passes, or becomes NaN.
// An infinite value goes where the function goes, but for SiLU and hardswish of minus infinity,
// where v * sigmoid(v) is infinity times 0 and NaN stands for the limit 0.
TYPED_TEST(Activations, OfNanAndInfinity) {
  using T = TypeParam;
  const Values values = {1, std::nan(""), HUGE_VAL, -HUGE_VAL, -1};
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(name_of(shape));
    const Identity<T> identity{shape};
    const auto special = repeated<T>(values, shape);
    const std::vector<T> zero(special.size(), from_double<T>(0));
    for_each_activation([&](const Activation& activation) {
      for_each_target([&] {
        for (const bool in_residual : {false, true}) {
          const auto& x = in_residual ? zero : special;
          const auto& residual = in_residual ? special : std::vector<T>();
          const auto y = identity.forward(x, residual, activation);
          const auto dy = identity.gradient(x, residual, activation);
          const bool clamps = activation.kind == Activation::Kind::clamp;
          const bool leaky = activation.kind == Activation::Kind::leaky_relu;
          for (std::size_t i = 0; i < y.size(); ++i) {
            const double result = to_double(y[i]), passed = to_double(dy[i]);
            switch (i % 5) {
              case 1:
                ASSERT_TRUE(std::isnan(result)) << i;
                ASSERT_NE(passed, 0) << i;
                break;
              case 2:
                ASSERT_EQ(result, clamps ? activation.high : HUGE_VAL) << i;
                if (clamps) {
                  ASSERT_EQ(passed, std::isfinite(activation.high) ? 0 : 1) << i;
                }
                if (leaky) {
                  ASSERT_EQ(passed, 1) << i;
                }
                break;
              case 3:
                if (clamps || leaky) {
                  ASSERT_EQ(result, clamps ? activation.low : activation.slope * -HUGE_VAL) << i;
                } else {
                  ASSERT_TRUE(std::isnan(result) || result == 0) << i << ": " << result;
                }
                if (clamps) {
                  ASSERT_EQ(passed, std::isfinite(activation.low) ? 0 : 1) << i;
                }
                break;
              default:
                ASSERT_TRUE(std::isfinite(result) && std::isfinite(passed)) << i;
                break;
            }
          }
        }
      });
    });
  }
}

// SiLU far from 0, where a sigmoid by a plain exponential would overflow.
TYPED_TEST(Activations, SiluOfLargeValues) {
  using T = TypeParam;
  const Shape shape{1, 8, 1};
  const Identity<T> identity{shape};
  const std::vector<T> x = repeated<T>({-60000, -1000, -100, -80, 80, 100, 1000, 60000}, shape);
  for_each_target([&] {
    const auto y = identity.forward(x, {}, Activation::silu);
    const auto dy = identity.gradient(x, {}, Activation::silu);
    for (std::size_t i = 0; i < 8; ++i) {
      // v * exp(-80) is below the rounding of anything that it meets.
      const double v = to_double(x[i]), limit = std::max(v, 0.0);
      EXPECT_NEAR(to_double(y[i]), limit, 1e-30);
      EXPECT_NEAR(to_double(dy[i]), v > 0 ? 1 : 0, 1e-30);
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
