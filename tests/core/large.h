// Tensors larger than any cache, whose outputs the kernels may write past it. The reference would
// take minutes: each value is computed from its formula with the statistics that came out, and
// those are summed again in double; or it is compared bitwise with the same samples in small
// batches. Data begin one element into their memory, so that no vector of them is aligned.
#pragma once

#include "tests/core/testing.h"

namespace evenkeel::testing {

// Of one tensor. A pass over two or more of them is larger than the caches that the library reckons
// with.
inline constexpr std::int64_t kBytes = 34 << 20;

// A short table again and again: millions of random numbers would cost more than the operation.
template <class T>
std::vector<T> repeated_values(std::size_t size, double mean, unsigned seed) {
  const auto table = random_values<T>(65521, mean, 1, seed);
  std::vector<T> values(size);
  for (std::size_t i = 0; i < size; ++i) values[i] = table[i % table.size()];
  return values;
}

template <class T>
TensorView<const T> input(const std::vector<T>& values, const Shape& shape) {
  return {values.data() + 1, shape};
}
template <class T>
TensorView<T> output(std::vector<T>& values, const Shape& shape) {
  return {values.data() + 1, shape};
}

// Whether `actual` is a T within `bound` of `expected`, and rounded: rounding keeps order.
template <class T>
bool is_close(T actual, double expected, double bound) {
  return to_double(actual) >= to_double(from_double<T>(expected - bound)) &&
         to_double(actual) <= to_double(from_double<T>(expected + bound));
}

// Calls f(i, channel) for each element, in the order of memory.
template <class F>
void for_each_element(const Shape& shape, const F& f) {
  const bool first = shape.layout == Layout::channels_first;
  const std::int64_t middle = first ? shape.c : shape.s, inner = first ? shape.s : shape.c;
  std::size_t i = 0;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t m = 0; m < middle; ++m) {
      for (std::int64_t k = 0; k < inner; ++k) f(i++, static_cast<std::size_t>(first ? m : k));
    }
  }
}

// Calls f(first, n) for batches of at most `most` samples.
template <class F>
void in_small_batches(std::int64_t samples, std::int64_t most, const F& f) {
  for (std::int64_t first = 0; first < samples; first += most) {
    f(first, std::min(most, samples - first));
  }
}

using LargeTypes = ::testing::Types<float, BFloat16>;

// How many elements of T such a tensor has.
template <class T>
constexpr std::int64_t large_size() {
  return kBytes / static_cast<std::int64_t>(sizeof(T));
}

}  // namespace evenkeel::testing
