// Kernels for rows that are each normalized by themselves: LayerNorm.
//
// Forward, two passes over a row (the second from cache): moments; then
//   x^ = (x - center) * rstd + rest     y = x^ * weight + bias
// where center is the mean rounded to P and rest = -(mean - center) * rstd. With a residual the row
// is first added up, and its sum takes the place of x.
//
// Backward, two passes over a few rows: with g = dy * weight, the sums of g and g * x^ of each, and
// the rows' contribution to dweight and dbias, which are loaded and stored once for all; then
//   dx = rstd * (g - mean(g) - x^ * mean(g*x^)) + dsum
//
// While a row is written, the next is prefetched: reading and writing overlap.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <cmath>

#include "src/kernels/kernels.h"
#include "src/kernels/moments-inl.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::kRows;
using kernels::RowsBackward;
using kernels::RowsForward;

// The least distance, in values, at which operands are prefetched from memory.
inline constexpr std::int64_t kPrefetch = 2048;

// How far ahead of some rows of `count` values in all is prefetched: not at all what is in cache.
HWY_INLINE std::int64_t distance(bool streams, std::int64_t count) {
  return streams ? std::max(count, kPrefetch) : 0;
}

template <class T>
HWY_INLINE void add_rows(const T* x, const T* residual, T* sum, std::int64_t count,
                         std::int64_t ahead) {
  const hn::ScalableTag<Stat<T>> d;
  for_each_vector(d, count, [&](auto lanes, std::int64_t i) HWY_ATTR {
    prefetch_to_l2(residual + i, ahead);
    lanes.store(hn::Add(lanes.load(d, x + i), lanes.load(d, residual + i)), d, sum + i);
  });
}

// Rows up to this length are taken kRows at a time: the latency of a row's horizontal sums, square
// root and division would otherwise be longer than its streaming.
inline constexpr std::int64_t kShortRow = 256;

// Mean and variance of `count` short rows: shifted sums as in block_moments, about the mean itself.
// The order of a row's sums does not depend on count.
template <int count, class T>
HWY_INLINE void short_row_statistics(const T* x, std::int64_t cols, double* mean,
                                     double* variance) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  V shift[count], s[count], t[count];
  for (int r = 0; r < count; ++r) {
    shift[r] = hn::Set(d, static_cast<P>(x[r * cols]));
    s[r] = t[r] = hn::Zero(d);
  }
  for_each_vector(d, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
    for (int r = 0; r < count; ++r) {
      const auto difference = hn::Sub(lanes.load(d, x + r * cols + i), shift[r]);
      s[r] = hn::Add(s[r], lanes.zero_rest(d, difference));
    }
  });
  const auto share = hn::Set(d, P{1} / static_cast<P>(cols));
  for (int r = 0; r < count; ++r) {
    shift[r] = hn::MulAdd(hn::SumOfLanes(d, s[r]), share, shift[r]);
    s[r] = hn::Zero(d);
  }
  for_each_vector(d, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
    for (int r = 0; r < count; ++r) {
      const auto difference = hn::Sub(lanes.load(d, x + r * cols + i), shift[r]);
      const auto deviation = lanes.zero_rest(d, difference);
      s[r] = hn::Add(s[r], deviation);
      t[r] = hn::MulAdd(deviation, deviation, t[r]);
    }
  });
  const double reciprocal = 1 / static_cast<double>(cols);
  for (int r = 0; r < count; ++r) {
    const double offset = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, s[r]))) * reciprocal;
    const double square = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, t[r]))) * reciprocal;
    mean[r] = static_cast<double>(hn::GetLane(shift[r])) + offset;
    variance[r] = std::max(square - offset * offset, 0.0);
  }
}

