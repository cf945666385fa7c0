// Central differences of a forward in double: gradients that are independent of any formula for the
// backward.
#pragma once

#include <functional>

#include "tests/core/activations.h"
#include "tests/core/testing.h"

namespace evenkeel::testing {

inline constexpr double kStep = 1e-5;
// A central difference errs by step^2/6 * f''' (about 1e-9 here: third derivatives of order 10) and
// by rounding, 1e-16 * |f| / step (1e-11 * 50).
inline constexpr double kTolerance = 1e-8;

// d sum(dy * y) / d values[i] for all i, where forward() computes y from the present values.
inline std::vector<double> differences(std::vector<double>& values, const std::vector<double>& dy,
                                       const std::function<std::vector<double>()>& forward) {
  std::vector<double> gradient;
  for (double& value : values) {
    const double at = value;
    double change = 0;
    for (const double sign : {1.0, -1.0}) {
      value = at + sign * kStep;
      const auto y = forward();
      for (std::size_t i = 0; i < y.size(); ++i) change += sign * dy[i] * y[i];
    }
    value = at;
    gradient.push_back(change / (2 * kStep));
  }
  return gradient;
}

inline void expect_gradient(const std::vector<double>& actual, const std::vector<double>& expected,
                            const std::string& what) {
  expect_close(
      actual, expected, [](std::size_t) { return kTolerance; }, what);
}

inline const std::vector<Shape> kShapes = {
    {5, 3, 1}, {3, 4, 5}, {3, 4, 5, Layout::channels_last}, {7, 1, 3}, {2, 19, 1}};

// A step moves a pre-activation by less than this, so that one beyond it stays on its side of the
// kink.
inline constexpr double kKink = 1e-3;

// Sets dy to 0 where a step may lead over a kink of the activation.
inline void clear_kinks(std::vector<double>& dy, const std::vector<double>& before,
                        const Activation& activation) {
  for (std::size_t i = 0; i < dy.size(); ++i) {
    if (near_kink(activation, before[i], kKink)) dy[i] = 0;
  }
}

}  // namespace evenkeel::testing
