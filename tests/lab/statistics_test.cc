#include "lab/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "evenkeel/error.h"

namespace evenkeel::lab {
namespace {

using Values = std::vector<double>;

// Of two values there are four resamples, with the means 0, 3, 3, 6. The 2.5% quantile is the 1st
// of them, the 97.5% one the 4th.
TEST(Statistics, BootstrapOfTwoByHand) {
  const Interval interval = bootstrap_mean(Values{0, 6});
  EXPECT_EQ(interval.mean, 3);
  EXPECT_EQ(interval.low, 0);
  EXPECT_EQ(interval.high, 6);
  EXPECT_EQ(interval.count, 2);
}

// Of {0, 0, 0, 4} the sum of a resample is 4 times how often the 4 is drawn, which is binomial with
// n = 4 and p = 1/4: 0 of 81/256, 1 of 108/256, 2 of 54/256, 3 of 12/256, 4 of 1/256. The
// lowest 2.5% are 6.4 resamples, all with mean 0; the mean is 3 or less for 255 of 256 and 2 or
// less for 243, and 97.5% are 249.6: the quantile is 3.
TEST(Statistics, BootstrapOfFourByHand) {
  const Interval interval = bootstrap_mean(Values{0, 0, 4, 0});
  EXPECT_EQ(interval.mean, 1);
  EXPECT_EQ(interval.low, 0);
  EXPECT_EQ(interval.high, 3);
}

// Of {0, 0, 3} the mean of a resample is how often the 3 is drawn: 0 of 8/27, 1 of 12/27, 2 of
// 6/27, 3 of 1/27. 97.5% of 27 are 26.3, so the quantile is the 27th; that of 95% would be the
// 26th, a 2. {0, 3, 3} is its mirror image: 2.5% are 0.7, the 1st; 5% would be the 2nd, a 1.
TEST(Statistics, BootstrapOfThreeByHandTellsItsQuantilesFromTheirNeighbors) {
  EXPECT_EQ(bootstrap_mean(Values{0, 0, 3}).low, 0);
  EXPECT_EQ(bootstrap_mean(Values{0, 0, 3}).high, 3);
  EXPECT_EQ(bootstrap_mean(Values{0, 3, 3}).low, 0);
  EXPECT_EQ(bootstrap_mean(Values{0, 3, 3}).high, 3);
}

TEST(Statistics, OneValueHasNoInterval) {
  const Interval interval = bootstrap_mean(Values{0.25});
  EXPECT_EQ(interval.mean, 0.25);
  EXPECT_FALSE(interval.known());
  EXPECT_TRUE(interval.above(0.2));
  EXPECT_FALSE(interval.above(0.25));
  EXPECT_TRUE(interval.below(0.3));
}

TEST(Statistics, NothingIsKnownOfNanOrNoValues) {
  for (const auto& values : {Values{}, Values{1, std::numeric_limits<double>::quiet_NaN(), 2}}) {
    const Interval interval = bootstrap_mean(values);
    EXPECT_TRUE(std::isnan(interval.mean));
    EXPECT_FALSE(interval.known());
    EXPECT_FALSE(interval.above(-1e300));
    EXPECT_FALSE(interval.below(1e300));
  }
}

TEST(Statistics, IntervalsAreAboveBelowOrContain) {
  const Interval interval = {.mean = 2, .low = 1, .high = 3, .count = 5};
  EXPECT_TRUE(interval.above(0.5));
  EXPECT_TRUE(interval.contains(1));
  EXPECT_TRUE(interval.contains(2.5));
  EXPECT_TRUE(interval.below(3.5));
  EXPECT_FALSE(interval.below(3));
}

// The seeds' own levels, far apart, cancel.
TEST(Statistics, PairsCancelWhatTheyShare) {
  const Interval paired = paired_difference(Values{1.5, 10.5, 100.5}, Values{1, 10, 100});
  EXPECT_EQ(paired.mean, 0.5);
  EXPECT_EQ(paired.low, 0.5);
  EXPECT_EQ(paired.high, 0.5);
  EXPECT_THROW(paired_difference(Values{1, 2}, Values{1}), Error);
}

// The geometric mean of 2 and 8 is 4; of two ratios the interval is the ratios themselves. An ulp
// or two are lost in log and exp.
TEST(Statistics, RatiosAreGeometric) {
  const Interval ratio = paired_ratio(Values{2, 80}, Values{1, 10});
  EXPECT_DOUBLE_EQ(ratio.mean, 4);
  EXPECT_DOUBLE_EQ(ratio.low, 2);
  EXPECT_DOUBLE_EQ(ratio.high, 8);
}

// Above 6 values resamples are random. The bootstrap's standard error of the mean of n values is
// their standard deviation (by n) over sqrt(n): 0.5 / sqrt(100) here, and the 95% interval reaches
// 1.96 of it to both sides. Of 10,000 resamples the quantile itself has a standard error of about
// 0.027 standard errors of the mean (sqrt(q (1 - q) / 10000) over the normal density at 1.96), and
// the means lie on a grid of 0.01 = 0.2 standard errors: 0.02 bounds both.
TEST(Statistics, ManyValuesAreResampledAtRandomButAlwaysAlike) {
  Values values(100, 0);
  for (std::size_t i = 0; i < 50; ++i) values[2 * i] = 1;
  const Interval interval = bootstrap_mean(values);
  EXPECT_EQ(interval.mean, 0.5);
  EXPECT_NEAR(interval.low, 0.5 - 1.96 * 0.05, 0.02);
  EXPECT_NEAR(interval.high, 0.5 + 1.96 * 0.05, 0.02);
  const Interval again = bootstrap_mean(values);
  EXPECT_EQ(interval.low, again.low);
  EXPECT_EQ(interval.high, again.high);
}

}  // namespace
}  // namespace evenkeel::lab
