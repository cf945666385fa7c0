// BatchNorm's running statistics, exact population statistics and identity initialization.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

struct Running {
  std::vector<float> mean = {10, 20}, var = {1, 2};
  std::int64_t batches = 0, skipped = 0;

  RunningStatistics<float> view() {
    return {.mean = mean, .var = var, .batches = &batches, .skipped = &skipped};
  }
  void forward(const std::vector<float>& x, RunningUpdate update) {
    const Shape shape{static_cast<std::int64_t>(x.size()) / 2, 2};
    std::vector<float> y(x.size());
    batch_norm_forward<float>(
        {.x = testing::view(x, shape), .running = view(), .y = testing::view(y, shape)},
        {.update = update});
  }
};

// Channel 0 is {1, 3}: mean 2, unbiased variance 2; channel 1 {2, 8}: 5 and 18.
const std::vector<float> kBatch = {1, 2, 3, 8};

TEST(RunningStatistics, MovingAverageWeighsTheNewBatch) {
  Running running;
  running.forward(kBatch, RunningUpdate::moving_average(0.25));
  EXPECT_EQ(running.mean, (std::vector<float>{8, 16.25f}));
  EXPECT_EQ(running.var, (std::vector<float>{1.25f, 6}));
  EXPECT_EQ(running.batches, 1);
}

TEST(RunningStatistics, ExtremeWeights) {
  Running running;
  running.forward(kBatch, RunningUpdate::moving_average(0));
  EXPECT_EQ(running.mean, Running().mean);
  running.forward(kBatch, RunningUpdate::moving_average(1));
  EXPECT_EQ(running.mean, (std::vector<float>{2, 5}));
  EXPECT_EQ(running.var, (std::vector<float>{2, 18}));
}

// The first batch replaces the initial values; then the plain average.
TEST(RunningStatistics, CumulativeIsThePlainAverage) {
  Running running;
  running.forward(kBatch, RunningUpdate::cumulative());
  EXPECT_EQ(running.mean, (std::vector<float>{2, 5}));
  running.forward({5, 5, 7, 5}, RunningUpdate::cumulative());
  EXPECT_EQ(running.mean, (std::vector<float>{4, 5}));
  EXPECT_EQ(running.var, (std::vector<float>{2, 9}));
  EXPECT_EQ(running.batches, 2);
}

TEST(RunningStatistics, NoUpdateTouchesNothing) {
  Running running;
  running.forward(kBatch, RunningUpdate::none());
  EXPECT_EQ(running.mean, Running().mean);
  EXPECT_EQ(running.batches, 0);
}

TEST(RunningStatistics, ABatchThatIsNotFiniteIsSkippedAndCounted) {
  for (const float bad : {std::nanf(""), HUGE_VALF, 3e38f}) {
    Running running;
    running.forward({1, 2, bad, 8}, RunningUpdate::moving_average(0.5));
    EXPECT_EQ(running.mean, Running().mean);
    EXPECT_EQ(running.var, Running().var);
    EXPECT_EQ(running.batches, 0);
    EXPECT_EQ(running.skipped, 1);
    running.forward(kBatch, RunningUpdate::moving_average(0.5));
    EXPECT_EQ(running.mean, (std::vector<float>{6, 12.5f}));
  }
}

// A count that is none would give a mean of NaN, or overflow.
TEST(RunningStatistics, CountsThatAreNoneAreRefused) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t count :
       {std::int64_t{-1}, std::numeric_limits<std::int64_t>::min(), most}) {
    for (const auto update : {RunningUpdate::cumulative(), RunningUpdate::moving_average(0.5)}) {
      for (const bool skipped : {false, true}) {
        Running running;
        (skipped ? running.skipped : running.batches) = count;
        expect_error([&] { running.forward(kBatch, update); },
                     {skipped ? "running.skipped is " : "running.batches is ",
                      std::to_string(count), "expected a count"});
        EXPECT_EQ(running.mean, Running().mean);
        EXPECT_EQ(running.var, Running().var);
      }
    }
  }
  Running running;
  running.batches = most - 1;
  running.forward(kBatch, RunningUpdate::cumulative());
  EXPECT_EQ(running.batches, most);
  EXPECT_EQ(running.mean, Running().mean);
}

