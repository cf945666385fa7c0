// LayerNorm's forward, two passes over a row, three over a short one (all but the first from
// cache): moments; then
//   x^ = (x - center) * rstd + rest     y = x^ * weight + bias
// where center is the mean rounded to P and rest = -(mean - center) * rstd. With a residual the row
// is first added up, and its sum takes the place of x.
//
// While a row is written, the next is prefetched: reading and writing overlap.
#if defined(EVENKEEL_SRC_KERNELS_ROWS_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_ROWS_FORWARD_INL_H_
#undef EVENKEEL_SRC_KERNELS_ROWS_FORWARD_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_ROWS_FORWARD_INL_H_
#endif

#include <algorithm>

#include "src/kernels/kernels.h"
#include "src/kernels/moments-inl.h"
#include "src/kernels/row_sums-inl.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

template <class T>
HWY_INLINE void add_rows(const T* x, const T* residual, T* sum, std::int64_t count,
                         std::int64_t ahead) {
  const hn::ScalableTag<Stat<T>> d;
  for_each_vector(d, count, [=](auto lanes, std::int64_t i) HWY_ATTR {
    prefetch_to_l2(residual + i, ahead);
    lanes.store(hn::Add(lanes.load(d, x + i), lanes.load(d, residual + i)), d, sum + i);
  });
}

// Of `count` rows.
template <int count>
struct RowMoments {
  double mean[count], variance[count];
};

// Short rows that are taken at a time. More bytes would leave memory idle while they are summed.
template <bool streams>
inline constexpr int kShortRows = streams ? 4 : 8;
static_assert(kShortRows<false> * kShort<BFloat16> <= kernels::kRowsRoom);
static_assert(kLanes<float> * kNarrow<BFloat16> <= kernels::kRowsRoom);

// Of short rows: shifted sums as in block_moments, about the mean itself.
template <int count, class T>
HWY_INLINE RowMoments<count> short_row_moments(const T* x, std::int64_t cols) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  HWY_ALIGN P shift[kLanes<P>] = {};
  HWY_ALIGN P offset[kLanes<P>], square[kLanes<P>];
  V sums[count], squares[count];
  for (int r = 0; r < count; ++r) {
    const T* const row = x + r * cols;
    shift[r] = static_cast<P>(row[0]);
    const V first = hn::Set(d, shift[r]);
    V s = hn::Zero(d);
    for_each_vector(d, cols, [&s, d, row, first](auto lanes, std::int64_t i) HWY_ATTR {
      s = hn::Add(s, lanes.zero_rest(d, hn::Sub(lanes.load(d, row + i), first)));
    });
    sums[r] = s;
  }
  const auto share = hn::Set(d, P{1} / static_cast<P>(cols));
  hn::Store(hn::MulAdd(sums_of_lanes<count>(d, sums), share, hn::Load(d, shift)), d, shift);
  for (int r = 0; r < count; ++r) {
    const T* const row = x + r * cols;
    const V center = hn::Set(d, shift[r]);
    V s = hn::Zero(d), t = s;
    for_each_vector(d, cols, [&s, &t, d, row, center](auto lanes, std::int64_t i) HWY_ATTR {
      const V deviation = lanes.zero_rest(d, hn::Sub(lanes.load(d, row + i), center));
      s = hn::Add(s, deviation);
      t = hn::MulAdd(deviation, deviation, t);
    });
    sums[r] = s;
    squares[r] = t;
  }
  hn::Store(sums_of_lanes<count>(d, sums), d, offset);
  hn::Store(sums_of_lanes<count>(d, squares), d, square);

  RowMoments<count> moments;
  const hn::CappedTag<double, count> dd;
  const auto reciprocal = hn::Set(dd, 1 / static_cast<double>(cols));
  for (int r = 0; r < count; r += static_cast<int>(hn::Lanes(dd))) {
    const auto v_offset = hn::Mul(load_wide(dd, offset + r), reciprocal);
    const auto v_square = hn::Mul(load_wide(dd, square + r), reciprocal);
    const auto variance = hn::NegMulAdd(v_offset, v_offset, v_square);
    const auto negative = hn::Lt(variance, hn::Zero(dd));  // NaN is not
    hn::StoreU(hn::Add(load_wide(dd, shift + r), v_offset), dd, moments.mean + r);
    hn::StoreU(hn::IfThenZeroElse(negative, variance), dd, moments.variance + r);
  }
  return moments;
}

