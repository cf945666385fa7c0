// Kernels for the columns of a row-major block, with one set of coefficients per column.
#pragma once

#include <cstdint>

#include "src/kernels/operands.h"

namespace evenkeel::kernels {

// A rows x cols block whose consecutive rows lie `stride` values apart. cols is at most
// kMaxBlockCols.
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

// Two statistics of each column, in separate arrays: mean and M2, or two sums.
struct StatisticColumns {
  double *first, *second;
  StatisticColumns from(std::int64_t i) const { return {first + i, second + i}; }
};

// Parts of the statistics of `cols` columns: those of a part are `stride` values from those of the
// part before. Each part is over `count` values of a column, the last over `last_count`.
struct Parts {
  std::int64_t parts, cols, stride;
  double count, last_count;
};

template <class T>
struct Columns {
  using P = Wide<T>;
  // Per column, mean and M2.
  void (*moments)(const T* x, Block block, std::int64_t prefetch_distance, StatisticColumns out);
  // The moments, or the sums, of all parts in their order.
  void (*merge_moments)(StatisticColumns of_parts, Parts parts, StatisticColumns total);
  void (*merge_sums)(StatisticColumns of_parts, Parts parts, StatisticColumns total);
  void (*forward)(ForwardOperands<T> operands, Block block, AffineColumns<P> a);
  void (*gradient_sums)(BackwardOperands<T> operands, Block block, AffineColumns<P> a,
                        double* dy_sum, double* dy_x_sum);
  void (*backward)(BackwardOperands<T> operands, Block block, AffineColumns<P> a,
                   GradientColumns<P> g);
};

template <class T>
const Columns<T>& columns();

}  // namespace evenkeel::kernels
