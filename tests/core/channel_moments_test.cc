// Moments per channel, through every geometry: long and short planes, wide and narrow columns.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
class MomentsOfChannels : public ::testing::Test {};
TYPED_TEST_SUITE(MomentsOfChannels, AllTypes, TypeName);

// condition: by how much more than M2 the shifted squares may sum to; at most 64, whatever the
// values (docs/numerics.md).
constexpr double kWorstCondition = 64;

template <class T>
void expect_moments(const Shape& shape, const std::vector<T>& x, double condition) {
  const auto expected = reference::batch_norm(shape, to_double(x), {}, {}, 1);
  const double error = sum_error<T>(shape.per_channel());
  for_each_target([&] {
    ChannelMoments moments(shape.c);
    moments.add(view(x, shape));
    ASSERT_EQ(moments.count(), static_cast<double>(shape.per_channel()));
    for (std::size_t c = 0; c < expected.mean.size(); ++c) {
      const double mean = expected.mean[c], variance = expected.variance[c];
      const double std = std::sqrt(variance);
      // As in moments_test.cc.
      ASSERT_NEAR(moments.mean()[c], mean,
                  error * std * std::sqrt(condition) + 4 * unit<double>() * std::abs(mean))
          << "channel " << c;
      ASSERT_NEAR(
          moments.biased_variance(static_cast<std::int64_t>(c)), variance,
          3 * condition * error * variance + 4 * unit<double>() * (std::abs(mean) * std + variance))
          << "channel " << c;
    }
  });
}

// The number of a value within its channel, in the order of memory.
std::int64_t place_of(const Shape& shape, std::size_t element) {
  const auto i = static_cast<std::int64_t>(element);
  return shape.layout == Layout::channels_last ? i / shape.c
                                               : i / (shape.c * shape.s) * shape.s + i % shape.s;
}

// N, C, S by the ways through the kernels: planes, short planes, columns, narrow columns.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const auto& [n, c, s] : std::vector<std::array<std::int64_t, 3>>{{129, 3, 49},
                                                                        {50, 17, 2},
                                                                        {129, 2, 15},
                                                                        {50, 3, 196},
                                                                        {6, 3, 784},
                                                                        {2, 2, 5000},
                                                                        {700, 1, 1},
                                                                        {700, 3, 1},
                                                                        {515, 40, 1},
                                                                        {64, 2, 256}}) {
    all.push_back({n, c, s, Layout::channels_first});
    all.push_back({n, c, s, Layout::channels_last});
  }
  return all;
}

TYPED_TEST(MomentsOfChannels, OfAnyShape) {
  for (const Shape& shape : test_shapes()) {
    SCOPED_TRACE(name_of(shape));
    expect_moments(shape, random_values<TypeParam>(shape.size(), 0.5), kWorstCondition);
    if (::testing::Test::HasFailure()) return;
  }
}

TYPED_TEST(MomentsOfChannels, LargeOffsetsLoseNothing) {
  if (kIs16Bit<TypeParam>) GTEST_SKIP() << "the type has no small differences of large values";
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(name_of(shape));
    for (const double offset : {1e4, -1e6}) {
      expect_moments(shape, random_values<TypeParam>(shape.size(), offset), kWorstCondition);
    }
    if (::testing::Test::HasFailure()) return;
  }
}

TYPED_TEST(MomentsOfChannels, AConstantHasNoVarianceAtAll) {
  using T = TypeParam;
  for (const Shape& shape : test_shapes()) {
    SCOPED_TRACE(name_of(shape));
    // Another constant in each channel.
    const auto constants = random_values<T>(shape.c, 30000, 10000);
    std::vector<T> x(static_cast<std::size_t>(shape.size()));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = constants[channel_of(shape, i)];
    for_each_target([&] {
      ChannelMoments moments(shape.c);
      moments.add(view(std::as_const(x), shape));
      for (std::size_t c = 0; c < constants.size(); ++c) {
        ASSERT_EQ(moments.mean()[c], to_double(constants[c])) << "channel " << c;
        ASSERT_EQ(moments.m2()[c], 0) << "channel " << c;
      }
    });
    if (::testing::Test::HasFailure()) return;
  }
}

// A first sample, or first value, that is far from all the others is the worst shift there is. The
// worst case of a sum is too wide a bound to show it, so this takes the usual one: rounding errors
// of either sign cancel but for some units (the root of the 64 values that a column adds up, and
// twice that to be sure), which the condition multiplies.
TYPED_TEST(MomentsOfChannels, AnOutlierThatComesFirstIsNoShift) {
  using T = TypeParam;
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(name_of(shape));
    for (const std::int64_t outliers : {std::int64_t{1}, shape.s, 2 * shape.s}) {
      if (outliers == shape.per_channel()) continue;
      auto x = random_values<T>(shape.size(), 0.37);
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (place_of(shape, i) < outliers) x[i] = from_double<T>(12345 + to_double(x[i]));
      }
      const auto expected = reference::batch_norm(shape, to_double(x), {}, {}, 1);
      for_each_target([&] {
        ChannelMoments moments(shape.c);
        moments.add(view(std::as_const(x), shape));
        for (std::size_t c = 0; c < expected.mean.size(); ++c) {
          ASSERT_NEAR(moments.m2()[c] / moments.count() / expected.variance[c], 1,
                      kWorstCondition * 16 * unit<T>())
              << "channel " << c << ", " << outliers << " outliers";
        }
      });
      if (::testing::Test::HasFailure()) return;
    }
  }
}

