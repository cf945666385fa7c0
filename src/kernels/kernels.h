// The SIMD kernels, one table of functions per geometry and type. A table holds the code of the
// active SIMD target; looking it up is the run-time dispatch, done once per operation.
//
// T is the type of the activations; parameters are Stat<T>. Adding a type means adding a table of
// it in each .cc file here. Kernels are serial and check nothing.
#pragma once

#include <cstdint>

#include "evenkeel/moments.h"
#include "evenkeel/tensor.h"
#include "src/coefficients.h"

namespace evenkeel::kernels {

// Contiguous runs of `count` values that share their coefficients.
template <class T>
struct Runs {
  using P = Stat<T>;
  Moments (*moments)(const T* x, std::int64_t count);
  void (*affine)(const T* x, T* y, std::int64_t count, const Affine<P>& a);
  GradientSums (*gradient_sums)(const T* dy, const T* x, std::int64_t count, P center);
  void (*gradient)(const T* dy, const T* x, T* dx, std::int64_t count, const GradientAffine<P>& g);
};

// A rows x cols block whose consecutive rows lie `stride` values apart, with one set of
// coefficients per column. Coefficients are separate arrays of cols values.
template <class P>
struct AffineColumns {
  const P *center, *scale, *shift;
};
template <class P>
struct GradientColumns {
  const P *center, *dy_scale, *x_scale, *shift;
};
template <class T>
struct Columns {
  using P = Stat<T>;
  // Merges the block's moments into (count, mean[c], m2[c]); count is the same for all columns.
  void (*add_moments)(const T* x, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                      double count, double* mean, double* m2);
  void (*affine)(const T* x, T* y, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                 const AffineColumns<P>& a);
  // Adds the block's sums to dy_sum[c] and dy_x_sum[c].
  void (*add_gradient_sums)(const T* dy, const T* x, std::int64_t rows, std::int64_t cols,
                            std::int64_t stride, const P* center, double* dy_sum, double* dy_x_sum);
  void (*gradient)(const T* dy, const T* x, T* dx, std::int64_t rows, std::int64_t cols,
                   std::int64_t stride, const GradientColumns<P>& g);
};

// Rows of `cols` contiguous values, each normalized by itself. weight, bias, mean, rstd (outputs of
// forward), dx, dweight and dbias may be null.
template <class T>
struct Rows {
  using P = Stat<T>;
  void (*forward)(const T* x, T* y, std::int64_t rows, std::int64_t cols, const P* weight,
                  const P* bias, P* mean, P* rstd, double eps);
  // dweight and dbias are increased, not set.
  void (*backward)(const T* dy, const T* x, T* dx, std::int64_t rows, std::int64_t cols,
                   const P* weight, const P* mean, const P* rstd, P* dweight, P* dbias);
};

// A tile of activations for the channel windows of LRN: `rows` rows of `cols` contiguous values,
// `stride` apart. Copied densely, neighbouring channels lie `step` values apart: channels-first, a
// row is a channel and step = cols; channels-last, the single row is all channels and step = 1.
struct Tile {
  std::int64_t rows, cols, stride, step;
  std::int64_t size() const { return rows * cols; }
};
struct Window {
  std::int64_t behind, ahead;  // at most channels - 1
  double alpha, beta, k;
};
template <class T>
struct Windows {
  // `count` tiles, `tile_stride` apart. buffer: forward_buffer / backward_buffer values of T.
  void (*forward)(const T* x, T* y, const Tile& tile, std::int64_t count, std::int64_t tile_stride,
                  const Window& window, T* buffer);
  void (*backward)(const T* dy, const T* x, T* dx, const Tile& tile, std::int64_t count,
                   std::int64_t tile_stride, const Window& window, T* buffer);
};
inline std::int64_t forward_buffer(const Tile& tile, const Window& window) {
  return tile.size() + (window.behind + window.ahead) * tile.step;
}
inline std::int64_t backward_buffer(const Tile& tile, const Window& window) {
  return 2 * forward_buffer(tile, window) + tile.size();
}

template <class T>
const Runs<T>& runs();
template <class T>
const Columns<T>& columns();
template <class T>
const Rows<T>& rows();
template <class T>
const Windows<T>& windows();

// Makes the dispatch follow EVENKEEL_SIMD; throws Error if it names no runnable target. Called by
// each of the four functions above; cheap after the first time.
void select_target_from_environment();

}  // namespace evenkeel::kernels
