// What the core's tests share: data, comparison, and running under every SIMD target.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "evenkeel/evenkeel.h"
#include "reference/reference.h"
#include "tests/core/tolerance.h"

namespace evenkeel::testing {

using reference::Values;

// The activation types, and their names in the names of typed tests.
using AllTypes = ::testing::Types<float, double, BFloat16, Float16>;
using WideTypes = ::testing::Types<float, double>;
using NarrowTypes = ::testing::Types<BFloat16, Float16>;
struct TypeName {
  template <class T>
  static std::string GetName(int) {
    if (std::is_same_v<T, BFloat16>) return "bf16";
    if (std::is_same_v<T, Float16>) return "f16";
    return std::is_same_v<T, double> ? "double" : "float";
  }
};

template <class T>
double to_double(const T& value) {
  if constexpr (kIs16Bit<T>) {
    return static_cast<double>(static_cast<float>(value));
  } else {
    return static_cast<double>(value);
  }
}
template <class T>
Values to_double(const std::vector<T>& values) {
  Values result;
  result.reserve(values.size());
  for (const T& v : values) result.push_back(to_double(v));
  return result;
}
template <class T>
T from_double(double value) {
  if constexpr (kIs16Bit<T>) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

// Values of a normal distribution, rounded to T: the reference gets the rounded ones.
template <class T>
std::vector<T> random_values(std::int64_t size, double mean = 0, double std = 1,
                             unsigned seed = 1) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(mean, std);
  std::vector<T> values(static_cast<std::size_t>(size));
  for (T& v : values) v = from_double<T>(normal(engine));
  return values;
}

// An offset at which T still resolves a standard deviation of 2.
template <class T>
constexpr double large_mean() {
  return std::is_same_v<T, BFloat16> ? 40 : std::is_same_v<T, Float16> ? 600 : 1e4;
}

template <class T>
TensorView<const T> view(const std::vector<T>& values, const Shape& shape) {
  return {values.data(), shape};
}
template <class T>
TensorView<T> view(std::vector<T>& values, const Shape& shape) {
  return {values.data(), shape};
}
// As view, but absent if there are no values.
template <class T>
TensorView<const T> view_or_absent(const std::vector<T>& values, const Shape& shape) {
  return values.empty() ? TensorView<const T>() : view(values, shape);
}

inline std::size_t channel_of(const Shape& shape, std::size_t element) {
  const auto at = static_cast<std::int64_t>(element);
  return static_cast<std::size_t>(shape.layout == Layout::channels_first ? at / shape.s % shape.c
                                                                         : at % shape.c);
}

// actual[i] within bound(i) of expected[i], and the rounding of the store in T.
template <class T, class Bound>
void expect_close(const std::vector<T>& actual, const Values& expected, const Bound& bound,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(to_double(actual[i]) - expected[i]), allowed = bound(i);
    if (error <= allowed + store_error<T>(std::abs(expected[i]) + allowed)) continue;
    FAIL() << what << "[" << i << "] is " << to_double(actual[i]) << ", expected " << expected[i]
           << " within " << allowed;
  }
}

// Bitwise the same but for NaN, of which any will do.
template <class T>
void expect_same(const std::vector<T>& actual, const std::vector<T>& expected,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = to_double(actual[i]), e = to_double(expected[i]);
    const bool same = std::isnan(e) ? std::isnan(a) : a == e && std::signbit(a) == std::signbit(e);
    if (!same) FAIL() << what << "[" << i << "] is " << a << ", expected " << e;
  }
}

// Runs f under each SIMD target that this processor has.
template <class F>
void for_each_target(const F& f) {
  for (const std::string& target : runnable_simd_targets()) {
    SCOPED_TRACE("SIMD target " + target);
    set_simd_target(target);
    f();
    if (::testing::Test::HasFailure()) break;
  }
  set_simd_target("");
}

// Expects f to throw an Error whose message contains each of the words.
template <class F>
void expect_error(const F& f, const std::vector<std::string>& words) {
  try {
    f();
    ADD_FAILURE() << "no Error; expected one with '" << words.front() << "'";
  } catch (const Error& error) {
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "'" << word << "' is not in: " << error.what();
    }
  }
}

// Shapes around vector lengths and block sizes, primes and ones, planes of networks (7x7, 14x14,
// 28x28, 55x55), narrow and wide rows, in both layouts.
inline std::vector<Shape> test_shapes() {
  std::vector<Shape> shapes;
  const std::vector<std::array<std::int64_t, 3>> sizes = {
      {2, 1, 1},    {2, 4, 1},     {7, 15, 1},    {5, 16, 1},    {3, 17, 1},   {66, 31, 1},
      {50, 32, 1},  {129, 100, 1}, {2, 2048, 1},  {700, 2, 1},   {301, 3, 1},  {1, 1, 2},
      {2, 3, 2},    {50, 15, 2},   {129, 67, 3},  {1025, 19, 2}, {2, 2063, 3}, {2, 2048, 2},
      {3, 5, 7},    {50, 16, 15},  {129, 2, 15},  {50, 17, 49},  {2, 100, 49}, {129, 3, 49},
      {1, 2, 63},   {2, 33, 64},   {1, 520, 131}, {1, 32, 196},  {50, 1, 196}, {2, 15, 255},
      {50, 2, 255}, {2, 3, 256},   {1, 100, 256}, {50, 1, 257},  {2, 32, 257}, {1, 16, 784},
      {2, 17, 784}, {2, 3, 3025},  {1, 1, 4097},  {3, 2, 4099},  {1, 3, 70001}};
  for (const auto& [n, c, s] : sizes) {
    shapes.push_back({n, c, s, Layout::channels_first});
    shapes.push_back({n, c, s, Layout::channels_last});
  }
  return shapes;
}

inline std::string name_of(const Shape& shape) {
  std::ostringstream name;
  name << "n" << shape.n << " c" << shape.c << " s" << shape.s
       << (shape.layout == Layout::channels_first ? " channels-first" : " channels-last");
  return name.str();
}

}  // namespace evenkeel::testing
