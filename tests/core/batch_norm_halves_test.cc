// BatchNorm of a batch that is spread over several processes: moments merged, forward with given
// moments, gradient sums added up, backward from sums. Each step is that of the whole batch.
#include "tests/core/batch_norm_checks.h"

namespace evenkeel::testing {
namespace {

template <class T>
class BatchNormHalves : public ::testing::Test {};
TYPED_TEST_SUITE(BatchNormHalves, AllTypes, TypeName);

// Samples of each piece: uneven ones, none, and a single one, which with one position is a single
// value per channel.
const std::vector<std::int64_t> kPieces = {5, 0, 1, 13, 2};
constexpr std::int64_t kSamples = 21;

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const auto& [c, s] : std::vector<std::array<std::int64_t, 2>>{
           {1, 1}, {3, 1}, {40, 1}, {5, 3}, {17, 49}, {4, 300}, {2, 3025}}) {
    all.push_back({kSamples, c, s, Layout::channels_first});
    all.push_back({kSamples, c, s, Layout::channels_last});
  }
  return all;
}

// A piece of a tensor: some of its samples.
template <class V>
auto samples_of(std::vector<V>& values, std::int64_t first, const Shape& piece) {
  return TensorView<V>(values.data() + first * piece.c * piece.s, piece);
}
template <class V>
auto samples_of(const std::vector<V>& values, std::int64_t first, const Shape& piece) {
  if (values.empty()) return TensorView<const V>();
  return TensorView<const V>(values.data() + first * piece.c * piece.s, piece);
}

// Calls f(first sample, shape) for each piece of a batch.
template <class F>
void for_each_piece(const Shape& whole, const F& f) {
  std::int64_t first = 0;
  for (const std::int64_t n : kPieces) {
    f(first, Shape{n, whole.c, whole.s, whole.layout});
    first += n;
  }
}

template <class T>
ChannelMoments merged_moments(const BatchNormCase<T>& c) {
  ChannelMoments batch(c.shape.c);
  for_each_piece(c.shape, [&](std::int64_t first, const Shape& shape) {
    ChannelMoments of_piece(shape.c);
    of_piece.add(samples_of(c.x, first, shape));
    batch.merge(of_piece);
  });
  return batch;
}

