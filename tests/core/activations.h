// The activations as tests see them: where their derivative jumps, and how much of an error in the
// value before them they pass on.
#pragma once

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "tests/core/testing.h"

namespace evenkeel::testing {

// One of each, and bounds and slopes of several signs.
inline std::vector<Activation> all_activations() {
  return {Activation::none,
          Activation::relu,
          Activation::relu6,
          Activation::hardtanh(),
          Activation::hardtanh(-0.5, 2),
          Activation::hardtanh(0.25, 0.75),
          Activation::leaky_relu(),
          Activation::leaky_relu(-0.5),
          Activation::leaky_relu(2),
          Activation::silu,
          Activation::hardswish};
}

inline std::string name_of(const Activation& activation) {
  std::ostringstream name;
  switch (activation.kind) {
    case Activation::Kind::clamp:
      name << "clamp to [" << activation.low << ", " << activation.high << "]";
      break;
    case Activation::Kind::leaky_relu:
      name << "leaky ReLU of slope " << activation.slope;
      break;
    case Activation::Kind::silu:
      name << "SiLU";
      break;
    case Activation::Kind::hardswish:
      name << "hardswish";
      break;
  }
  return name.str();
}

// Where the derivative jumps.
inline std::vector<double> kinks_of(const Activation& activation) {
  switch (activation.kind) {
    case Activation::Kind::clamp: {
      std::vector<double> bounds;
      for (const double bound : {activation.low, activation.high}) {
        if (std::isfinite(bound)) bounds.push_back(bound);
      }
      return bounds;
    }
    case Activation::Kind::leaky_relu:
      return {0};
    case Activation::Kind::silu:
      return {};
    case Activation::Kind::hardswish:
      return {-3, 3};
  }
  return {};
}

// Whether a value within `error` of `before` may lie on the other side of a kink.
inline bool near_kink(const Activation& activation, double before, double error) {
  return std::ranges::any_of(kinks_of(activation),
                             [&](double kink) { return std::abs(before - kink) <= error; });
}

// How far y = activation(before) may be off if `before` is off by `error`.
//
// The derivative is at most 1 for a clamp, max(1, |slope|) for a leaky ReLU, 1.1 for SiLU (at
// v = 2.4) and 1.5 for hardswish (at v = 3). On top come the roundings: none for a clamp but that
// of its bounds, which are within the slack of `error`; one for a leaky ReLU; for SiLU and
// hardswish those of at most eight operations, an exponential among them, on factors no larger than
// v.
template <class T>
double activation_error(const Activation& activation, double before, double error) {
  switch (activation.kind) {
    case Activation::Kind::clamp:
      return error;
    case Activation::Kind::leaky_relu:
      return std::max(1.0, std::abs(activation.slope)) * (error + 2 * unit<T>() * std::abs(before));
    case Activation::Kind::silu:
      return 1.1 * error + 8 * unit<T>() * std::abs(before);
    case Activation::Kind::hardswish:
      return 1.5 * error + 8 * unit<T>() * std::abs(before);
  }
  return error;
}

// The same of the derivative at `before`, away from the kinks: the second derivative is 0 for a
// clamp and a leaky ReLU, whose slope is rounded once; at most 1/2 for SiLU (at 0) and 1/3 for
// hardswish. The derivatives of these two are sums of terms no larger than 1 + |v|, or of terms
// that vanish where v is large.
template <class T>
double derivative_error(const Activation& activation, double before, double error) {
  const double magnitude = 1 + std::min(std::abs(before), 8.0);
  switch (activation.kind) {
    case Activation::Kind::clamp:
      return 0;
    case Activation::Kind::leaky_relu:
      return unit<T>() * std::abs(activation.slope);
    case Activation::Kind::silu:
      return error / 2 + 8 * unit<T>() * magnitude;
    case Activation::Kind::hardswish:
      return error / 3 + 8 * unit<T>() * magnitude;
  }
  return 0;
}

// dy as it passes an activation, and how far it may be off.
struct Passed {
  Values dy;
  std::vector<double> error;
};

// Sets dy to 0 where an error of bound(i) in `before` may decide what passes, then lets it pass.
template <class T, class Bound>
Passed pass_back(std::vector<T>& dy, const Values& before, const Activation& activation,
                 const Bound& bound) {
  Passed passed{{}, std::vector<double>(dy.size())};
  for (std::size_t i = 0; i < dy.size(); ++i) {
    if (near_kink(activation, before[i], bound(i))) dy[i] = from_double<T>(0);
    passed.dy.push_back(to_double(dy[i]));
  }
  passed.dy = reference::activate_backward(passed.dy, before, activation);
  for (std::size_t i = 0; i < dy.size(); ++i) {
    // The product with dy is rounded, unless the derivative is 0 or 1.
    const bool exact = activation.kind == Activation::Kind::clamp;
    passed.error[i] =
        std::abs(to_double(dy[i])) * derivative_error<T>(activation, before[i], bound(i)) +
        (exact ? 0 : unit<T>() * std::abs(passed.dy[i]));
  }
  return passed;
}

}  // namespace evenkeel::testing
