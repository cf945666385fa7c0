#include "evenkeel/local_response_norm.h"

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

using Options = LocalResponseNormOptions;

template <class T>
class LocalResponseNorm : public ::testing::Test {};
TYPED_TEST_SUITE(LocalResponseNorm, AllTypes, TypeName);

std::vector<Options> test_options() {
  return {
      {},                        // the paper's
      {2, 1, 0.3, 0.75, 1},      // strong, unequal
      {0, 0, 0.5, 0.5, 2},       // a window of one
      {1, 4, 0.1, 1, 1},         // beta 1
      {3, 0, 0.2, 0.6, 0.5},     // a general beta
      {1000, 1000, 0.01, 2, 1},  // wider than any channel count here
      {2, 2, 0.1, -0.5, 1},      // a negative beta multiplies
      {2, 2, 0.1, 0, 1},
  };
}

// The relative error of base^-beta: the sum of `points` squares and the base, times |beta|; the
// general power adds |beta * log(base)| roundings and the few of exp and log.
template <class T>
double power_error(const Options& options, double base, double points) {
  return unit<T>() *
         (std::abs(options.beta) * (points + 3) + 2 * std::abs(options.beta * std::log(base)) + 10);
}

TYPED_TEST(LocalResponseNorm, MatchesTheReference) {
  using T = TypeParam;
  for (const auto& [n, c, s] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                        {3, 2, 1},
                                                                        {2, 17, 1},
                                                                        {2, 5, 3},
                                                                        {50, 3, 2},
                                                                        {1, 96, 49},
                                                                        {2, 33, 64},
                                                                        {2, 7, 65},
                                                                        {1, 15, 257},
                                                                        {1, 16, 255},
                                                                        {400, 5, 9},
                                                                        {1, 3, 3025}}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape{n, c, s, layout};
      SCOPED_TRACE(name_of(shape));
      const auto x = random_values<T>(shape.size(), 0, 2);
      const auto dy = random_values<T>(shape.size(), 0, 1, 2);
      double largest = 0;
      for (const T v : x) largest = std::max(largest, std::abs(to_double(v)));
      for (const Options& options : test_options()) {
        SCOPED_TRACE(options.beta);
        const auto expected = reference::local_response_norm(shape, to_double(x), options);
        const auto expected_dx =
            reference::local_response_norm_backward(shape, to_double(dy), to_double(x), options);
        // The largest base there can be bounds every power's error.
        const double points = static_cast<double>(std::min(c, options.behind + 1 + options.ahead));
        const double most = options.k + options.alpha * points * largest * largest;
        const double error = std::max(power_error<T>(options, most, points),
                                      power_error<T>(options, options.k, points));
        // Terms of the window: |2 alpha beta x dy x base^(-beta-1)|, at most `points` of them.
        const double power =
            std::max(std::pow(options.k, -options.beta), std::pow(most, -options.beta));
        const double term = 2 * options.alpha * std::abs(options.beta) * largest * largest * power /
                            std::min(options.k, 1.0) * 4;
        for_each_target([&] {
          std::vector<T> y(x.size()), dx(x.size());
          local_response_norm_forward<T>({.x = view(x, shape), .y = view(y, shape)}, options);
          expect_close(
              y, expected, [&](std::size_t i) { return 2 * error * std::abs(expected[i]) + 1e-30; },
              "y");
          local_response_norm_backward<T>(
              {.dy = view(dy, shape), .x = view(x, shape), .dx = view(dx, shape)}, options);
          expect_close(
              dx, expected_dx,
              [&](std::size_t i) {
                return 4 * error * (power * std::abs(to_double(dy[i])) + points * term);
              },
              "dx");

          auto in_place = x;
          local_response_norm_forward<T>(
              {.x = TensorView<const T>(in_place.data(), shape), .y = view(in_place, shape)},
              options);
          expect_same(in_place, y, "y in place of x");
          in_place = dy;
          local_response_norm_backward<T>({.dy = TensorView<const T>(in_place.data(), shape),
                                           .x = view(x, shape),
                                           .dx = view(in_place, shape)},
                                          options);
          expect_same(in_place, dx, "dx in place of dy");
        });
        if (::testing::Test::HasFailure()) return;
      }
    }
  }
}

// A sliding sum would leave about 1e12 * 2^-24 of the large value in every later window.
TEST(LocalResponseNorm, ALargeValueLeavesNoTrace) {
  for_each_target([] {
    for (const Shape& shape : {Shape{1, 40, 1}, Shape{1, 40, 2}}) {
      std::vector<float> x(static_cast<std::size_t>(shape.size()), 1e-3f);
      const Options options{2, 2, 1, 0.75, 0};
      std::vector<float> clean(x.size()), y(x.size());
      local_response_norm_forward<float>({.x = view(x, shape), .y = view(clean, shape)}, options);
      x[reference::index_of(shape, 0, 10, 0)] = 1e6f;
      local_response_norm_forward<float>({.x = view(x, shape), .y = view(y, shape)}, options);
      for (std::int64_t c = 0; c < 40; ++c) {
        const auto i = reference::index_of(shape, 0, c, 0);
        if (c < 8 || c > 12) {
          EXPECT_EQ(y[i], clean[i]) << c;
        }
      }
    }
  });
}

