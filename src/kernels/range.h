// Whether a kernel's result can be trusted, and coefficients as kernels take them.
//
// Kernels compute in P = Wide<T>, in which squares of large values overflow, and those of small
// values underflow. One test for each group finds the results for which that may have happened;
// those groups are taken again by the functions of extended.h. Groups with NaN or infinity pass: no
// wider type helps them.
#pragma once

#include <cmath>
#include <type_traits>

#include "src/kernels/operands.h"

namespace evenkeel::kernels {

template <class P>
struct Range {
  static constexpr bool is_double = std::is_same_v<P, double>;
  // Coefficients within these bounds neither lose digits nor make a finite result overflow.
  static constexpr double least_scale =
      is_double ? 0x1p-1022 : 0x1p-126;  // the least normal number
  static constexpr double most = is_double ? 0x1p500 : 0x1p60;
  // Above this mean, of squares or of products, what single values lost to underflow does not
  // count, even if subnormal numbers are flushed to 0: each lost at most the least normal number.
  static constexpr double least_product = is_double ? 0x1p-960 : 0x1p-100;
  // Above this the squares of single values may have overflowed.
  static constexpr double most_product = is_double ? 0x1p1000 : 0x1p120;
};

// Whether the mean and the variance are right. least_variance: what is added to the variance, so
// that far smaller variances need not be right.
template <class P>
bool trusted_moments(double mean, double variance, double least_variance) {
  return variance + least_variance >= Range<P>::least_product &&
         variance <= Range<P>::most_product && std::abs(mean) <= Range<P>::most_product;
}

// Whether sums of gradients of `count` values are right. A sum may be small because the products
// underflowed, or because there is nothing to add up: then only the values tell.
template <class P>
bool trusted_sums(double dy, double dy_x, double count) {
  return std::abs(dy_x) >= count * Range<P>::least_product && std::isfinite(dy_x) &&
         std::isfinite(dy);
}

template <class P, class E>
bool fits(E scale) {
  const E size = std::abs(scale);
  return (size >= static_cast<E>(Range<P>::least_scale) &&
          size <= static_cast<E>(Range<P>::most)) ||
         size == 0 || !std::isfinite(size);
}
template <class P, class E>
bool fits_offset(E offset) {
  return !(std::abs(offset) > static_cast<E>(Range<P>::most)) || std::isinf(offset);
}

// Whether a kernel may use the coefficients.
template <class P, class E>
bool fits(const Affine<E>& a) {
  return fits<P>(a.scale) && fits_offset<P>(a.center) && fits_offset<P>(a.offset);
}
template <class P, class E>
bool fits(const GradientAffine<E>& g) {
  return fits<P>(g.dy_scale) && fits<P>(g.x_scale) && fits_offset<P>(g.offset);
}

// The coefficients as kernels take them: about the center, the mean rounded to P, instead of the
// mean. (An offset of -0 stays -0, which leaves the sign of a product that is 0.)
template <class P, class E>
Affine<P> rounded(const Affine<E>& a) {
  const auto center = static_cast<P>(a.center);
  return {center, static_cast<P>(a.scale),
          static_cast<P>(a.offset - (a.center - static_cast<E>(center)) * a.scale)};
}
// mean: the center of the forward's coefficients.
template <class P, class E>
GradientAffine<P> rounded(const GradientAffine<E>& g, E mean) {
  const E rest = mean - static_cast<E>(static_cast<P>(mean));
  return {static_cast<P>(g.dy_scale), static_cast<P>(g.x_scale),
          static_cast<P>(g.offset - g.x_scale * rest)};
}

}  // namespace evenkeel::kernels
