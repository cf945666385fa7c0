// How large the errors usually are, on large tensors. The other tests allow for the worst case of a
// sum; here rounding errors of either sign cancel as they do in practice, so a lost digit shows.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
double rms_error(const std::vector<T>& actual, const Values& expected) {
  double errors = 0, squares = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    errors += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    squares += expected[i] * expected[i];
  }
  return std::sqrt(errors / squares);
}

// y: a subtraction, exact near the mean, a multiply-add, and the rounded scale: one unit together.
// At mean 1e4 the values lie on a grid so coarse that the low bits of their squares are no longer
// random (squares are 0, 1 or 4 modulo 8), which biases the running sum's roundings: three units.
constexpr double kForward = 4.0 * unit<float>();
// Twice as many operations, at mean 0.
constexpr double kBackward = 2.0 * unit<float>();
// dweight, dbias: sums of terms of either sign, relative to a result that is their random walk.
constexpr double kSums = 8.0 * unit<float>();

TEST(Accuracy, BatchNorm) {
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      for (const double mean : {0.0, 1e4, 1e6}) {
        const Shape shape{40, 9, 300, layout};
        SCOPED_TRACE(name_of(shape) + " mean " + std::to_string(mean));
        const auto x = random_values<float>(shape.size(), mean, 1);
        const auto dy = random_values<float>(shape.size(), 0, 1, 2);
        std::vector<double> saved_mean(9), rstd(9);
        std::vector<float> y(x.size()), dx(x.size()), dweight(9), dbias(9);
        batch_norm_forward<float>(
            {.x = view(x, shape), .mean = saved_mean, .rstd = rstd, .y = view(y, shape)});
        EXPECT_LT(rms_error(y, reference::batch_norm(shape, to_double(x), {}, {}, 1e-5).y),
                  kForward);
        if (mean > 0) continue;  // the stored mean is rounded to float
        batch_norm_backward<float>({.dy = view(dy, shape),
                                    .x = view(x, shape),
                                    .mean = saved_mean,
                                    .rstd = rstd,
                                    .dx = view(dx, shape),
                                    .dweight = dweight,
                                    .dbias = dbias});
        const auto expected =
            reference::batch_norm_backward(shape, to_double(dy), to_double(x), {}, 1e-5);
        EXPECT_LT(rms_error(dx, expected.dx), kBackward);
        EXPECT_LT(rms_error(dweight, expected.dweight), kSums);
        EXPECT_LT(rms_error(dbias, expected.dbias), kSums);
      }
    }
  });
}

TEST(Accuracy, LayerNorm) {
  for_each_target([] {
    for (const double mean : {0.0, 1e4, 1e6}) {
      const Shape shape{500, 200};
      SCOPED_TRACE(mean);
      const auto x = random_values<float>(shape.size(), mean, 1);
      const auto dy = random_values<float>(shape.size(), 0, 1, 2);
      std::vector<double> saved_mean(500), rstd(500);
      std::vector<float> y(x.size()), dx(x.size()), dweight(200), dbias(200);
      layer_norm_forward<float>(
          {.x = view(x, shape), .mean = saved_mean, .rstd = rstd, .y = view(y, shape)});
      EXPECT_LT(rms_error(y, reference::layer_norm(shape, to_double(x), {}, {}, 1e-5).y), kForward);
      if (mean > 0) continue;
      layer_norm_backward<float>({.dy = view(dy, shape),
                                  .x = view(x, shape),
                                  .mean = saved_mean,
                                  .rstd = rstd,
                                  .dx = view(dx, shape),
                                  .dweight = dweight,
                                  .dbias = dbias});
      const auto expected =
          reference::layer_norm_backward(shape, to_double(dy), to_double(x), {}, 1e-5);
      EXPECT_LT(rms_error(dx, expected.dx), kBackward);
      EXPECT_LT(rms_error(dweight, expected.dweight), kSums);
      EXPECT_LT(rms_error(dbias, expected.dbias), kSums);
    }
  });
}

// dweight and dbias sum over samples and positions, as BatchNorm's do.
TEST(Accuracy, GroupNorm) {
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      for (const double mean : {0.0, 1e4, 1e6}) {
        const Shape shape{10, 12, 300, layout};
        SCOPED_TRACE(name_of(shape) + " mean " + std::to_string(mean));
        const auto x = random_values<float>(shape.size(), mean, 1);
        const auto dy = random_values<float>(shape.size(), 0, 1, 2);
        const GroupNormOptions options{.groups = 4};
        std::vector<double> saved_mean(40), rstd(40);
        std::vector<float> y(x.size()), dx(x.size()), dweight(12), dbias(12);
        group_norm_forward<float>(
            {.x = view(x, shape), .mean = saved_mean, .rstd = rstd, .y = view(y, shape)}, options);
        EXPECT_LT(rms_error(y, reference::group_norm(shape, 4, to_double(x), {}, {}, 1e-5).y),
                  kForward);
        if (mean > 0) continue;  // the stored mean is rounded to float
        group_norm_backward<float>({.dy = view(dy, shape),
                                    .x = view(x, shape),
                                    .mean = saved_mean,
                                    .rstd = rstd,
                                    .dx = view(dx, shape),
                                    .dweight = dweight,
                                    .dbias = dbias},
                                   options);
        const auto expected =
            reference::group_norm_backward(shape, 4, to_double(dy), to_double(x), {}, 1e-5);
        EXPECT_LT(rms_error(dx, expected.dx), kBackward);
        EXPECT_LT(rms_error(dweight, expected.dweight), kSums);
        EXPECT_LT(rms_error(dbias, expected.dbias), kSums);
      }
    }
  });
}

TEST(Accuracy, RmsNorm) {
  for_each_target([] {
    for (const double mean : {0.0, 1e4}) {
      const Shape shape{500, 200};
      SCOPED_TRACE(mean);
      const auto x = random_values<float>(shape.size(), mean, 1);
      const auto dy = random_values<float>(shape.size(), 0, 1, 2);
      std::vector<double> rstd(500);
      std::vector<float> y(x.size()), dx(x.size()), dweight(200);
      rms_norm_forward<float>({.x = view(x, shape), .rstd = rstd, .y = view(y, shape)});
      EXPECT_LT(rms_error(y, reference::rms_norm(shape, to_double(x), {}, 1e-5).y), kForward);
      if (mean > 0) continue;  // dx is then a small difference of g and x^ * mean(g*x^)
      rms_norm_backward<float>({.dy = view(dy, shape),
                                .x = view(x, shape),
                                .rstd = rstd,
                                .dx = view(dx, shape),
                                .dweight = dweight});
      const auto expected =
          reference::rms_norm_backward(shape, to_double(dy), to_double(x), {}, 1e-5);
      EXPECT_LT(rms_error(dx, expected.dx), kBackward);
      EXPECT_LT(rms_error(dweight, expected.dweight), kSums);
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
