// BatchNorm's gradients against the reference, through an activation and a residual or not.
#include "tests/core/batch_norm_case.h"

namespace evenkeel::testing {
namespace {

template <class T>
class BatchNormBackwardPass : public ::testing::Test {};
TYPED_TEST_SUITE(BatchNormBackwardPass, AllTypes, TypeName);

// dx, dresidual, dweight and dbias, each in memory of its own.
template <class T>
struct Outputs {
  std::vector<T> dx, dresidual;
  std::vector<Stat<T>> dweight, dbias;

  explicit Outputs(const Shape& shape)
      : dx(static_cast<std::size_t>(shape.size())),
        dresidual(dx.size()),
        dweight(static_cast<std::size_t>(shape.c)),
        dbias(dweight.size()) {}
  void take(BatchNormBackward<T>& args) {
    args.dx = view(dx, args.x.shape);
    args.dresidual = view(dresidual, args.x.shape);
    args.dweight = dweight;
    args.dbias = dbias;
  }
};

template <class T>
void expect_backward(const BatchNormCase<T>& c) {
  const auto channels = static_cast<std::size_t>(c.shape.c);
  std::vector<Stat<T>> mean(channels), rstd(channels);
  std::vector<T> y(c.x.size());
  BatchNormForward<T> forward = c.forward(y);
  forward.mean = mean;
  forward.rstd = rstd;
  batch_norm_forward<T>(forward, c.options());
  const BatchNormBackward<T> inputs = c.backward(mean, rstd);
  const auto run = [&](const BatchNormBackward<T>& args) {
    batch_norm_backward<T>(args, Statistics::batch, c.activation);
  };

  Outputs<T> out(c.shape);
  BatchNormBackward<T> args = inputs;
  out.take(args);
  run(args);
  expect_close(
      out.dx, c.gradients.dx, [&](std::size_t i) { return c.dx_bound(i); }, "dx");
  expect_close(
      out.dweight, c.gradients.dweight, [&](std::size_t i) { return c.dweight_bound(i); },
      "dweight");
  expect_close(
      out.dbias, c.gradients.dbias, [&](std::size_t i) { return c.dbias_bound(i); }, "dbias");
  for (std::size_t i = 0; i < y.size(); ++i) {
    // Nothing is computed that could round. And it agrees with the y that the forward gave.
    ASSERT_EQ(to_double(out.dresidual[i]), c.masked[i]) << "dresidual[" << i << "]";
    if (c.activation == Activation::none || to_double(c.dy[i]) == 0) continue;
    ASSERT_EQ(to_double(out.dresidual[i]) != 0, to_double(y[i]) > 0) << i;
  }

  // Each output in place of the inputs that it may replace, and each alone.
  auto dy = c.dy, residual = c.residual;
  args.dy = view(std::as_const(dy), c.shape);
  args.dx = view(dy, c.shape);
  args.dresidual = {};
  run(args);
  expect_same(dy, out.dx, "dx in place of dy");
  dy = c.dy;
  Outputs<T> second(c.shape);
  second.take(args);
  args.dresidual = view(dy, c.shape);
  run(args);
  expect_same(dy, out.dresidual, "dresidual in place of dy");
  expect_same(second.dx, out.dx, "dx, with dresidual in place of dy");
  if (!residual.empty()) {
    dy = c.dy;
    args.dx = view(dy, c.shape);
    args.residual = view(std::as_const(residual), c.shape);
    args.dresidual = view(residual, c.shape);
    run(args);
    expect_same(residual, out.dresidual, "dresidual in place of the residual");
    expect_same(dy, out.dx, "dx in place of dy, with dresidual in place of the residual");
  }
  Outputs<T> alone(c.shape);
  args = inputs;
  args.dweight = alone.dweight;
  run(args);
  EXPECT_EQ(alone.dweight, out.dweight);
  args.dweight = {};
  args.dresidual = view(alone.dresidual, c.shape);
  run(args);
  expect_same(alone.dresidual, out.dresidual, "dresidual alone");
}

TYPED_TEST(BatchNormBackwardPass, MatchesTheReference) {
  for_each_batch([](const Shape& shape) {
    // At a std of 2 rstd is 1/2; two equal values in a channel would make it 1/sqrt(eps).
    for (const double mean : {0.3, large_mean<TypeParam>()}) {
      const BatchNormCase<TypeParam> c(shape, {.mean = mean, .weight = mean < 1});
      for_each_target([&] { expect_backward(c); });
    }
  });
}

TYPED_TEST(BatchNormBackwardPass, ThroughWhatFollowsMatchesTheReference) {
  for_each_batch([](const Shape& shape) {
    for (const bool residual : {false, true}) {
      const BatchNormCase<TypeParam> c(shape,
                                       {.residual = residual, .activation = Activation::relu});
      for_each_target([&] { expect_backward(c); });
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
      const auto mean = random_values<Stat<T>>(c, 1, 1, 3),
                 rstd = random_values<Stat<T>>(c, 1, 0.1, 4),
                 weight = random_values<Stat<T>>(c, 1, 0.5, 5),
                 bias = random_values<Stat<T>>(c, 0, 1, 6);
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
          masked = reference::relu_backward(to_double(dy), before);
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
          Outputs<T> out(shape);
          BatchNormBackward<T> args{.dy = view(dy, shape),
                                    .x = view(x, shape),
                                    .weight = weight,
                                    .mean = mean,
                                    .rstd = rstd,
                                    .bias = bias,
                                    .residual = view(residual, shape)};
          out.take(args);
          batch_norm_backward<T>(args, Statistics::given, activation);
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
          Outputs<T> alone(shape);
          alone.take(args);
          args.dweight = {};
          args.dbias = {};
          batch_norm_backward<T>(args, Statistics::given, activation);
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
