#include "evenkeel/moments.h"

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
class MomentsOf : public ::testing::Test {};
TYPED_TEST_SUITE(MomentsOf, WideTypes, TypeName);

// condition: by how much more than M2 the shifted squares may sum to, at most 64 (moments-inl.h).
template <class T>
void expect_moments(const std::vector<T>& x, double condition) {
  const auto expected = reference::statistics_of(to_double(x));
  const Moments m = moments_of(std::span<const T>(x));
  const auto count = static_cast<double>(x.size());
  EXPECT_EQ(m.count, count);
  const double std = std::sqrt(expected.variance);
  EXPECT_NEAR(m.mean, expected.mean,
              sum_error<T>(std::ssize(x)) * std * std::sqrt(condition) +
                  4 * unit<double>() * std::abs(expected.mean));
  // Three times: the sum of squares carries it, and the square of the sum twice. Merging blocks, in
  // double, takes differences of means that are rounded to their own size.
  EXPECT_NEAR(m.biased_variance(), expected.variance,
              3 * condition * sum_error<T>(std::ssize(x)) * expected.variance +
                  4 * unit<double>() * (std::abs(expected.mean) * std + expected.variance));
}

TYPED_TEST(MomentsOf, EverySizeAroundTheVectorAndBlockLengths) {
  for_each_target([] {
    for (const std::int64_t size : {1,  2,  3,  4,  5,   7,    8,    9,    15,   16,   17,
                                    31, 63, 64, 65, 127, 4095, 4096, 4097, 4159, 8192, 10007}) {
      SCOPED_TRACE(size);
      expect_moments(random_values<TypeParam>(size, 0.5), size < 64 ? 64 : 2);
    }
  });
}

TYPED_TEST(MomentsOf, LargeOffsetsLoseNothing) {
  for_each_target([] {
    for (const double offset : {1e4, -1e4, 1e6, -1e6}) {
      SCOPED_TRACE(offset);
      expect_moments(random_values<TypeParam>(10007, offset), 2);
    }
  });
}

TYPED_TEST(MomentsOf, AConstantHasNoVarianceAtAll) {
  for_each_target([] {
    for (const double value : {0.0, 0.1, 1e6 + 0.3, -3.3e-20, 1e30}) {
      for (const std::int64_t size : {1, 5, 63, 64, 65, 4097, 9001}) {
        const std::vector<TypeParam> x(static_cast<std::size_t>(size),
                                       static_cast<TypeParam>(value));
        const Moments m = moments_of(std::span<const TypeParam>(x));
        EXPECT_EQ(m.m2, 0);
        EXPECT_EQ(m.mean, static_cast<double>(x[0]));
      }
    }
  });
}

// The worst placed values: an outlier among the first, and first values all unlike the rest.
TYPED_TEST(MomentsOf, AdversarialOrdersStayWithinTheBound) {
  for_each_target([] {
    auto outlier = random_values<TypeParam>(4096);
    outlier[0] = 1e6;
    expect_moments(outlier, 64);
    auto step = random_values<TypeParam>(4096, 1000, 0.01);
    std::fill_n(step.begin(), 64, TypeParam{0});
    expect_moments(step, 64);
    auto sorted = random_values<TypeParam>(10007, 1e5, 100);
    std::ranges::sort(sorted);
    expect_moments(sorted, 64);
  });
}

// An outlier that comes first is the worst shift there is: it would cost the factor 4096. The mean
// of 64 values costs 64 at most. The worst case of a sum is too wide a bound to tell the two apart,
// so this takes the usual one: rounding errors of either sign cancel but for some units.
TYPED_TEST(MomentsOf, AnOutlierThatComesFirstIsNoShift) {
  for_each_target([] {
    auto x = random_values<TypeParam>(4096, 0.37);
    x[0] = 12345;
    const double expected = reference::statistics_of(to_double(x)).variance;
    const double actual = moments_of(std::span<const TypeParam>(x)).biased_variance();
    EXPECT_NEAR(actual / expected, 1, 64 * 4 * unit<TypeParam>());
  });
}

TYPED_TEST(MomentsOf, NonFiniteValuesAreNotHidden) {
  for_each_target([] {
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      for (const std::size_t at : {0u, 70u, 4999u}) {
        auto x = random_values<TypeParam>(5000);
        x[at] = static_cast<TypeParam>(bad);
        EXPECT_FALSE(std::isfinite(moments_of(std::span<const TypeParam>(x)).m2));
      }
    }
  });
}

TEST(Moments, MergeIsTheMomentsOfTheUnion) {
  Moments a, b;
  for (const double v : {1.0, 2.0}) a.add(v);
  for (const double v : {3.0, 6.0}) b.add(v);
  a.merge(b);
  EXPECT_EQ(a.count, 4);
  EXPECT_DOUBLE_EQ(a.mean, 3);
  EXPECT_DOUBLE_EQ(a.biased_variance(), 3.5);
  EXPECT_DOUBLE_EQ(a.unbiased_variance(), 14.0 / 3);
}

TEST(Moments, EmptyGroups) {
  Moments a;
  a.merge({});
  EXPECT_EQ(a.count, 0);
  EXPECT_TRUE(std::isnan(a.biased_variance()));
  a.add(5);
  a.merge({});
  EXPECT_EQ(a.mean, 5);
  EXPECT_EQ(a.biased_variance(), 0);
  EXPECT_TRUE(std::isnan(a.unbiased_variance()));
  EXPECT_EQ(moments_of(std::span<const float>{}).count, 0);
}

}  // namespace
}  // namespace evenkeel::testing
