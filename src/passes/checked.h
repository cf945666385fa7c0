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
  using E = Extended<T>;
  if (!kernels::trusted_moments<Wide<T>>(of_kernel.mean, of_kernel.biased_variance(), eps)) {
    const GroupMoments<E> again = kernels::ExtendedRange<T>::moments(x, piece);
    if (std::isfinite(again.m2)) return again;  // else there is NaN or infinity in x
  }
  return {of_kernel.count, of_kernel.mean, of_kernel.m2};
}

// operands: those of the channel; piece: all its values. The sums of the kernel are about the mean
// rounded to Wide<T>, those returned about the mean.
template <class T>
BasicGradientSums<Extended<T>> checked_sums(const BackwardOperands<T>& operands,
                                            const kernels::Piece& piece,
                                            const Affine<Extended<T>>& affine,
                                            const GradientSums& of_kernel) {
  using P = Wide<T>;
  using E = Extended<T>;
  using Again = kernels::ExtendedRange<T>;
  const auto count = static_cast<double>(piece.count * piece.length);
  const bool finite = std::isfinite(of_kernel.dy) && std::isfinite(of_kernel.dy_x);
  const bool trusted = kernels::fits<P>(affine) && finite &&
                       (kernels::trusted_sums<P>(of_kernel.dy, of_kernel.dy_x, count) ||
                        !Again::loses_products(operands, piece, affine.center));
  if (!trusted) {
    const BasicGradientSums<E> again = Again::gradient_sums(operands, piece, affine);
    if (std::isfinite(again.dy) && std::isfinite(again.dy_x)) return again;
  }
  const E rest = static_cast<E>(static_cast<P>(affine.center)) - affine.center;
  return {of_kernel.dy, of_kernel.dy_x + rest * static_cast<E>(of_kernel.dy)};
}

}  // namespace evenkeel
