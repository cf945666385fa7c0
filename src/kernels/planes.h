// Kernels for planes: contiguous values that share their coefficients.
#pragma once

#include <cstdint>

#include "src/kernels/operands.h"

namespace evenkeel::kernels {

// `count` planes of `length` contiguous values, `stride` apart: of one channel, or of a part of it.
struct Piece {
  std::int64_t count, length, stride;
};

template <class T>
struct Planes {
  using P = Wide<T>;
  // Of one block of accumulation: meant for 4096 values or fewer.
  Moments (*moments)(const T* x, const Piece& piece, std::int64_t prefetch_distance);
  void (*forward)(const ForwardOperands<T>& operands, const Piece& piece, const Affine<P>& a);
  // a: the forward's, whose center is that of the sums.
  GradientSums (*gradient_sums)(const BackwardOperands<T>& operands, const Piece& piece,
                                const Affine<P>& a);
  void (*backward)(const BackwardOperands<T>& operands, const Piece& piece, const Affine<P>& a,
                   const GradientAffine<P>& g);
};

template <class T>
const Planes<T>& planes();

}  // namespace evenkeel::kernels
