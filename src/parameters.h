// The formulas that the operations over channels share.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "src/kernels/operands.h"

namespace evenkeel {

// E is Extended<T>, T being the type of x: statistics and coefficients are computed in it.
template <class E>
E rstd_of(E variance, double eps) {
  return 1 / std::sqrt(variance + static_cast<E>(eps));
}

// The value of an optional parameter.
template <class P>
double value_or(std::span<const P> values, std::int64_t i, double fallback) {
  return values.empty() ? fallback : static_cast<double>(values[static_cast<std::size_t>(i)]);
}
template <class P, class E>
void set_if_wanted(std::span<P> values, std::int64_t i, E value) {
  if (!values.empty()) values[static_cast<std::size_t>(i)] = static_cast<P>(value);
}

// The gradient through the statistics of a group of `channels` channels. With g = dy * weight and
// the means over the `count` values of the group:
//
//   dx = rstd * (g - mean(g) - x^ * mean(g * x^))
//
// as coefficients of dy and x - mean for each channel. weight_of(k) is the weight of the group's
// channel k.
template <class E, class WeightOf>
void gradient_of_group(double rstd_in, double count, std::int64_t channels,
                       const WeightOf& weight_of, const BasicGradientSums<E>* sums,
                       GradientAffine<E>* coefficients) {
  const auto rstd = static_cast<E>(rstd_in), n = static_cast<E>(count);
  E g = 0, g_x_hat = 0;
  for (std::int64_t k = 0; k < channels; ++k) {
    const auto weight = static_cast<E>(weight_of(k));
    g += weight * sums[k].dy;
    g_x_hat += weight * (sums[k].dy_x * rstd);
  }
  for (std::int64_t k = 0; k < channels; ++k) {
    coefficients[k] = {rstd * static_cast<E>(weight_of(k)), -rstd * rstd * (g_x_hat / n),
                       -rstd * (g / n)};
  }
}

}  // namespace evenkeel
