// The kernels convert to and from the 16-bit types bit for bit as evenkeel/float16.h does, whatever
// instructions the target has for it: on every pattern, through operations that do nothing else.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
class KernelConversions : public ::testing::Test {
 public:
  // All patterns and some more, so that every vector has a remainder; `first` turns them.
  static constexpr std::size_t kSize = 65536 + 19;
  static std::vector<T> patterns(unsigned first = 0) {
    std::vector<T> values(kSize);
    for (std::size_t i = 0; i < kSize; ++i) {
      values[i].bits = static_cast<std::uint16_t>(first + i);
    }
    return values;
  }
  static float widen(T value) { return static_cast<float>(value); }

  // As a run, as a column, as a row of columns, as short runs and as narrow columns.
  static std::vector<Shape> shapes() {
    constexpr auto size = static_cast<std::int64_t>(kSize);
    static_assert(kSize % 7 == 0);
    return {{1, 1, size},
            {size, 1, 1},
            {1, size, 1},
            {size / 7, 1, 7},
            {size / 7, 7, 1},
            {1, 7, size / 7, Layout::channels_last},
            {1, size / 7, 7, Layout::channels_last},
            {1, size / 7, 7}};
  }
};
TYPED_TEST_SUITE(KernelConversions, NarrowTypes, TypeName);

// y = x * scale + 0: var + eps is exactly 1, and the product of x and a scale of few bits is exact
// in float. Half of them, say, is a tie for every other x; the larger and smaller scales lead
// beyond the largest number and below the smallest.
TYPED_TEST(KernelConversions, OfBatchNorm) {
  using T = TypeParam;
  const auto x = this->patterns();
  for (const float scale :
       {1.0F, 1.5F, 1.125F, 1 + 0x1p-8F, 1 + 0x1p-11F, -0x1.8p12F, 0x1.8p-12F}) {
    SCOPED_TRACE(scale);
    std::vector<T> expected;
    for (const T v : x) expected.emplace_back(this->widen(v) * scale + 0.0F);
    for_each_target([&] {
      for (const Shape& shape : this->shapes()) {
        SCOPED_TRACE(name_of(shape));
        const auto channels = static_cast<std::size_t>(shape.c);
        const std::vector<float> weight(channels, scale), bias(channels, 0), mean(channels, 0),
            var(channels, 0.5F);
        std::vector<T> y(x.size());
        batch_norm_inference<T>({.x = view(x, shape),
                                 .weight = weight,
                                 .bias = bias,
                                 .mean = mean,
                                 .var = var,
                                 .y = view(y, shape)},
                                {.eps = 0.5});
        expect_same(y, expected, "y");
      }
    });
  }
}

// The sum of x and the residual is computed in float and rounded once. All pairs would be 2^32:
// these are every x with a residual nearby, whose sums tie often, and with one of any size.
TYPED_TEST(KernelConversions, OfLayerNormSums) {
  using T = TypeParam;
  const auto x = this->patterns();
  for (const unsigned distance : {1U, 127U, 0x0403U, 0x8001U, 0x5555U}) {
    SCOPED_TRACE(distance);
    const auto residual = this->patterns(distance);
    std::vector<T> expected;
    for (std::size_t i = 0; i < x.size(); ++i) {
      expected.emplace_back(this->widen(x[i]) + this->widen(residual[i]));
    }
    for_each_target([&] {
      for (const auto& [n, c] :
           {std::array<std::int64_t, 2>{1, this->kSize}, {this->kSize / 7, 7}}) {
        const Shape shape{n, c};
        std::vector<T> y(x.size()), sum(x.size());
        layer_norm_forward<T>({.x = view(x, shape),
                               .residual = view(residual, shape),
                               .sum = view(sum, shape),
                               .y = view(y, shape)});
        expect_same(sum, expected, "sum");
      }
    });
  }
}

// y = x / base with a base of 1/k: a power of two, so y is x with another exponent.
TYPED_TEST(KernelConversions, OfLocalResponseNorm) {
  using T = TypeParam;
  const auto x = this->patterns();
  for (const float factor : {1.0F, 4.0F, 0.125F}) {
    SCOPED_TRACE(factor);
    std::vector<T> clean = x, expected;
    for (T& v : clean) {
      // The square must not overflow, or 0 * infinity hides what is tested.
      if (!(std::abs(this->widen(v)) < 1e18F)) v.bits = 0;
    }
    for (const T v : clean) expected.emplace_back(this->widen(v) * factor);
    for_each_target([&] {
      for (const Shape& shape : this->shapes()) {
        SCOPED_TRACE(name_of(shape));
        std::vector<T> y(x.size());
        local_response_norm_forward<T>({.x = view(clean, shape), .y = view(y, shape)},
                                       {1, 1, 0, 1, 1 / static_cast<double>(factor)});
        expect_same(y, expected, "y");
      }
    });
  }
}

}  // namespace
}  // namespace evenkeel::testing
