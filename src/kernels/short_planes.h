// Kernels for short planes: a plane's own loop is short, so they take many planes in one call.
#pragma once

#include <cstdint>

#include "src/kernels/operands.h"

namespace evenkeel::kernels {

// Rows of adjacent planes: plane c of each row belongs to channel c of the block.
struct PlaneBlock {
  std::int64_t rows, channels;
  std::int64_t inner;   // values of a plane
  std::int64_t stride;  // values from row to row
};
// The most values of a row of a block, and the most channels.
inline constexpr std::int64_t kMaxRowValues = 1024;
inline constexpr std::int64_t kMaxPlaneChannels = 128;
// The most rows that have one pivot, the mean of values of the first of them: so that it is the
// mean of a 64th of the values or more, as the bound on the loss of accuracy in block_moments
// supposes.
inline constexpr std::int64_t kMaxPivotRows = 64;

// Coefficients and results are arrays with one element per channel. Kernels that sum take at most
// kMaxPivotRows rows.
template <class T>
struct ShortPlanes {
  using P = Wide<T>;
  void (*moments)(const T* x, PlaneBlock block, std::int64_t prefetch_distance, Moments* out);
  void (*forward)(ForwardOperands<T> operands, PlaneBlock block, const Affine<P>* a);
  // a: the forward's, whose center is that of the sums.
  void (*gradient_sums)(BackwardOperands<T> operands, PlaneBlock block, const Affine<P>* a,
                        GradientSums* out);
  void (*backward)(BackwardOperands<T> operands, PlaneBlock block, const Affine<P>* a,
                   const GradientAffine<P>* g);
};

template <class T>
const ShortPlanes<T>& short_planes();

}  // namespace evenkeel::kernels