TEST(RunningStatistics, UpdateAloneDoesWhatTheForwardDoes) {
  Running by_forward, alone;
  by_forward.forward(kBatch, RunningUpdate::moving_average(0.1));
  ChannelMoments batch(2);
  batch.add(view(kBatch, {2, 2}));
  update_running_statistics<float>(batch, RunningUpdate::moving_average(0.1), alone.view());
  EXPECT_EQ(alone.mean, by_forward.mean);
  EXPECT_EQ(alone.var, by_forward.var);
  EXPECT_EQ(alone.batches, 1);
  ChannelMoments single(2);
  single.add(TensorView<const float>(kBatch.data(), {1, 2}));
  expect_error(
      [&] {
        update_running_statistics<float>(single, RunningUpdate::moving_average(0.1), alone.view());
      },
      {"at least 2"});
}

// weight = sqrt(var + eps), bias = mean undo the normalization: y = x up to the rounding of the
// coefficients, about an ulp of the largest term.
TEST(IdentityInit, RestoresTheInput) {
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    for (const double mean : {0.0, 1e4}) {
      const Shape shape{16, 3, 10, layout};
      const auto x = random_values<float>(shape.size(), mean, 3);
      ChannelMoments moments(3);
      moments.add(view(x, shape));
      std::vector<float> weight(3), bias(3), y(x.size());
      batch_norm_identity_init<float>(moments, 1e-5, weight, bias);
      batch_norm_forward<float>(
          {.x = view(x, shape), .weight = weight, .bias = bias, .y = view(y, shape)});
      expect_close(
          y, to_double(x), [&](std::size_t) { return 4 * unit<float>() * (mean + 15); }, "y");
    }
  }
}

TEST(IdentityInit, RefusesWrongSizes) {
  ChannelMoments moments(3);
  std::vector<float> three(3), two(2);
  expect_error([&] { batch_norm_identity_init<float>(moments, 1e-5, three, three); },
               {"no values"});
  moments.add(view(three, {1, 3}));
  expect_error([&] { batch_norm_identity_init<float>(moments, 1e-5, two, three); },
               {"weight has 2", "expected 3"});
  expect_error([&] { batch_norm_identity_init<float>(moments, -1, three, three); }, {"eps"});
}

// Batches cut anywhere give the statistics of the whole data set; as running statistics they
// normalize it to mean 0 and variance 1.
TEST(PopulationStatistics, AreThoseOfTheWholeDataSet) {
  const Shape shape{1000, 4};
  const auto x = random_values<float>(shape.size(), 5, 3);
  ChannelMoments moments(4);
  for (std::int64_t n = 0; n < 1000; n += 7) {
    moments.add(
        TensorView<const float>(x.data() + n * 4, {std::min<std::int64_t>(7, 1000 - n), 4}));
  }
  std::vector<float> mean(4), var(4), y(x.size());
  for (std::int64_t c = 0; c < 4; ++c) {
    mean[static_cast<std::size_t>(c)] =
        static_cast<float>(moments.mean()[static_cast<std::size_t>(c)]);
    var[static_cast<std::size_t>(c)] = static_cast<float>(moments.biased_variance(c));
  }
  batch_norm_inference<float>({.x = view(x, shape), .mean = mean, .var = var, .y = view(y, shape)},
                              {.eps = 1e-12});
  ChannelMoments result(4);
  result.add(view(y, shape));
  for (std::int64_t c = 0; c < 4; ++c) {
    // The stored mean is rounded: an ulp of 5 against a standard deviation of 3.
    EXPECT_NEAR(result.mean()[static_cast<std::size_t>(c)], 0, 4 * unit<float>());
    EXPECT_NEAR(result.biased_variance(c), 1, 4 * sum_error<float>(1000));
  }
}

}  // namespace
}  // namespace evenkeel::testing
