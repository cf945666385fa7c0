// The formulas that the operations over channels share, in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "src/kernels/operands.h"

namespace evenkeel {

inline double rstd_of(double variance, double eps) { return 1 / std::sqrt(variance + eps); }

// The value of an optional parameter.
template <class P>
double value_or(std::span<const P> values, std::int64_t i, double fallback) {
  return values.empty() ? fallback : static_cast<double>(values[static_cast<std::size_t>(i)]);
}
template <class P>
void set_if_wanted(std::span<P> values, std::int64_t i, double value) {
  if (!values.empty()) values[static_cast<std::size_t>(i)] = static_cast<P>(value);
}

// y = (x - mean) * rstd * weight + bias, centered on the rounded mean.
template <class P>
Affine<P> normalizing(double mean, double rstd, double weight, double bias) {
  const auto center = static_cast<P>(mean);
  const double scale = rstd * weight;
  return {center, static_cast<P>(scale),
          static_cast<P>(bias - (mean - static_cast<double>(center)) * scale)};
}

// The gradient through the statistics of a group of `channels` channels. With g = dy * weight and
// the means over the `count` values of the group:
//
//   dx = rstd * (g - mean(g) - x^ * mean(g * x^))
//
// as coefficients of dy and x - mean for each channel. weight_of(k) is the weight of the group's
// channel k.
template <class P, class WeightOf>
void gradient_of_group(double rstd, double count, std::int64_t channels, const WeightOf& weight_of,
                       const GradientSums* sums, GradientAffine<P>* coefficients) {
  double g = 0, g_x_hat = 0;
  for (std::int64_t k = 0; k < channels; ++k) {
    g += weight_of(k) * sums[k].dy;
    g_x_hat += weight_of(k) * (sums[k].dy_x * rstd);
  }
  for (std::int64_t k = 0; k < channels; ++k) {
    coefficients[k] = {static_cast<P>(rstd * weight_of(k)),
                       static_cast<P>(-rstd * rstd * (g_x_hat / count)),
                       static_cast<P>(-rstd * (g / count))};
  }
}

}  // namespace evenkeel
