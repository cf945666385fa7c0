// The SIMD kernels, one table of functions per geometry and type. A table holds the code of the
// active SIMD target; looking it up is the run-time dispatch, done for megabytes of work at a time.
//
// T is the type of the activations; what is computed with, and the parameters, are P = Stat<T>.
// Kernels are serial and check nothing. They take their arguments by value: behind a reference,
// each vector store might have changed them.
#pragma once

#include <cstdint>

#include "evenkeel/float16.h"
#include "evenkeel/moments.h"
#include "evenkeel/tensor.h"
#include "src/coefficients.h"

namespace evenkeel::kernels {

// Runs of `length` contiguous values that share their coefficients, `stride` apart.
struct Piece {
  std::int64_t runs, length, stride;
};
template <class T>
struct Runs {
  using P = Stat<T>;
  // Of one block of accumulation: meant for 4096 values or fewer.
  Moments (*moments)(const T* x, const Piece& piece, std::int64_t ahead);
  void (*forward)(const ForwardPass<T>& pass, const Piece& piece, const Affine<P>& a);
  // a: the forward's, whose center is that of the sums.
  GradientSums (*gradient_sums)(const BackwardPass<T>& pass, const Piece& piece,
                                const Affine<P>& a);
  void (*backward)(const BackwardPass<T>& pass, const Piece& piece, const Affine<P>& a,
                   const GradientAffine<P>& g);
};

// A rows x cols block whose consecutive rows lie `stride` values apart, with one set of
// coefficients per column, in separate arrays.
struct Block {
  std::int64_t rows, cols, stride;
};
inline constexpr std::int64_t kMaxBlockCols = 1024;
template <class P>
struct AffineColumns {
  const P *center, *scale, *shift;
};
template <class P>
struct GradientColumns {
  const P *dy_scale, *x_scale, *shift;
};
// cols is at most kMaxBlockCols where a kernel sums.
template <class T>
struct Columns {
  using P = Stat<T>;
  // Per column, the mean of the first rows: 1 of 64.
  void (*pilot)(const T* x, Block block, P* mean);
  // Per column, sum d and sum d^2 with d = x - shift. x is prefetched `ahead` values on, if not 0.
  void (*sums)(const T* x, Block block, std::int64_t ahead, const P* shift, double* sum,
               double* squares);
  void (*forward)(ForwardPass<T> pass, Block block, AffineColumns<P> a);
  void (*gradient_sums)(BackwardPass<T> pass, Block block, AffineColumns<P> a, double* dy_sum,
                        double* dy_x_sum);
  void (*backward)(BackwardPass<T> pass, Block block, AffineColumns<P> a, GradientColumns<P> g);
};

// At most so many values are in the rows that the forward takes at a time, if more than one.
inline constexpr std::int64_t kRowsRoom = 4096;
// Contiguous rows of `cols` values, each normalized by itself. Pointers but x, y and dy may be
// null.
template <class T>
struct RowsForward {
  using P = Stat<T>;
  const T* x;
  const T* residual;
  T* sum;  // of x and residual; needed if there is a residual
  T* y;
  const P *weight, *bias;
  P *mean, *rstd;
  double eps;
  bool keeps_sum;  // else it is only room, for a row and for kRowsRoom values at least
  bool streams;
};
template <class T>
struct RowsBackward {
  using P = Stat<T>;
  const T *dy, *x, *dsum;
  T* dx;
  const P *weight, *mean, *rstd;
  P *dweight, *dbias;  // increased, not set; both or neither
  bool streams;
};
template <class T>
struct Rows {
  using P = Stat<T>;
  void (*forward)(RowsForward<T> args, std::int64_t rows, std::int64_t cols);
  void (*backward)(RowsBackward<T> args, std::int64_t rows, std::int64_t cols);
  // total = the sum, in double, of `count` arrays `stride` apart. size is at most kMaxAddUp.
  void (*add_up)(const P* parts, std::int64_t count, std::int64_t stride, std::int64_t size,
                 P* total);
};
inline constexpr std::int64_t kMaxAddUp = 512;

// The channel windows of LRN.
struct Window {
  std::int64_t behind, ahead;  // at most channels - 1
  double alpha, beta, k;
  std::int64_t points() const { return behind + 1 + ahead; }
};
// buffer: forward_buffer / backward_buffer values of P.
template <class T>
struct Windows {
  using P = Stat<T>;
  // Channels as rows: a channels x cols block, consecutive channels `stride` apart.
  struct Across {
    std::int64_t channels, cols, stride;
    std::int64_t forward_buffer(const Window& w) const { return (w.behind + 2) * cols; }
    std::int64_t backward_buffer(const Window& w) const {
      return (w.points() + w.behind + 3) * cols;
    }
  };
  // Channels along rows: contiguous rows of `channels` values.
  struct Along {
    std::int64_t rows, channels;
    std::int64_t forward_buffer(const Window& w) const {
      return rows * (channels + w.points() - 1);
    }
    std::int64_t backward_buffer(const Window& w) const {
      return 2 * forward_buffer(w) + rows * channels;
    }
  };
  void (*forward_across)(const T* x, T* y, Across block, Window window, P* buffer, bool streams);
  void (*backward_across)(const T* dy, const T* x, T* dx, Across block, Window window, P* buffer,
                          bool streams);
  void (*forward_along)(const T* x, T* y, Along block, Window window, P* buffer, bool streams);
  void (*backward_along)(const T* dy, const T* x, T* dx, Along block, Window window, P* buffer,
                         bool streams);
};

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

// Calls of macro(prefix, type) for every activation type. Adding a type is adding a line here.
#define EVENKEEL_FOR_EACH_TYPE(macro, ...)                            \
  macro(float, float, __VA_ARGS__) macro(double, double, __VA_ARGS__) \
      macro(bfloat16, BFloat16, __VA_ARGS__) macro(float16, Float16, __VA_ARGS__)

// Within a target's namespace: one function per type that returns its table.
#define EVENKEEL_KERNEL_TABLE(prefix, T, name, Table) \
  const kernels::Table<T>* prefix##_##name() { return table<T>(); }
#define EVENKEEL_KERNEL_TABLES(name, Table) \
  EVENKEEL_FOR_EACH_TYPE(EVENKEEL_KERNEL_TABLE, name, Table)

// Once per file: name<T>() of the header, dispatched to the active target.
#define EVENKEEL_EXPORT_TABLE(prefix, T, name, Table) \
  HWY_EXPORT(prefix##_##name);                        \
  template <>                                         \
  const Table<T>& name<T>() {                         \
    select_target_from_environment();                 \
    return *HWY_DYNAMIC_DISPATCH(prefix##_##name)();  \
  }
#define EVENKEEL_EXPORT_KERNELS(name, Table)                 \
  namespace evenkeel::kernels {                              \
  EVENKEEL_FOR_EACH_TYPE(EVENKEEL_EXPORT_TABLE, name, Table) \
  }