// x^ = (x - center) * scale + rest, of each row.
template <class P, int count>
struct RowAffine {
  P center[count], scale[count], rest[count];

  HWY_INLINE RowAffine(const RowMoments<count>& moments, double eps) {
    const hn::CappedTag<double, count> d;
    for (int r = 0; r < count; r += static_cast<int>(hn::Lanes(d))) {
      const auto mean = hn::LoadU(d, moments.mean + r);
      const auto variance = hn::LoadU(d, moments.variance + r);
      const auto rstd = hn::Div(hn::Set(d, 1), hn::Sqrt(hn::Add(variance, hn::Set(d, eps))));
      store_narrow(mean, d, center + r);
      store_narrow(rstd, d, scale + r);
      store_narrow(hn::Mul(hn::Sub(load_wide(d, center + r), mean), rstd), d, rest + r);
    }
  }
};

template <bool has_weight, bool has_bias, bool streams, bool is_short, int count, class T>
HWY_INLINE void forward_few(const kernels::RowsForward<T>& args, std::int64_t row,
                            std::int64_t cols) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  const T* x = args.x + row * cols;
  const T* next = x;  // x itself, even if its sum takes its place
  const std::int64_t ahead = distance(streams, count * cols);
  if (args.residual) {
    T* sum = args.sum + (args.keeps_sum ? row * cols : 0);
    add_rows(x, args.residual + row * cols, sum, count * cols, ahead);
    x = sum;
  }
  RowMoments<count> moments;
  if constexpr (is_short) {
    moments = short_row_moments<count>(x, cols);
  } else {
    static_assert(count == 1);
    const Moments m = run_moments(x, cols);
    moments.mean[0] = m.mean;
    moments.variance[0] = m.biased_variance();
  }
  const RowAffine<P, count> affine(moments, args.eps);
  const P* const weight = args.weight;
  const P* const bias = args.bias;
  if (args.mean) std::copy_n(affine.center, count, args.mean + row);
  if (args.rstd) std::copy_n(affine.scale, count, args.rstd + row);
  for (int r = 0; r < count; ++r, x += cols, next += cols) {
    const auto center = hn::Set(d, affine.center[r]);
    const auto scale = hn::Set(d, affine.scale[r]);
    const auto rest = hn::Set(d, affine.rest[r]);
    const Output<T> y{args.y + (row + r) * cols, streams};
    for_each_vector_aligned(d, y.data, cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
      prefetch_to_l2(next + i, ahead);
      auto v = hn::MulAdd(hn::Sub(lanes.load(d, x + i), center), scale, rest);
      if constexpr (has_weight && has_bias) {
        v = hn::MulAdd(v, lanes.load(d, weight + i), lanes.load(d, bias + i));
      } else if constexpr (has_weight) {
        v = hn::Mul(v, lanes.load(d, weight + i));
      } else if constexpr (has_bias) {
        v = hn::Add(v, lanes.load(d, bias + i));
      }
      y.put(lanes, v, d, i);
    });
  }
}

template <class T>
void rows_forward(kernels::RowsForward<T> args, std::int64_t rows, std::int64_t cols) {
  const auto run = [&](auto weight, auto bias, auto streams) HWY_ATTR {
    std::int64_t r = 0;
    const auto take = [&](auto is_short, auto count) HWY_ATTR {
      for (; r + count <= rows; r += count) {
        forward_few<weight.value, bias.value, streams.value, is_short.value, count.value>(args, r,
                                                                                          cols);
      }
    };
    // From memory with a residual, which are more bytes a row, fewer rows are 1.1 times as fast.
    if (cols <= kNarrow<T> && !(streams.value && args.residual)) {
      take(std::true_type(), Count<kLanes<Stat<T>>>());
    }
    if (cols <= kShort<T>) {
      take(std::true_type(), Count<std::min(kShortRows<streams.value>, kLanes<Stat<T>>)>());
      take(std::true_type(), Count<1>());
    }
    take(std::false_type(), Count<1>());
  };
  with_flag(args.weight != nullptr, [&](auto weight) HWY_ATTR {
    with_flag(args.bias != nullptr, [&](auto bias) HWY_ATTR {
      with_flag(args.streams, [&](auto streams) HWY_ATTR { run(weight, bias, streams); });
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