// Values that rise through the batch: every block has a mean of its own.
TYPED_TEST(MomentsOfChannels, SortedValues) {
  using T = TypeParam;
  for (const Shape& shape : shapes()) {
    SCOPED_TRACE(name_of(shape));
    auto sorted = random_values<T>(shape.per_channel(), kIs16Bit<T> ? 100 : 1e5, 100);
    std::ranges::sort(sorted, {}, [](T v) { return to_double(v); });
    std::vector<T> x(static_cast<std::size_t>(shape.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = sorted[static_cast<std::size_t>(place_of(shape, i))];
    }
    expect_moments(shape, x, kWorstCondition);
    if (::testing::Test::HasFailure()) return;
  }
}

// Any cut of a data set into batches, in either layout, gives the statistics of the whole.
TEST(ChannelMoments, BatchesMergeToTheWhole) {
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape whole{30, 5, 7, layout};
      const auto x = random_values<float>(whole.size(), 3, 2);
      const auto expected = reference::batch_norm(whole, to_double(x), {}, {}, 1);
      ChannelMoments moments(5), workers(5);
      std::int64_t begin = 0;
      for (const std::int64_t n : {1, 0, 16, 3}) {
        moments.add(TensorView<const float>(x.data() + begin * 35, {n, 5, 7, layout}));
        begin += n;
      }
      workers.add(TensorView<const float>(x.data() + begin * 35, {30 - begin, 5, 7, layout}));
      moments.merge(workers);
      EXPECT_EQ(moments.count(), 210);
      for (std::int64_t c = 0; c < 5; ++c) {
        const auto i = static_cast<std::size_t>(c);
        EXPECT_NEAR(moments.mean()[i], expected.mean[i], 4 * sum_error<float>(210) * 2);
        EXPECT_NEAR(moments.biased_variance(c), expected.variance[i],
                    3 * 17 * sum_error<float>(210) * expected.variance[i]);
        EXPECT_NEAR(moments.unbiased_variance(c), moments.biased_variance(c) * 210 / 209, 1e-12);
      }
      EXPECT_TRUE(moments.finite());
    }
  });
}

// Squares of values as they are would overflow; those of differences do not.
TEST(ChannelMoments, HugeValuesDoNotOverflow) {
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    const Shape shape{150, 2, 3, layout};
    const std::vector<double> x(static_cast<std::size_t>(shape.size()), -1e160);
    ChannelMoments moments(2);
    moments.add(view(x, shape));
    EXPECT_EQ(moments.mean()[1], -1e160);
    EXPECT_EQ(moments.m2()[1], 0);
  }
}

// Another process's moments arrive as numbers.
TEST(ChannelMoments, AreMadeFromTheirNumbers) {
  const Shape shape{9, 5, 7};
  const auto x = random_values<float>(shape.size(), 3, 2);
  ChannelMoments moments(5);
  moments.add(view(x, shape));
  const ChannelMoments again(moments.count(), moments.mean(), moments.m2());
  EXPECT_EQ(again.count(), 63);
  EXPECT_TRUE(std::ranges::equal(again.mean(), moments.mean()));
  EXPECT_TRUE(std::ranges::equal(again.m2(), moments.m2()));

  const std::vector<double> two(2), three(3), negative = {0, -1e-300};
  expect_error([&] { ChannelMoments(1, two, three); }, {"m2 has 3 elements", "expected 2"});
  expect_error([&] { ChannelMoments(-1, two, two); }, {"count is -1"});
  expect_error([&] { ChannelMoments(1.5, two, two); }, {"count is 1.5"});
  expect_error([&] { ChannelMoments(std::nan(""), two, two); }, {"count is nan"});
  expect_error([&] { ChannelMoments(4, two, negative); }, {"m2[1] is -1e-300"});
}

TEST(ChannelMoments, RefusesOtherChannels) {
  ChannelMoments moments(3);
  const std::vector<float> x(8);
  expect_error([&] { moments.add(view(x, {2, 4})); }, {"x has 4 channels", "expected 3"});
  expect_error([&] { moments.merge(ChannelMoments(2)); }, {"2 channels", "expected 3"});
  expect_error([] { ChannelMoments(-1); }, {"channels is -1"});
}

}  // namespace
}  // namespace evenkeel::testing