template <class T>
void expect_halves(const BatchNormCase<T>& c) {
  const auto channels = static_cast<std::size_t>(c.shape.c);
  const ChannelMoments batch = merged_moments(c);
  ASSERT_EQ(batch.count(), static_cast<double>(c.shape.per_channel()));
  std::vector<T> y(c.x.size());
  std::vector<double> mean(channels), rstd(channels);
  for_each_piece(c.shape, [&](std::int64_t first, const Shape& shape) {
    std::vector<double> mean_of_piece(channels), rstd_of_piece(channels);
    batch_norm_forward<T>({.x = samples_of(c.x, first, shape),
                           .weight = c.weight,
                           .bias = c.bias,
                           .mean = mean_of_piece,
                           .rstd = rstd_of_piece,
                           .residual = samples_of(c.residual, first, shape),
                           .y = samples_of(y, first, shape)},
                          batch, c.options());
    if (first > 0) {
      EXPECT_EQ(mean_of_piece, mean);
      EXPECT_EQ(rstd_of_piece, rstd);
    }
    mean = mean_of_piece;
    rstd = rstd_of_piece;
  });
  expect_close(
      y, c.y, [&](std::size_t i) { return c.y_bound(i); }, "y");
  expect_close(
      mean, c.normalized.mean, [&](std::size_t i) { return c.mean_bound(i); }, "mean");
  expect_close(
      rstd, c.normalized.rstd, [&](std::size_t i) { return c.rstd_bound(i); }, "rstd");

  const BatchNormBackwardOptions options{.activation = c.activation};
  const auto backward_of = [&](std::int64_t first, const Shape& shape) {
    return BatchNormBackward<T>{.dy = samples_of(c.dy, first, shape),
                                .x = samples_of(c.x, first, shape),
                                .weight = c.weight,
                                .bias = c.bias,
                                .mean = mean,
                                .rstd = rstd,
                                .residual = samples_of(c.residual, first, shape)};
  };
  std::vector<double> sum_dy(channels), sum_dy_x(channels), dweight(channels), dbias(channels);
  for_each_piece(c.shape, [&](std::int64_t first, const Shape& shape) {
    std::vector<double> dy(channels, 7), dy_x(channels, 7);
    std::vector<Wide<T>> dweight_of_piece(channels, 7), dbias_of_piece(channels, 7);
    BatchNormBackward<T> args = backward_of(first, shape);
    args.dweight = dweight_of_piece;
    args.dbias = dbias_of_piece;
    batch_norm_gradient_sums<T>(args, {.dy = dy, .dy_x = dy_x}, options);
    std::vector<double> again(channels), again_x(channels);
    batch_norm_gradient_sums<T>(backward_of(first, shape), {.dy = again, .dy_x = again_x}, options);
    EXPECT_EQ(again, dy);
    EXPECT_EQ(again_x, dy_x);
    for (std::size_t i = 0; i < channels; ++i) {
      sum_dy[i] += dy[i];
      sum_dy_x[i] += dy_x[i];
      dweight[i] += static_cast<double>(dweight_of_piece[i]);
      dbias[i] += static_cast<double>(dbias_of_piece[i]);
      if (shape.n == 0) {
        EXPECT_EQ(dy[i], 0);
        EXPECT_EQ(dy_x[i], 0);
        EXPECT_EQ(dweight_of_piece[i], 0);
        EXPECT_EQ(dbias_of_piece[i], 0);
      }
    }
  });
  expect_close(
      dweight, c.gradients.dweight, [&](std::size_t i) { return c.dweight_bound(i); }, "dweight");
  expect_close(
      dbias, c.gradients.dbias, [&](std::size_t i) { return c.dbias_bound(i); }, "dbias");

  std::vector<T> dx(c.x.size()), dresidual(c.x.size()), in_place = c.dy;
  for_each_piece(c.shape, [&](std::int64_t first, const Shape& shape) {
    BatchNormBackward<T> args = backward_of(first, shape);
    args.dx = samples_of(dx, first, shape);
    args.dresidual = samples_of(dresidual, first, shape);
    batch_norm_backward<T>(args, {.dy = sum_dy, .dy_x = sum_dy_x}, batch.count(), options);
    args.dx = samples_of(in_place, first, shape);
    args.dy = args.dx;
    args.dresidual = {};
    batch_norm_backward<T>(args, {.dy = sum_dy, .dy_x = sum_dy_x}, batch.count(), options);
  });
  expect_close(
      dx, c.gradients.dx, [&](std::size_t i) { return c.dx_bound(i); }, "dx");
  expect_close(
      dresidual, c.passed.dy, [&](std::size_t i) { return c.passed.error[i]; }, "dresidual");
  expect_same(in_place, dx, "dx in place of dy");
}

