// BatchNorm's gradients against the reference, through an activation and a residual or not.
#include "tests/core/batch_norm_checks.h"

namespace evenkeel::testing {
namespace {

template <class T>
class BatchNormBackwardPass : public ::testing::Test {};
TYPED_TEST_SUITE(BatchNormBackwardPass, AllTypes, TypeName);

TYPED_TEST(BatchNormBackwardPass, MatchesTheReference) {
  for_each_batch([](const Shape& shape) {
    // At a std of 2 rstd is 1/2; two equal values in a channel would make it 1/sqrt(eps).
    for (const double mean : {0.3, large_mean<TypeParam>()}) {
      const BatchNormCase<TypeParam> c(shape, {.mean = mean, .weight = mean < 1});
      for_each_target([&] { expect_batch_norm_backward(c); });
    }
  });
}

TYPED_TEST(BatchNormBackwardPass, ThroughWhatFollowsMatchesTheReference) {
  for_each_batch([](const Shape& shape) {
    for (const bool residual : {false, true}) {
      const BatchNormCase<TypeParam> c(shape,
                                       {.residual = residual, .activation = Activation::relu});
      for_each_target([&] { expect_batch_norm_backward(c); });
    }
  });
}

// Statistics that are given let nothing through: dx = weight * rstd * dy.
TYPED_TEST(BatchNormBackwardPass, WithGivenStatistics) {
  using T = TypeParam;
  for (const auto& [n, c, s] : std::vector<std::array<std::int64_t, 3>>{
           {3, 2, 5}, {50, 17, 49}, {129, 100, 1}, {2, 3, 3025}, {1, 5, 1}, {50, 2, 2}}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape{n, c, s, layout};
      SCOPED_TRACE(name_of(shape));
      const auto x = random_values<T>(shape.size(), 1, 2),
                 residual = random_values<T>(shape.size(), 0, 1, 2);
      const auto mean = random_values<double>(c, 1, 1, 3),
                 rstd = random_values<double>(c, 1, 0.1, 4);
      const auto weight = random_values<Wide<T>>(c, 1, 0.5, 5),
                 bias = random_values<Wide<T>>(c, 0, 1, 6);
      Values variance;
      for (const auto r : rstd) variance.push_back(std::pow(static_cast<double>(r), -2));
      const Values before = reference::add(
          reference::batch_norm_inference(shape, to_double(x), to_double(weight), to_double(bias),
                                          to_double(mean), variance, 0),
          to_double(residual));
      for (const Activation activation : {Activation::none, Activation::relu}) {
        auto dy = random_values<T>(shape.size(), 0.1, 1, 7);
        Values masked = to_double(dy);
        if (activation == Activation::relu) {
          for (std::size_t i = 0; i < dy.size(); ++i) {
            // Terms of at most 40, rounded six times, may change sign.
            if (std::abs(before[i]) < 6 * 40 * unit<T>()) dy[i] = from_double<T>(0);
          }
          masked = reference::activate_backward(to_double(dy), before, activation);
        }
        const auto expected = reference::batch_norm_given_backward(
            shape, masked, to_double(x), to_double(weight), to_double(mean), variance, 0);
        Values sum(weight.size()), sum_x(weight.size());
        for (std::size_t i = 0; i < dy.size(); ++i) {
          const std::size_t ch = channel_of(shape, i);
          sum[ch] += std::abs(masked[i]);
          sum_x[ch] += std::abs(masked[i] * (to_double(x[i]) - static_cast<double>(mean[ch]))) *
                       static_cast<double>(rstd[ch]);
        }
        const double error = sum_error<T>(shape.per_channel()) + 4 * unit<T>();
        for_each_target([&] {
          BatchNormGradients<T> out(shape);
          BatchNormBackward<T> args{.dy = view(dy, shape),
                                    .x = view(x, shape),
                                    .weight = weight,
                                    .bias = bias,
                                    .mean = mean,
                                    .rstd = rstd,
                                    .residual = view(residual, shape)};
          out.take(args);
          batch_norm_backward<T>(args, {.statistics = Statistics::given, .activation = activation});
          // The rounded product of two coefficients, and its product with dy; the reference, too,
          // rounds its rstd three times.
          expect_close(
              out.dx, expected.dx,
              [&](std::size_t i) {
                return (3 * unit<T>() + 4 * unit<double>()) * std::abs(expected.dx[i]);
              },
              "dx");
          expect_close(
              out.dbias, expected.dbias, [&](std::size_t i) { return error * sum[i]; }, "dbias");
          expect_close(
              out.dweight, expected.dweight, [&](std::size_t i) { return error * sum_x[i]; },
              "dweight");
          EXPECT_EQ(to_double(out.dresidual), masked);
          BatchNormGradients<T> alone(shape);
          alone.take(args);
          args.dweight = {};
          args.dbias = {};
          batch_norm_backward<T>(args, {.statistics = Statistics::given, .activation = activation});
          expect_same(alone.dx, out.dx, "dx without sums");
          expect_same(alone.dresidual, out.dresidual, "dresidual without sums");
        });
        if (::testing::Test::HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace evenkeel::testing
