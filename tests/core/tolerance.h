// How far a right result may be from the reference: derived from the arithmetic, not tuned.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "evenkeel/float16.h"
#include "evenkeel/tensor.h"

namespace evenkeel::testing {

template <class T>
constexpr bool kIs16Bit = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

// The relative error of one correctly rounded operation on activations of type T. The 16-bit types
// are only stored: their arithmetic is that of float.
template <class T>
constexpr double unit() {
  return static_cast<double>(std::numeric_limits<Wide<T>>::epsilon()) / 2;
}

// What storing a result of that magnitude in T adds to the arithmetic's error: half the spacing of
// the 16-bit numbers there, which is at most 2^-8 of the magnitude for BFloat16 and 2^-11 for
// Float16, and no less than half the spacing of subnormals. Wider types store what was computed.
template <class T>
double store_error(double magnitude) {
  if constexpr (kIs16Bit<T>) {
    constexpr bool brain = std::is_same_v<T, BFloat16>;
    constexpr int precision = brain ? 8 : 11, least = brain ? -126 : -14;
    const int exponent = magnitude > 0 ? std::max(std::ilogb(magnitude), least) : least;
    return std::ldexp(1.0, exponent - precision);
  } else {
    return 0;
  }
}

// How far a sum of n terms t may be off, as a multiple of sum |t|: a unit for every addition that a
// term goes through before the sum goes on in double (Higham 2002, section 4.2), and 8 for joining
// accumulators and lanes and for the rounding of the term itself. Along a run, a block of 4096 goes
// to 4 accumulators of one lane at least; in a column, 64 rows go to one; of short planes, 64
// values or one plane's, at most 511, to two accumulators of two lanes at least.
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

}  // namespace evenkeel::testing
