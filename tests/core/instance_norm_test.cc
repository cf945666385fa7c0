// InstanceNorm against the reference, and how it moves the running statistics.
#include "evenkeel/instance_norm.h"

#include "tests/core/group_norm_case.h"

namespace evenkeel::testing {
namespace {

template <class T>
class InstanceNorm : public ::testing::Test {};
TYPED_TEST_SUITE(InstanceNorm, AllTypes, TypeName);

template <class T>
void expect_instance_norm(const GroupNormCase<T>& c) {
  const auto channels = static_cast<std::size_t>(c.shape.c);
  std::vector<T> y(c.x.size()), dx(c.x.size());
  std::vector<double> mean(c.normalized.mean.size()), rstd(mean.size());
  std::vector<Wide<T>> dweight(channels), dbias(channels);
  InstanceNormForward<T> forward{.x = view(c.x, c.shape),
                                 .weight = c.weight,
                                 .bias = c.bias,
                                 .mean = mean,
                                 .rstd = rstd,
                                 .y = view(y, c.shape)};
  instance_norm_forward<T>(forward, {.eps = c.eps});
  expect_close(
      y, c.y, [&](std::size_t i) { return c.y_bound(i); }, "y");
  expect_close(
      mean, c.normalized.mean, [&](std::size_t g) { return c.mean_bound(g); }, "mean");
  expect_close(
      rstd, c.normalized.rstd, [&](std::size_t g) { return c.rstd_bound(g); }, "rstd");
  auto in_place = c.x;
  forward.x = forward.y = view(in_place, c.shape);
  forward.mean = forward.rstd = {};
  instance_norm_forward<T>(forward, {.eps = c.eps});
  expect_same(in_place, y, "y in place of x");

  InstanceNormBackward<T> backward{.dy = view(c.dy, c.shape),
                                   .x = view(c.x, c.shape),
                                   .weight = c.weight,
                                   .mean = mean,
                                   .rstd = rstd,
                                   .dx = view(dx, c.shape),
                                   .dweight = dweight,
                                   .dbias = dbias};
  instance_norm_backward<T>(backward);
  expect_close(
      dx, c.gradients.dx, [&](std::size_t i) { return c.dx_bound(i); }, "dx");
  expect_close(
      dweight, c.gradients.dweight, [&](std::size_t i) { return c.dweight_bound(i); }, "dweight");
  expect_close(
      dbias, c.gradients.dbias, [&](std::size_t i) { return c.dbias_bound(i); }, "dbias");
  in_place = c.dy;
  backward.dx = view(in_place, c.shape);
  backward.dy = backward.dx;
  backward.dweight = backward.dbias = {};
  instance_norm_backward<T>(backward);
  expect_same(in_place, dx, "dx in place of dy");
  std::vector<Wide<T>> alone(channels);
  backward.dy = view(c.dy, c.shape);
  backward.dx = {};
  backward.dweight = alone;
  instance_norm_backward<T>(backward);
  EXPECT_EQ(alone, dweight);
  backward.dweight = {};
  backward.dbias = alone;
  instance_norm_backward<T>(backward);
  EXPECT_EQ(alone, dbias);
}

TYPED_TEST(InstanceNorm, MatchesTheReference) {
  int options = 0;  // each combination of weight and bias in turn
  for (const Shape& shape : group_norm_shapes()) {
    if (shape.s == 1) continue;
    SCOPED_TRACE(name_of(shape));
    for (const double mean : {0.3, large_mean<TypeParam>()}) {
      ++options;
      const GroupNormCase<TypeParam> c(
          shape, shape.c, {.mean = mean, .weight = (options & 1) != 0, .bias = (options & 2) != 0});
      for_each_target([&] { expect_instance_norm(c); });
    }
    if (::testing::Test::HasFailure()) return;
  }
}

struct Running {
  std::vector<float> mean = {10, 20}, var = {1, 2};
  std::int64_t batches = 0, skipped = 0;

  RunningStatistics<float> view() {
    return {.mean = mean, .var = var, .batches = &batches, .skipped = &skipped};
  }
};

// Two samples of two channels of two positions, channels first. Channel 0 is {1, 3} and {6, 10}:
// means 2 and 8, unbiased variances 2 and 8, so averages of 5 and 5. Channel 1 is {2, 8} and {4,
// 4}: means 5 and 4, unbiased variances 18 and 0, so averages of 4.5 and 9. The unbiased variance
// of channel 0 over the whole batch would be another, 46/3.
std::vector<float> batch_in(Layout layout) {
  return layout == Layout::channels_first ? std::vector<float>{1, 3, 2, 8, 6, 10, 4, 4}
                                          : std::vector<float>{1, 2, 3, 8, 6, 4, 10, 4};
}

void forward(const std::vector<float>& x, Layout layout, Running& running, RunningUpdate update) {
  const Shape shape{2, 2, 2, layout};
  std::vector<float> y(x.size());
  instance_norm_forward<float>(
      {.x = view(x, shape), .running = running.view(), .y = view(y, shape)}, {.update = update});
}

TEST(InstanceNormRunning, TakesAveragesOverTheSamples) {
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      Running running;
      forward(batch_in(layout), layout, running, RunningUpdate::moving_average(0.5));
      EXPECT_EQ(running.mean, (std::vector<float>{7.5F, 12.25F}));
      EXPECT_EQ(running.var, (std::vector<float>{3, 5.5F}));
      EXPECT_EQ(running.batches, 1);
      EXPECT_EQ(running.skipped, 0);
    }
  });
}

TEST(InstanceNormRunning, CumulativeIsThePlainAverage) {
  const Layout layout = Layout::channels_first;
  Running running;
  forward(batch_in(layout), layout, running, RunningUpdate::cumulative());
  EXPECT_EQ(running.mean, (std::vector<float>{5, 4.5F}));
  EXPECT_EQ(running.var, (std::vector<float>{5, 9}));
  // Every instance is {1, 3}: mean 2, unbiased variance 2.
  forward({1, 3, 1, 3, 1, 3, 1, 3}, layout, running, RunningUpdate::cumulative());
  EXPECT_EQ(running.mean, (std::vector<float>{3.5F, 3.25F}));
  EXPECT_EQ(running.var, (std::vector<float>{3.5F, 5.5F}));
  EXPECT_EQ(running.batches, 2);
}

TEST(InstanceNormRunning, NoUpdateTouchesNothing) {
  Running running;
  forward(batch_in(Layout::channels_first), Layout::channels_first, running, RunningUpdate::none());
  EXPECT_EQ(running.mean, Running().mean);
  EXPECT_EQ(running.var, Running().var);
  EXPECT_EQ(running.batches, 0);
}

// A value that is not finite, and one whose variance no float holds.
TEST(InstanceNormRunning, ABatchThatIsNotFiniteIsSkippedAndCounted) {
  for (const float bad : {std::nanf(""), HUGE_VALF, 3e38F}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      Running running;
      auto x = batch_in(layout);
      x[6] = bad;
      forward(x, layout, running, RunningUpdate::moving_average(0.5));
      EXPECT_EQ(running.mean, Running().mean);
      EXPECT_EQ(running.var, Running().var);
      EXPECT_EQ(running.batches, 0);
      EXPECT_EQ(running.skipped, 1);
    }
  }
}

}  // namespace
}  // namespace evenkeel::testing