template <bool has_weight, bool has_bias, bool is_short, int count, class T>
HWY_INLINE void forward_few(const RowsForward<T>& args, std::int64_t row, std::int64_t cols) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  const T* x = args.x + row * cols;
  const T* next = x;  // x itself, even if its sum takes its place
  const std::int64_t ahead = distance(args.streams, count * cols);
  if (args.residual) {
    T* sum = args.sum + (args.keeps_sum ? row * cols : 0);
    add_rows(x, args.residual + row * cols, sum, count * cols, ahead);
    x = sum;
  }
  double mean[count], variance[count], rstd[count];
  if constexpr (is_short) {
    short_row_statistics<count>(x, cols, mean, variance);
  } else {
    static_assert(count == 1);
    const Moments m = run_moments(x, cols);
    mean[0] = m.mean;
    variance[0] = m.biased_variance();
  }
  for (int r = 0; r < count; ++r) rstd[r] = 1 / std::sqrt(variance[r] + args.eps);
  for (int r = 0; r < count; ++r) {
    if (args.mean) args.mean[row + r] = static_cast<P>(mean[r]);
    if (args.rstd) args.rstd[row + r] = static_cast<P>(rstd[r]);
  }
  for (int r = 0; r < count; ++r, x += cols, next += cols) {
    const auto center = static_cast<P>(mean[r]);
    const auto v_center = hn::Set(d, center);
    const auto scale = hn::Set(d, static_cast<P>(rstd[r]));
    const auto rest = hn::Set(d, static_cast<P>((static_cast<double>(center) - mean[r]) * rstd[r]));
    const Output<T> y{args.y + (row + r) * cols, args.streams};
    for_each_vector_aligned(d, y.data, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      prefetch_to_l2(next + i, ahead);
      auto v = hn::MulAdd(hn::Sub(lanes.load(d, x + i), v_center), scale, rest);
      if constexpr (has_weight && has_bias) {
        v = hn::MulAdd(v, lanes.load(d, args.weight + i), lanes.load(d, args.bias + i));
      } else if constexpr (has_weight) {
        v = hn::Mul(v, lanes.load(d, args.weight + i));
      } else if constexpr (has_bias) {
        v = hn::Add(v, lanes.load(d, args.bias + i));
      }
      y.put(lanes, v, d, i);
    });
  }
}

template <class T>
void forward(RowsForward<T> args, std::int64_t rows, std::int64_t cols) {
  with_flag(args.weight != nullptr, [&](auto weight) HWY_ATTR {
    with_flag(args.bias != nullptr, [&](auto bias) HWY_ATTR {
      constexpr bool w = decltype(weight)::value, b = decltype(bias)::value;
      std::int64_t r = 0;
      if (cols <= kShortRow) {
        for (; r + kRows <= rows; r += kRows) forward_few<w, b, true, kRows>(args, r, cols);
        for (; r < rows; ++r) forward_few<w, b, true, 1>(args, r, cols);
      }
      for (; r < rows; ++r) forward_few<w, b, false, 1>(args, r, cols);
    });
  });
}

