// Kernels for contiguous rows of `cols` values that are each normalized by themselves.
#pragma once

#include <cstdint>

#include "evenkeel/tensor.h"
#include "src/kernels/operands.h"

namespace evenkeel::kernels {

// At most so many values are in the rows that the forward takes at a time, if more than one.
inline constexpr std::int64_t kRowsRoom = 4096;

// Values of a piece of a long row: a block of accumulation of the kernels, so that the sums of a
// row are the same in pieces.
inline constexpr std::int64_t kMaxPiece = 4096;

// y = (s - mean) * rstd * weight + bias, where s is x, or the sum of x and the residual. Pointers
// may be null where it says so. Parameters are `groups` sets of cols values, of which row r has set
// r % groups: 1 for LayerNorm, and several for GroupNorm on features, whose samples are several
// rows.
template <class T>
struct RowsForward {
  using P = Wide<T>;
  const T* x;
  const P *weight, *bias;
  double *mean, *rstd;  // outputs; may be null
  const T* residual;    // may be null
  T* sum;               // of x and residual; needed if there is a residual
  T* y;
  double eps;
  std::int64_t groups;
  bool centered;           // else the mean is taken to be 0: the variance is the mean square
  bool keeps_sum = false;  // else `sum` is only room, for a row and for kRowsRoom values at least
  bool non_temporal = false;
};

// dx = rstd * (g - mean(g) - x^ * mean(g * x^)) + dsum with g = dy * weight.
template <class T>
struct RowsBackward {
  using P = Wide<T>;
  const T *dy, *x;
  const P* weight;
  const double* mean;  // null: not centered, so that x^ = x * rstd, and dx is without mean(g)
  const double* rstd;
  const T* dsum;                           // may be null
  T* dx;                                   // may be null
  P *dweight = nullptr, *dbias = nullptr;  // increased, not set; may be null
  std::int64_t groups = 1;
  bool non_temporal = false;
};

// Beside whole rows, the steps for a piece of a long row: `count` values, to which the arguments
// point, as if they were a row.
template <class T>
struct RowsForwardTable {
  void (*forward)(RowsForward<T> args, std::int64_t rows, std::int64_t cols);
  void (*add)(const T* x, const T* residual, T* sum, std::int64_t count);
  // Of kMaxPiece values at most.
  double (*sum_of_squares)(const T* x, std::int64_t count);
  // y of a piece of x, or of the sum.
  void (*write)(RowsForward<T> args, const T* x, double mean, double rstd, std::int64_t count);
};
template <class T>
struct RowsBackwardTable {
  void (*backward)(RowsBackward<T> args, std::int64_t rows, std::int64_t cols);
  // total = the sum, in double, of `count` arrays `stride` apart. size is at most kMaxAddUp.
  // Returns whether all of it is finite.
  bool (*add_up)(const Wide<T>* parts, std::int64_t count, std::int64_t stride, std::int64_t size,
                 Wide<T>* total);
  // For a piece of a long row. Sum g and sum g * (x - center), the center being the mean rounded to
  // P, of kMaxPiece values at most.
  GradientSums (*sums)(RowsBackward<T> args, std::int64_t count);
  // Whether such sums of a whole row can be trusted, and its coefficients fit P.
  bool (*fits)(RowsBackward<T> args, GradientSums sums, std::int64_t cols);
  // dx, and what the piece adds to dweight and dbias, with the sums of its row of `cols` values.
  void (*finish)(RowsBackward<T> args, GradientSums sums, std::int64_t cols, std::int64_t count);
};
inline constexpr std::int64_t kMaxAddUp = 512;

template <class T>
const RowsForwardTable<T>& rows_forward();
template <class T>
const RowsBackwardTable<T>& rows_backward();

}  // namespace evenkeel::kernels
