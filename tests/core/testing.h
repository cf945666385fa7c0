// What the core's tests share: data, tolerances, and running under every SIMD target.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "evenkeel/evenkeel.h"
#include "reference/reference.h"

namespace evenkeel::testing {

using reference::Values;

// Unit roundoff: the relative error of one correctly rounded operation.
template <class T>
constexpr double unit() {
  return static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
}

// How far a sum of n terms t may be off, as a multiple of sum |t|: a unit for every addition that a
// term goes through before the sum goes on in double (Higham 2002, section 4.2), and 8 for joining
// accumulators and lanes and for the rounding of the term itself. Along a run, a block of 4096 goes
// to 4 accumulators of one lane at least; in a column, 64 rows go to one.
template <class T>
constexpr double sum_error(std::int64_t n) {
  const std::int64_t chain =
      std::max(std::min<std::int64_t>(n, 4096) / 4, std::min<std::int64_t>(n, 64));
  return static_cast<double>(chain + 8) * unit<T>();
}

// How far statistics of n values, and x^ from them, may be off. Shifted squares sum to at most
// condition * M2, where condition = 1 + (shift - mean)^2 / var and the shift is a value of the
// group, so at most 1 + the largest x^^2. M2 is their sum (error s * condition) less the squared
// sum over n (2 s * condition); rstd takes half of that; the mean is off by s * sqrt(condition) *
// std.
template <class T>
struct StatisticsError {
  double sum;  // s
  double condition;

  StatisticsError(std::int64_t n, double largest_x_hat)
      : sum(sum_error<T>(n)), condition(1 + largest_x_hat * largest_x_hat) {}
  double rstd() const { return 1.5 * sum * condition; }       // relative
  double mean() const { return sum * std::sqrt(condition); }  // in standard deviations
  double x_hat(double x_hat) const { return rstd() * std::abs(x_hat) + mean(); }
  // Of dx = scale * (g - mean(g) - x^ * mean(g*x^)), as a multiple of scale: the relative error of
  // scale and six roundings, the errors of the two means, and that of x^ in both its places.
  double dx(double g, double mean_g, double x_hat, double mean_g_x, double x_hat_error) const {
    return (rstd() + sum + 6 * unit<T>()) * (g + mean_g + x_hat * mean_g_x) +
           x_hat_error * (mean_g_x + x_hat * mean_g);
  }
};

// Values of a normal distribution, rounded to T.
template <class T>
std::vector<T> random_values(std::int64_t size, double mean = 0, double std = 1,
                             unsigned seed = 1) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(mean, std);
  std::vector<T> values(static_cast<std::size_t>(size));
  for (T& v : values) v = static_cast<T>(normal(engine));
  return values;
}

template <class T>
Values to_double(const std::vector<T>& values) {
  return Values(values.begin(), values.end());
}

template <class T>
TensorView<const T> view(const std::vector<T>& values, const Shape& shape) {
  return {values.data(), shape};
}
template <class T>
TensorView<T> view(std::vector<T>& values, const Shape& shape) {
  return {values.data(), shape};
}

// actual[i] within bound(i) of expected[i].
template <class T, class Bound>
void expect_close(const std::vector<T>& actual, const Values& expected, const Bound& bound,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - expected[i]);
    ASSERT_LE(error, bound(i)) << what << "[" << i << "] is " << actual[i] << ", expected "
                               << expected[i];
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

// Shapes around vector lengths and block sizes, primes, ones and empties, in both layouts.
inline std::vector<Shape> test_shapes() {
  std::vector<Shape> shapes;
  const std::vector<std::array<std::int64_t, 3>> sizes = {
      {2, 1, 1},     {2, 4, 1},    {7, 15, 1},    {5, 16, 1},   {3, 17, 1},   {66, 31, 1},
      {2, 3, 2},     {3, 5, 7},    {1, 2, 63},    {2, 33, 64},  {1, 1, 4097}, {3, 2, 4099},
      {1, 3, 70001}, {129, 67, 3}, {1025, 19, 2}, {2, 2063, 3}, {1, 520, 131}};
  for (const auto& [n, c, s] : sizes) {
    shapes.push_back({n, c, s, Layout::channels_first});
    shapes.push_back({n, c, s, Layout::channels_last});
  }
  return shapes;
}

inline std::string name_of(const Shape& shape) {
  return std::string("n") + std::to_string(shape.n) + " c" + std::to_string(shape.c) + " s" +
         std::to_string(shape.s) +
         (shape.layout == Layout::channels_first ? " channels-first" : " channels-last");
}

}  // namespace evenkeel::testing