// `count` rows, a constant. The order of a row's sums does not depend on it.
template <bool has_weight, bool wants_parameters, bool has_dsum, int count, class T>
HWY_INLINE void backward_few(const RowsBackward<T>& args, std::int64_t row, std::int64_t cols) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t at = row * cols;
  const T* x = args.x + at;
  const T* dy = args.dy + at;
  V center[count], scale[count];
  for (int r = 0; r < count; ++r) {
    center[r] = hn::Set(d, args.mean[row + r]);
    scale[r] = hn::Set(d, args.rstd[row + r]);
  }

  const std::int64_t ahead = distance(args.streams, count * cols);
  double sum_g[count] = {}, sum_g_x[count] = {};
  for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
    V s[count], t[count];
    for (int r = 0; r < count; ++r) s[r] = t[r] = hn::Zero(d);
    for_each_vector(
        d, begin, std::min(begin + kBlock, cols), [&](auto lanes, std::int64_t i) HWY_ATTR {
          auto dweight = hn::Zero(d), dbias = dweight;
          for (int r = 0; r < count; ++r) {
            prefetch_to_l2(dy + r * cols + i, ahead);
            prefetch_to_l2(x + r * cols + i, ahead);
            const auto v_dy = lanes.load(d, dy + r * cols + i);
            const auto deviation = hn::Sub(lanes.load(d, x + r * cols + i), center[r]);
            const auto x_hat = lanes.zero_rest(d, hn::Mul(deviation, scale[r]));
            auto g = v_dy;
            if constexpr (has_weight) g = hn::Mul(g, lanes.load(d, args.weight + i));
            s[r] = hn::Add(s[r], g);
            t[r] = hn::MulAdd(g, x_hat, t[r]);
            if constexpr (wants_parameters) {
              dweight = hn::MulAdd(v_dy, x_hat, dweight);
              dbias = hn::Add(dbias, v_dy);
            }
          }
          if constexpr (wants_parameters) {
            lanes.store(hn::Add(dweight, lanes.load(d, args.dweight + i)), d, args.dweight + i);
            lanes.store(hn::Add(dbias, lanes.load(d, args.dbias + i)), d, args.dbias + i);
          }
        });
    for (int r = 0; r < count; ++r) {
      sum_g[r] += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, s[r])));
      sum_g_x[r] += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, t[r])));
    }
  }
  if (!args.dx) return;

  const auto features = static_cast<double>(cols);
  for (int r = 0; r < count; ++r, x += cols, dy += cols) {
    const auto mean_g = hn::Set(d, static_cast<P>(sum_g[r] / features));
    const auto mean_g_x = hn::Set(d, static_cast<P>(sum_g_x[r] / features));
    const Output<T> dx{args.dx + at + r * cols, args.streams};
    for_each_vector_aligned(d, dx.data, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      prefetch_to_l2(x + i, ahead);
      prefetch_to_l2(dy + i, ahead);
      const auto x_hat = hn::Mul(hn::Sub(lanes.load(d, x + i), center[r]), scale[r]);
      auto g = lanes.load(d, dy + i);
      if constexpr (has_weight) g = hn::Mul(g, lanes.load(d, args.weight + i));
      auto v = hn::NegMulAdd(x_hat, mean_g_x, hn::Sub(g, mean_g));
      if constexpr (has_dsum) {
        prefetch_to_l2(args.dsum + at + r * cols + i, ahead);
        v = hn::MulAdd(v, scale[r], lanes.load(d, args.dsum + at + r * cols + i));
      } else {
        v = hn::Mul(v, scale[r]);
      }
      dx.put(lanes, v, d, i);
    });
  }
}

template <class T>
void backward(RowsBackward<T> args, std::int64_t rows, std::int64_t cols) {
  with_flag(args.weight != nullptr, [&](auto weight) HWY_ATTR {
    with_flag(args.dweight != nullptr, [&](auto parameters) HWY_ATTR {
      with_flag(args.dsum != nullptr, [&](auto dsum) HWY_ATTR {
        constexpr bool w = decltype(weight)::value, p = decltype(parameters)::value,
                       s = decltype(dsum)::value;
        std::int64_t r = 0;
        for (; r + kRows <= rows; r += kRows) backward_few<w, p, s, kRows>(args, r, cols);
        for (; r < rows; ++r) backward_few<w, p, s, 1>(args, r, cols);
      });
    });
  });
}

template <class P>
void add_up(const P* parts, std::int64_t count, std::int64_t stride, std::int64_t size, P* total) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<P, decltype(d)> parts_d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t whole = size / lanes * lanes;
  HWY_ALIGN double sums[kernels::kMaxAddUp] = {};
  for (std::int64_t n = 0; n < count; ++n, parts += stride) {
    for (std::int64_t i = 0; i < whole; i += lanes) {
      const auto values = hn::LoadU(parts_d, parts + i);
      if constexpr (std::is_same_v<P, double>) {
        hn::Store(hn::Add(hn::Load(d, sums + i), values), d, sums + i);
      } else {
        hn::Store(hn::Add(hn::Load(d, sums + i), hn::PromoteTo(d, values)), d, sums + i);
      }
    }
    for (std::int64_t i = whole; i < size; ++i) sums[i] += static_cast<double>(parts[i]);
  }
  for (std::int64_t i = 0; i < size; ++i) total[i] = static_cast<P>(sums[i]);
}

template <class T>
const kernels::Rows<T>* table() {
  static constexpr kernels::Rows<T> kTable = {forward<T>, backward<T>, add_up<Stat<T>>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(rows, Rows)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(rows, Rows)
#endif
