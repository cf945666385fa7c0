// Kernels for one set of coefficients per column of a row-major block.
//
//   forward    y  = activation((x - center) * scale + shift + residual)
//   backward   dx = dy_scale * dy + x_scale * (x - center) + shift
//
// Rows are the outer loop, so that memory is read in order; coefficients and sums wait in L1.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/columns.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "src/kernels/epilogue-inl.h"
#include "src/kernels/kernels.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::AffineColumns;
using kernels::Block;
using kernels::GradientColumns;
using kernels::kMaxBlockCols;

// Rows accumulated in P before they are added up in double.
inline constexpr std::int64_t kRowsInP = 64;
// One row of so many is a pilot: the bound on the loss of accuracy is that of block_moments.
inline constexpr std::int64_t kRowsPerPilot = 64;

template <class T>
void pilot(const T* x, Block block, Stat<T>* mean) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  const std::int64_t rows = (block.rows + kRowsPerPilot - 1) / kRowsPerPilot;
  const auto share = hn::Set(d, P{1} / static_cast<P>(rows));
  for_each_vector(d, block.cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
    const auto first = lanes.load(d, x + i);
    // Differences, so that equal values have exactly their mean.
    auto differences = hn::Zero(d);
    for (std::int64_t r = 1; r < rows; ++r) {
      differences = hn::Add(differences, hn::Sub(lanes.load(d, x + r * block.stride + i), first));
    }
    lanes.store(rows == 1 ? first : hn::MulAdd(differences, share, first), d, mean + i);
  });
}

// Two sums per column, s and t: add(lanes, at, i, s, t) adds what column i contributes, `at` being
// its place in memory.
template <class T, class Add>
HWY_INLINE void sum_columns(Block block, double* s_out, double* t_out, const Add& add) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  HWY_ALIGN P s_sum[kMaxBlockCols];
  HWY_ALIGN P t_sum[kMaxBlockCols];
  std::fill_n(s_out, block.cols, 0.0);
  std::fill_n(t_out, block.cols, 0.0);
  for (std::int64_t begin = 0; begin < block.rows; begin += kRowsInP) {
    std::fill_n(s_sum, block.cols, P{0});
    std::fill_n(t_sum, block.cols, P{0});
    const std::int64_t end = std::min(block.rows, begin + kRowsInP);
    for (std::int64_t r = begin; r < end; ++r) {
      for_each_vector(d, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
        auto s = lanes.load(d, s_sum + i);
        auto t = lanes.load(d, t_sum + i);
        add(lanes, r * block.stride + i, i, s, t);
        lanes.store(s, d, s_sum + i);
        lanes.store(t, d, t_sum + i);
      });
    }
    for (std::int64_t c = 0; c < block.cols; ++c) {
      s_out[c] += static_cast<double>(s_sum[c]);
      t_out[c] += static_cast<double>(t_sum[c]);
    }
  }
}

template <class T>
void sums(const T* x, Block block, std::int64_t ahead, const Stat<T>* shift, double* sum,
          double* squares) {
  const hn::ScalableTag<Stat<T>> d;
  using V = hn::Vec<decltype(d)>;
  sum_columns<T>(block, sum, squares,
                 [=](auto lanes, std::int64_t at, std::int64_t i, V& s, V& t) HWY_ATTR {
                   prefetch_to_l2(x + at, ahead);
                   const auto deviation = hn::Sub(lanes.load(d, x + at), lanes.load(d, shift + i));
                   s = hn::Add(s, deviation);
                   t = hn::MulAdd(deviation, deviation, t);
                 });
}

// An output, which may be null, of a block: streamed if all its rows start at a line.
template <class T>
HWY_INLINE Output<T> output(T* data, const Block& block, bool streams) {
  return {data, streams && data && misaligned(data, kLine<T>) == 0 && block.stride % kLine<T> == 0};
}

template <class T>
void forward(ForwardPass<T> pass, Block block, AffineColumns<Stat<T>> a) {
  const hn::ScalableTag<Stat<T>> d;
  const auto y = output(pass.y, block, pass.streams);
  with_epilogue(pass, [&](auto epilogue) HWY_ATTR {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      for_each_vector(d, block.cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
        const std::int64_t at = r * block.stride + i;
        prefetch(epilogue, pass, at);
        const auto deviation = hn::Sub(lanes.load(d, pass.x + at), lanes.load(d, a.center + i));
        const auto v =
            hn::MulAdd(deviation, lanes.load(d, a.scale + i), lanes.load(d, a.shift + i));
        y.put(lanes, epilogue.forward(lanes, d, v, pass.residual, at), d, at);
      });
    }
  });
}

template <class T>
void gradient_sums(BackwardPass<T> pass, Block block, AffineColumns<Stat<T>> a, double* dy_sum,
                   double* dy_x_sum) {
  const hn::ScalableTag<Stat<T>> d;
  using V = hn::Vec<decltype(d)>;
  with_epilogue(pass, [&](auto epilogue, auto) HWY_ATTR {
    sum_columns<T>(block, dy_sum, dy_x_sum,
                   [=](auto lanes, std::int64_t at, std::int64_t i, V& s, V& t) HWY_ATTR {
                     prefetch(epilogue, pass, at);
                     const auto deviation =
                         hn::Sub(lanes.load(d, pass.x + at), lanes.load(d, a.center + i));
                     auto dy = lanes.load(d, pass.dy + at);
                     if constexpr (decltype(epilogue)::masks) {
                       const auto v = hn::MulAdd(deviation, lanes.load(d, a.scale + i),
                                                 lanes.load(d, a.shift + i));
                       dy = epilogue.backward(lanes, d, dy, v, pass.residual, at);
                     }
                     s = hn::Add(s, dy);
                     t = hn::MulAdd(dy, deviation, t);
                   });
  });
}

template <class T>
void backward(BackwardPass<T> pass, Block block, AffineColumns<Stat<T>> a,
              GradientColumns<Stat<T>> g) {
  const hn::ScalableTag<Stat<T>> d;
  const auto dx = output(pass.dx, block, pass.streams);
  const auto dresidual = output(pass.dresidual, block, pass.streams);
  with_epilogue(pass, [&](auto epilogue, auto statistics) HWY_ATTR {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      for_each_vector(d, block.cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
        const std::int64_t at = r * block.stride + i;
        prefetch(epilogue, pass, at);
        const auto deviation = hn::Sub(lanes.load(d, pass.x + at), lanes.load(d, a.center + i));
        auto dy = lanes.load(d, pass.dy + at);
        if constexpr (decltype(epilogue)::masks) {
          const auto v =
              hn::MulAdd(deviation, lanes.load(d, a.scale + i), lanes.load(d, a.shift + i));
          dy = epilogue.backward(lanes, d, dy, v, pass.residual, at);
        }
        if (dresidual.data) dresidual.put(lanes, dy, d, at);
        if (!dx.data) return;
        const auto dy_scale = lanes.load(d, g.dy_scale + i);
        auto v = hn::Mul(dy, dy_scale);
        if constexpr (decltype(statistics)::value) {
          v = hn::MulAdd(deviation, lanes.load(d, g.x_scale + i), lanes.load(d, g.shift + i));
          v = hn::MulAdd(dy, dy_scale, v);
        }
        dx.put(lanes, v, d, at);
      });
    }
  });
}

template <class T>
const kernels::Columns<T>* table() {
  static constexpr kernels::Columns<T> kTable = {pilot<T>, sums<T>, forward<T>, gradient_sums<T>,
                                                 backward<T>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(columns, Columns)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(columns, Columns)
#endif
