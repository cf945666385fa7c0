// The kernels once more, as scalar loops in Extended<T>: for groups whose squares or products leave
// the range of Wide<T> (range.h tells which). Slow, rare, and one page that reads like the
// formulas.
//
// Coefficients are exact ones: their center is the mean itself.
#pragma once

#include <cstdint>

#include "src/base/types.h"
#include "src/kernels/operands.h"
#include "src/kernels/planes.h"
#include "src/kernels/rows.h"
#include "src/kernels/windows.h"

namespace evenkeel::kernels {

template <class T>
struct ExtendedRange {
  using E = Extended<T>;

  // Planes; and columns, whose values in a block of rows are a piece as well.
  static GroupMoments<E> moments(const T* x, const Piece& piece);
  static void forward(const ForwardOperands<T>& operands, const Piece& piece,
                      const ExactAffine<E>& a);
  static BasicGradientSums<E> gradient_sums(const BackwardOperands<T>& operands, const Piece& piece,
                                            const ExactAffine<E>& a);
  static void backward(const BackwardOperands<T>& operands, const Piece& piece,
                       const ExactAffine<E>& a, const GradientAffine<E>& g);
  // Whether there is NaN or infinity.
  static bool any_not_finite(const T* values, const Piece& piece);
  // Whether all values are the same, so that they have no variance at all.
  static bool all_equal(const T* values, const Piece& piece);
  // Whether a sum of dy * (x - center) over the piece, found too small to be trusted, lacks
  // products that underflowed in Wide<T>.
  static bool loses_products(const BackwardOperands<T>& operands, const Piece& piece, E center);

  // A row; x is that of the arguments or the sum with the residual.
  static void row_forward(const RowsForward<T>& args, const T* x, std::int64_t row,
                          std::int64_t cols);
  static void row_backward(const RowsBackward<T>& args, std::int64_t row, std::int64_t cols);
  // dweight and dbias of all rows, where their sums in Wide<T> overflowed. Either may be null;
  // those of the arguments are not used.
  static void row_parameters(const RowsBackward<T>& args, std::int64_t rows, std::int64_t cols,
                             Wide<T>* dweight, Wide<T>* dbias);
  static bool row_loses_products(const RowsBackward<T>& args, std::int64_t row, std::int64_t cols);

  // Windows.
  static void window_forward(const T* x, T* y, const Positions& block, const Window& window);
  static void window_backward(const T* dy, const T* x, T* dx, const Positions& block,
                              const Window& window);
};

}  // namespace evenkeel::kernels