TEST(LocalResponseNorm, NonFiniteValuesStayInTheirWindow) {
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      for (const double beta : {0.75, 0.6}) {
        const Shape shape{2, 9, 5, layout};
        const Options options{2, 1, 0.1, beta, 1};
        const auto clean = random_values<float>(shape.size());
        std::vector<float> expected(clean.size()), y(clean.size());
        local_response_norm_forward<float>({.x = view(clean, shape), .y = view(expected, shape)},
                                           options);
        auto x = clean;
        x[reference::index_of(shape, 1, 4, 2)] = HUGE_VALF;
        local_response_norm_forward<float>({.x = view(x, shape), .y = view(y, shape)}, options);
        for (std::int64_t n = 0; n < 2; ++n) {
          for (std::int64_t c = 0; c < 9; ++c) {
            for (std::int64_t s = 0; s < 5; ++s) {
              const auto i = reference::index_of(shape, n, c, s);
              // Channel 4 lies in the windows of channels 3 (one ahead) to 6 (two behind): an
              // infinite base makes them 0, and channel 4 itself infinity * 0.
              // The others of its block may be computed in double instead of float: a rounding of
              // the square, of each of four sums, the base, the power (three) and the product.
              if (n != 1 || s != 2 || c < 3 || c > 6) {
                EXPECT_NEAR(y[i], expected[i], 10 * unit<float>() * std::abs(expected[i]));
              } else if (c == 4) {
                EXPECT_TRUE(std::isnan(y[i]));
              } else {
                EXPECT_EQ(y[i], 0);
              }
            }
          }
        }
      }
    }
  });
}

// A base of exactly 0 (k = 0 and no response) raised to -beta: infinity, and 0 * infinity is NaN,
// as in plain arithmetic; every exponent's path agrees.
TEST(LocalResponseNorm, ZeroBase) {
  for_each_target([] {
    const std::vector<float> x(20, 0);
    std::vector<float> y(20);
    for (const double beta : {0.75, 0.5, 1.0, 0.6}) {
      local_response_norm_forward<float>({.x = view(x, {1, 20}), .y = view(y, {1, 20})},
                                         {2, 2, 1, beta, 0});
      for (const float v : y) EXPECT_TRUE(std::isnan(v)) << beta;
    }
  });
}

TEST(LocalResponseNorm, ConventionsOfTheFrameworks) {
  const auto is = [](const Options& o, std::int64_t behind, std::int64_t ahead, double alpha,
                     double beta, double k) {
    EXPECT_EQ(o.behind, behind);
    EXPECT_EQ(o.ahead, ahead);
    EXPECT_DOUBLE_EQ(o.alpha, alpha);
    EXPECT_DOUBLE_EQ(o.beta, beta);
    EXPECT_DOUBLE_EQ(o.k, k);
  };
  is(Options::paper(), 2, 2, 1e-4, 0.75, 2);
  is(Options::paper(4), 2, 2, 1e-4, 0.75, 2);
  is(Options::torch(5), 2, 2, 2e-5, 0.75, 1);
  is(Options::torch(4), 2, 1, 2.5e-5, 0.75, 1);
  is(Options::onnx(4), 1, 2, 2.5e-5, 0.75, 1);
  is(Options::onnx(5), 2, 2, 2e-5, 0.75, 1);
  is(Options::cudnn(4), 1, 2, 2.5e-5, 0.75, 2);
  is(Options::caffe(3), 1, 1, 1.0 / 3, 0.75, 1);
  is(Options::tensorflow(), 5, 5, 1, 0.5, 1);
  is(Options::tensorflow(2, 1, 1e-3, 0.75), 2, 2, 1e-3, 0.75, 1);
}

TEST(LocalResponseNorm, RefusesBadOptions) {
  const std::vector<float> x(4);
  std::vector<float> y(4);
  const auto forward = [&](const Options& options) {
    local_response_norm_forward<float>({.x = view(x, {1, 4}), .y = view(y, {1, 4})}, options);
  };
  expect_error([&] { forward({-1, 2}); }, {"local_response_norm", "-1 behind"});
  expect_error([&] { forward({1, -2}); }, {"-2 ahead"});
  expect_error([&] { forward({1, 1, std::nan("")}); }, {"alpha is nan", "finite"});
  expect_error([] { Options::torch(0); }, {"local_response_norm: size is 0", "at least 1"});
  expect_error([] { Options::paper(0); }, {"n is 0", "at least 1"});
  expect_error([] { Options::cudnn(-2); }, {"n is -2", "at least 1"});
  expect_error([] { Options::caffe(4); }, {"local_size is 4", "odd"});
  expect_error([] { Options::caffe(-1); }, {"local_size is -1", "at least 1"});
  expect_error([] { Options::tensorflow(-1); }, {"depth_radius is -1", "at least 0"});
  expect_error(
      [&] {
        local_response_norm_forward<float>({.x = view(x, {1, 4}), .y = view(y, {2, 2})});
      },
      {"y has the shape", "N=2", "expected", "N=1"});
  expect_error(
      [&] {
        local_response_norm_backward<float>({.dy = view(x, {1, 4}), .x = view(x, {1, 4})});
      },
      {"local_response_norm_backward", "dx"});
}

}  // namespace
}  // namespace evenkeel::testing
