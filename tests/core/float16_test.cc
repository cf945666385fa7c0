// The conversions of evenkeel/float16.h, against the definitions of the two formats: every pattern
// is widened, and a float is narrowed to the nearest of all numbers that there are.
#include "evenkeel/float16.h"

#include <bit>

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
struct Format;
template <>
struct Format<BFloat16> {
  static constexpr int stored = 7, bias = 127;
};
template <>
struct Format<Float16> {
  static constexpr int stored = 10, bias = 15;
};

template <class T>
class Conversions : public ::testing::Test {
 public:
  static constexpr int stored = Format<T>::stored, bias = Format<T>::bias;
  static constexpr unsigned infinity = 0x7fffU >> stored << stored;

  static T of_bits(unsigned bits) {
    T value;
    value.bits = static_cast<std::uint16_t>(bits);
    return value;
  }
  // IEEE 754: (-1)^sign * 1.m * 2^(e - bias), or 0.m * 2^(1 - bias) for e = 0. What would come
  // after the largest number stands for infinity, so that it is the upper neighbor in rounding.
  static double value_of(unsigned bits) {
    const int exponent = static_cast<int>((bits & 0x7fff) >> stored);
    const double fraction = std::ldexp(static_cast<double>(bits & ((1U << stored) - 1)), -stored);
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
    return bits & 0x8000 ? -magnitude : magnitude;
  }
  // The nearest number's bits; of two as near, those that are even.
  static unsigned nearest(double value) {
    const double magnitude = std::abs(value);
    unsigned below = 0, above = infinity;  // patterns ascend with their values
    if (magnitude >= value_of(above)) below = above;
    while (above - below > 1 && below < above) {
      const unsigned middle = (below + above) / 2;
      (value_of(middle) <= magnitude ? below : above) = middle;
    }
    const double down = magnitude - value_of(below), up = value_of(above) - magnitude;
    const unsigned bits = down < up || (down == up && below % 2 == 0) ? below : above;
    return std::signbit(value) ? bits | 0x8000 : bits;
  }
};
TYPED_TEST_SUITE(Conversions, NarrowTypes, TypeName);

TYPED_TEST(Conversions, EveryPatternWidens) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto actual = static_cast<float>(this->of_bits(bits));
    const unsigned magnitude = bits & 0x7fff;
    if (magnitude > this->infinity) {
      ASSERT_TRUE(std::isnan(actual)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(actual)))) << bits;
      continue;
    }
    const double expected =
        magnitude == this->infinity ? (bits & 0x8000 ? -HUGE_VAL : HUGE_VAL) : this->value_of(bits);
    ASSERT_EQ(static_cast<double>(actual), expected) << bits;
    ASSERT_EQ(std::signbit(actual), bits >= 0x8000) << bits;
    ASSERT_EQ(TypeParam(actual).bits, bits) << "there and back";
  }
}

// Around every place where the result changes: the numbers themselves, the ties halfway, and the
// floats next to both; subnormals and the way to infinity are among them.
TYPED_TEST(Conversions, FloatsGoToTheNearest) {
  const auto expect_nearest = [&](float value) {
    ASSERT_EQ(TypeParam(value).bits, this->nearest(static_cast<double>(value))) << value;
  };
  for (unsigned bits = 0; bits < this->infinity; ++bits) {
    for (const double sign : {1.0, -1.0}) {
      const double low = this->value_of(bits), high = this->value_of(bits + 1);
      for (const double at : {low, (low + high) / 2}) {
        const auto value = static_cast<float>(sign * at);
        ASSERT_EQ(static_cast<double>(value), sign * at);
        for (const float to : {-HUGE_VALF, HUGE_VALF}) expect_nearest(std::nextafterf(value, to));
        expect_nearest(value);
      }
    }
    if (::testing::Test::HasFatalFailure()) return;
  }
  for (const float value : {HUGE_VALF, std::numeric_limits<float>::max(), 65519.99F, 65520.0F,
                            std::numeric_limits<float>::denorm_min(), 0x1p-25F, 0x1.8p-25F}) {
    expect_nearest(value);
    expect_nearest(-value);
  }
}

TYPED_TEST(Conversions, AnyFloatGoesToTheNearest) {
  std::mt19937 bits(7);
  for (int i = 0; i < 1'000'000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits()));
    const TypeParam narrow(value);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(static_cast<float>(narrow)));
    } else {
      ASSERT_EQ(narrow.bits, this->nearest(static_cast<double>(value))) << value;
    }
  }
}

// A NaN whose only bits are those that narrowing cuts off must not become infinity.
TYPED_TEST(Conversions, NanStaysNan) {
  for (const std::uint32_t payload :
       {0x1U, 0x1000U, 0x1fffU, 0x8000U, 0xffffU, 0x400000U, 0x400001U, 0x7fffffU}) {
    for (const std::uint32_t sign : {0U, 0x80000000U}) {
      const auto nan = std::bit_cast<float>(sign | 0x7f800000U | payload);
      const unsigned bits = TypeParam(nan).bits;
      EXPECT_GT(bits & 0x7fff, this->infinity) << payload;
      EXPECT_EQ(bits & 0x8000, sign >> 16) << payload;
    }
  }
}

static_assert(BFloat16(1.0F).bits == 0x3f80 && Float16(1.0F).bits == 0x3c00);
static_assert(sizeof(BFloat16) == 2 && sizeof(Float16) == 2);

}  // namespace
}  // namespace evenkeel::testing