TYPED_TEST(BatchNormHalves, TogetherAreTheWholeBatch) {
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(name_of(shape));
    for (const BatchNormTraits& traits :
         {BatchNormTraits{.mean = large_mean<TypeParam>()},
          {.weight = false, .bias = false},
          {.residual = true, .activation = Activation::relu},
          {.activation = Activation::silu},
          {.residual = true, .activation = Activation::leaky_relu(0.125)}}) {
      const BatchNormCase<TypeParam> c(shape, traits);
      for_each_target([&] { expect_halves(c); });
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// The running statistics move by the given moments, not by those of the piece; by each process
// once.
TYPED_TEST(BatchNormHalves, RunningStatisticsAreThoseOfTheWholeBatch) {
  using T = TypeParam;
  const BatchNormCase<T> c({kSamples, 5, 3}, {});
  for_each_target([&] {
    const ChannelMoments batch = merged_moments(c);
    std::vector<Wide<T>> alone_mean(5, 1);
    std::vector<Wide<T>> alone_var(5, 2);
    update_running_statistics<T>(batch, RunningUpdate::moving_average(0.25),
                                 {.mean = alone_mean, .var = alone_var});
    for_each_piece(c.shape, [&](std::int64_t first, const Shape& shape) {
      std::vector<Wide<T>> mean(5, 1), var(5, 2);
      std::vector<T> y(static_cast<std::size_t>(shape.size()));
      std::int64_t batches = 0;
      batch_norm_forward<T>({.x = samples_of(c.x, first, shape),
                             .running = {.mean = mean, .var = var, .batches = &batches},
                             .y = view(y, shape)},
                            batch, {.update = RunningUpdate::moving_average(0.25)});
      EXPECT_EQ(batches, 1);
      EXPECT_EQ(mean, alone_mean);
      EXPECT_EQ(var, alone_var);
      for (std::size_t i = 0; i < 5; ++i) {
        const double n = static_cast<double>(c.shape.per_channel());
        const double unbiased = c.normalized.variance[i] * n / (n - 1);
        // A quarter of the error of the statistics, and the rounding of the result. The variance is
        // off by twice what rstd is, relative to itself.
        EXPECT_NEAR(static_cast<double>(mean[i]), 0.75 + c.normalized.mean[i] / 4,
                    c.mean_bound(i) + 2 * unit<T>());
        EXPECT_NEAR(
            static_cast<double>(var[i]), 1.5 + unbiased / 4,
            unbiased * c.rstd_bound(i) / c.normalized.rstd[i] + 2 * unit<T>() * (2 + unbiased));
      }
    });
  });
}

TEST(BatchNormHalvesErrors, NameTheArgument) {
  const Shape shape{1, 3};
  const std::vector<float> x = {1, 2, 3}, ones(3, 1);
  const std::vector<double> three(3), two(2);
  std::vector<float> y(3, 42), more(3, 42);
  std::vector<double> out(3, 42), short_out(2, 42);
  ChannelMoments batch(3), single(3), other(2);
  batch.add(view(x, shape));
  single.add(view(x, shape));
  batch.add(view(x, shape));
  const BatchNormForward<float> forward{.x = view(x, shape), .y = view(y, shape)};
  expect_error([&] { batch_norm_forward<float>(forward, other); }, {"batch_norm", "2", "3"});
  expect_error([&] { batch_norm_forward<float>(forward, single); }, {"batch_norm", "at least 2"});
  expect_error([&] { batch_norm_forward<float>(forward, ChannelMoments(3)); }, {"at least 2"});
  expect_error([&] { batch_norm_forward<float>(forward, batch, {.eps = 0}); }, {"eps is 0"});
  expect_error(
      [&] {
        batch_norm_forward<float>(forward, batch, {.update = RunningUpdate::moving_average(0.1)});
      },
      {"running.mean has 0"});

  const std::vector<double> statistics(3, 1);
  BatchNormBackward<float> backward{
      .dy = view(x, shape), .x = view(x, shape), .mean = statistics, .rstd = statistics};
  expect_error([&] { batch_norm_gradient_sums<float>(backward, {.dy = short_out, .dy_x = out}); },
               {"batch_norm_gradient_sums: ", "dy has 2 elements, expected 3"});
  expect_error([&] { batch_norm_gradient_sums<float>(backward, {.dy = out}); },
               {"batch_norm_gradient_sums: ", "dy_x has 0 elements, expected 3"});
  backward.dx = view(y, shape);
  expect_error([&] { batch_norm_backward<float>(backward, {.dy = three, .dy_x = two}, 6); },
               {"batch_norm_backward: ", "dy_x has 2 elements, expected 3"});
  for (const double count : {1.0, 0.0, -3.0, std::nan("")}) {
    expect_error([&] { batch_norm_backward<float>(backward, {.dy = three, .dy_x = three}, count); },
                 {"batch_norm_backward: ", "count"});
  }
  for (const bool weight : {false, true}) {
    auto args = backward;
    (weight ? args.dweight : args.dbias) = more;
    expect_error([&] { batch_norm_backward<float>(args, {.dy = three, .dy_x = three}, 6); },
                 {"batch_norm_backward: ", "dweight", "dbias"});
  }
  EXPECT_EQ(y, std::vector<float>(3, 42));
  EXPECT_EQ(more, y);
  EXPECT_EQ(out, std::vector<double>(3, 42));
  EXPECT_EQ(short_out, std::vector<double>(2, 42));
}

}  // namespace
}  // namespace evenkeel::testing
