// Kernels for the columns of a row-major block, with one set of coefficients per column.
#pragma once

#include <cstdint>

#include "src/kernels/operands.h"

namespace evenkeel::kernels {

// A rows x cols block whose consecutive rows lie `stride` values apart. cols is at most
// kMaxBlockCols where a kernel sums.
struct Block {
  std::int64_t rows, cols, stride;
};
inline constexpr std::int64_t kMaxBlockCols = 1024;

// Coefficients in separate arrays, one value per column.
template <class P>
struct AffineColumns {
  const P *center, *scale, *offset;
  AffineColumns from(std::int64_t i) const { return {center + i, scale + i, offset + i}; }
};
template <class P>
struct GradientColumns {
  const P *dy_scale, *x_scale, *offset;
  GradientColumns from(std::int64_t i) const { return {dy_scale + i, x_scale + i, offset + i}; }
};

template <class T>
struct Columns {
  using P = Wide<T>;
  // Per column, the mean of the first rows / 64 rows, rounded up.
  void (*pivots)(const T* x, Block block, P* mean);
  // Per column, sum d and sum d^2 with d = x - pivot.
  void (*sums)(const T* x, Block block, std::int64_t prefetch_distance, const P* pivot, double* sum,
               double* squares);
  void (*forward)(ForwardOperands<T> operands, Block block, AffineColumns<P> a);
  void (*gradient_sums)(BackwardOperands<T> operands, Block block, AffineColumns<P> a,
                        double* dy_sum, double* dy_x_sum);
  void (*backward)(BackwardOperands<T> operands, Block block, AffineColumns<P> a,
                   GradientColumns<P> g);
};

template <class T>
const Columns<T>& columns();

}  // namespace evenkeel::kernels
