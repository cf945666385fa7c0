// The activation that may follow a normalization within the same pass.
#pragma once

#include <cstdint>
#include <limits>

namespace evenkeel {

// Fused, an activation saves writing and reading a whole tensor. Its gradient is taken at the value
// before it, which the backward computes again from x, so that nothing more is stored.
//
// NaN stays NaN. An operation throws Error if low > high, or if a bound is NaN or the slope not
// finite.
struct Activation {
  enum class Kind : std::uint8_t { clamp, leaky_relu, silu, hardswish };

  Kind kind = Kind::clamp;
  // clamp: the bounds, low <= high. Without any bound it is no activation at all.
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  double slope = 0;  // leaky_relu: the factor of negative values

  // y = v.
  static const Activation none;
  // y = max(v, 0). The gradient at 0 is 0.
  static const Activation relu;
  // y = min(max(v, 0), 6). The gradient at 0 and at 6 is 0.
  static const Activation relu6;
  // y = v * sigmoid(v), also called swish.
  static const Activation silu;
  // y = v * relu6(v + 3) / 6 (Howard et al. 2019, arXiv:1905.02244).
  static const Activation hardswish;
  // y = min(max(v, low), high). The gradient at the bounds is 0, as in PyTorch.
  static constexpr Activation hardtanh(double low = -1, double high = 1) {
    return {Kind::clamp, low, high, 0};
  }
  // y = v if v > 0, else slope * v. The gradient at 0 is slope, as in PyTorch.
  static constexpr Activation leaky_relu(double slope = 0.01) {
    return {Kind::leaky_relu, -std::numeric_limits<double>::infinity(),
            std::numeric_limits<double>::infinity(), slope};
  }

  friend constexpr bool operator==(const Activation&, const Activation&) = default;
};

inline constexpr Activation Activation::none{};
inline constexpr Activation Activation::relu{Kind::clamp, 0,
                                             std::numeric_limits<double>::infinity(), 0};
inline constexpr Activation Activation::relu6{Kind::clamp, 0, 6, 0};
inline constexpr Activation Activation::silu{Kind::silu};
inline constexpr Activation Activation::hardswish{Kind::hardswish};

}  // namespace evenkeel
