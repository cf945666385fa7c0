// Whether a kernel's result can be trusted, and coefficients as kernels take them.
//
// Kernels compute in P = Wide<T>, in which squares of large values overflow, and those of small
// values underflow. One test for each group finds the results for which that may have happened;
// those groups are taken again by the functions of extended.h, unless there is NaN or infinity
// among their values: no wider type helps them.
#pragma once

#include <cmath>
#include <type_traits>

#include "src/kernels/operands.h"

namespace evenkeel::kernels {

template <class P>
struct Range {
  static constexpr bool is_double = std::is_same_v<P, double>;
  // Scales within these bounds lose no digits, and no finite result overflows by them.
  static constexpr double least_scale =
      is_double ? 0x1p-1022 : 0x1p-126;                         // the least normal number
  static constexpr double most = is_double ? 0x1p500 : 0x1p60;  // centers and offsets, too
  // A mean of squares, or of products, that is above this is right even if subnormal numbers are
  // flushed to 0: each of its terms then lost the least normal number at most.
  static constexpr double least_product = is_double ? 0x1p-960 : 0x1p-100;
  // A mean of squares below this has terms and sums that did not overflow.
  static constexpr double most_product = is_double ? 0x1p1000 : 0x1p120;
  // A mean of gradients above this makes lost products negligible, if rstd is below most_rstd.
  static constexpr double least_gradient = is_double ? 0x1p-500 : 0x1p-60;
  static constexpr double most_rstd = 0x1p30;
  // With an rstd above this, a scale that is subnormal because the weight is so small takes no more
  // than some subnormal numbers from a result: such weights do occur, by weight decay.
  static constexpr double least_rstd = 0x1p-10;
};

// Whether the mean and the variance are right. least_variance: what is added to the variance, so
// that far smaller variances need not be right.
template <class P>
bool trusted_moments(double mean, double variance, double least_variance) {
  return variance + least_variance >= Range<P>::least_product &&
         variance <= Range<P>::most_product && std::abs(mean) <= Range<P>::most_product;
}

// Whether sums of gradients of `count` values are right: sum dy and sum dy * (x - center). The
// latter may be small because its products underflowed; that does not matter beside a large sum of
// dy. If both are 0 then so is every dy, in a channel that a ReLU switched off for example (or they
// cancel exactly, and every product underflowed).
template <class P>
bool trusted_sums(double dy, double dy_x, double count, double rstd) {
  using R = Range<P>;
  if (!std::isfinite(dy_x) || !std::isfinite(dy)) return false;
  return std::abs(dy_x) >= count * R::least_product || (dy == 0 && dy_x == 0) ||
         (std::abs(dy) >= count * R::least_gradient && rstd <= R::most_rstd);
}

template <class P, class E>
bool fits_scale(E scale, E rstd) {
  const E size = std::abs(scale);
  return (size <= static_cast<E>(Range<P>::most) &&
          (size >= static_cast<E>(Range<P>::least_scale) || size == 0 ||
           rstd >= static_cast<E>(Range<P>::least_rstd))) ||
         !std::isfinite(size);
}
template <class P, class E>
bool fits_offset(E offset) {
  return !(std::abs(offset) > static_cast<E>(Range<P>::most)) || std::isinf(offset);
}

// Whether a kernel may use the coefficients.
template <class P, class E>
bool fits(const ExactAffine<E>& a) {
  return fits_scale<P>(a.scale, a.rstd) && fits_offset<P>(a.center) && fits_offset<P>(a.offset);
}
// a: those of the forward.
template <class P, class E>
bool fits(const GradientAffine<E>& g, const ExactAffine<E>& a) {
  return fits<P>(a) && fits_scale<P>(g.dy_scale, a.rstd) && fits_scale<P>(g.x_scale, a.rstd) &&
         fits_offset<P>(g.offset);
}

// Whether kernels for rows may use a row's mean and rstd.
template <class P>
bool fits_row(double mean, double rstd) {
  return rstd >= Range<P>::least_scale && rstd <= Range<P>::most &&
         std::abs(mean) <= Range<P>::most;
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
