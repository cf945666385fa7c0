// What a kernel summed over a group, or the same again in Extended<T> where it cannot be trusted.
#pragma once

#include <cmath>

#include "src/kernels/extended.h"
#include "src/kernels/range.h"

namespace evenkeel {

// piece: all values of the group, from x on.
template <class T>
GroupMoments<Extended<T>> checked_moments(const T* x, const kernels::Piece& piece,
                                          const Moments& of_kernel, double eps) {
  using Again = kernels::ExtendedRange<T>;
  if (!kernels::trusted_moments<Wide<T>>(of_kernel.mean, of_kernel.biased_variance(), eps)) {
    const bool is_finite = std::isfinite(of_kernel.mean) && std::isfinite(of_kernel.m2);
    const bool is_right = is_finite ? of_kernel.m2 == 0 && Again::all_equal(x, piece)
                                    : Again::any_not_finite(x, piece);
    if (!is_right) return Again::moments(x, piece);
  }
  return {of_kernel.count, of_kernel.mean, of_kernel.m2};
}

// operands: those of the channel; piece: all its values. The sums of the kernel are about the mean
// rounded to Wide<T>, those returned about the mean.
template <class T>
BasicGradientSums<Extended<T>> checked_sums(const BackwardOperands<T>& operands,
                                            const kernels::Piece& piece,
                                            const ExactAffine<Extended<T>>& affine,
                                            const GradientSums& of_kernel) {
  using P = Wide<T>;
  using E = Extended<T>;
  using Again = kernels::ExtendedRange<T>;
  const auto count = static_cast<double>(piece.count * piece.length);
  const auto rstd = static_cast<double>(affine.rstd);
  if (!kernels::fits<P>(affine) ||
      !kernels::trusted_sums<P>(of_kernel.dy, of_kernel.dy_x, count, rstd)) {
    const bool is_finite = std::isfinite(of_kernel.dy) && std::isfinite(of_kernel.dy_x);
    const bool is_right =
        is_finite
            ? kernels::fits<P>(affine) && !Again::loses_products(operands, piece, affine.center)
            : Again::any_not_finite(operands.dy, piece) || Again::any_not_finite(operands.x, piece);
    if (!is_right) return Again::gradient_sums(operands, piece, affine);
  }
  const E rest = static_cast<E>(static_cast<P>(affine.center)) - affine.center;
  return {of_kernel.dy, of_kernel.dy_x + rest * static_cast<E>(of_kernel.dy)};
}

// Of `count` channels or columns: by_kernel(begin, end) for each stretch of those that fit, and
// extended(i) for each of the others.
template <class Fits, class ByKernel, class ByExtended>
void for_each_fitting(std::int64_t count, const Fits& fits, const ByKernel& by_kernel,
                      const ByExtended& extended) {
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (fits(i)) continue;
    if (begin < i) by_kernel(begin, i);
    extended(i);
    begin = i + 1;
  }
  if (begin < count) by_kernel(begin, count);
}

}  // namespace evenkeel
