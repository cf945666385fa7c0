// The forward over rows, in two passes over a row, three over a short one, all but the first from
// cache: moments; then
//   x^ = (x - center) * rstd + rest     y = x^ * weight + bias
// where center is the mean rounded to P and rest = (center - mean) * rstd. With a residual the row
// is first added up, and its sum takes the place of x.
//
// While a row is written, the next is prefetched: reading and writing overlap.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/rows_forward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>

#include "src/kernels/dispatch.h"
#include "src/kernels/extended.h"
#include "src/kernels/moments-inl.h"
#include "src/kernels/row_sums-inl.h"
#include "src/kernels/rows.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

template <class T>
HWY_INLINE void add_rows(const T* x, const T* residual, T* sum, std::int64_t count,
                         std::int64_t prefetch_distance) {
  const hn::ScalableTag<Wide<T>> d;
  for_each_vector(d, count, [=](auto lanes, std::int64_t i) HWY_ATTR {
    prefetch_to_l2(residual + i, prefetch_distance);
    lanes.store(hn::Add(lanes.load(d, x + i), lanes.load(d, residual + i)), d, sum + i);
  });
}

// The sum of the squares of a block.
template <class T>
HWY_INLINE double block_squares(const T* x, std::int64_t count) {
  const hn::ScalableTag<Wide<T>> d;
  using V = hn::Vec<decltype(d)>;
  PairOfSums<decltype(d)> sums(d);
  sums.add(d, count, [=](auto lanes, std::int64_t i, V& /*unused*/, V& t) HWY_ATTR {
    const V v = lanes.load(d, x + i);
    t = hn::MulAdd(v, v, t);
  });
  return sums.t(d);
}

// The mean of the squares of a row of any length: sums in P over blocks, added up in double.
template <class T>
HWY_INLINE double row_mean_square(const T* x, std::int64_t cols) {
  double total = 0;
  for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
    total += block_squares(x + begin, std::min(kBlock, cols - begin));
  }
  return total / static_cast<double>(cols);
}

// Of `count` rows.
template <int count>
struct RowMoments {
  double mean[count], variance[count];
};

// Short rows that are taken at a time. More bytes would leave memory idle while they are summed.
template <bool non_temporal>
inline constexpr int kShortRows = non_temporal ? 4 : 8;
static_assert(kShortRows<false> * kShort<BFloat16> <= kernels::kRowsRoom);
static_assert(kLanes<float> * kNarrow<BFloat16> <= kernels::kRowsRoom);

// Of short rows: sums about a pivot as in block_moments, the pivot being the mean itself, or 0 if
// the mean is taken to be 0.
template <int count, class T>
HWY_INLINE RowMoments<count> short_row_moments(const T* x, std::int64_t cols, bool centered) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  HWY_ALIGN P pivot[kLanes<P>] = {};
  HWY_ALIGN P offset[kLanes<P>], square[kLanes<P>];
  V sums[count], squares[count];
  if (centered) {
    for (int r = 0; r < count; ++r) {
      const T* const row = x + r * cols;
      pivot[r] = static_cast<P>(row[0]);
      const V first = hn::Set(d, pivot[r]);
      V s = hn::Zero(d);
      for_each_vector(d, cols, [&s, d, row, first](auto lanes, std::int64_t i) HWY_ATTR {
        s = hn::Add(s, lanes.zero_rest(d, hn::Sub(lanes.load(d, row + i), first)));
      });
      sums[r] = s;
    }
    const auto share = hn::Set(d, P{1} / static_cast<P>(cols));
    hn::Store(hn::MulAdd(sums_of_lanes<count>(d, sums), share, hn::Load(d, pivot)), d, pivot);
  }
  for (int r = 0; r < count; ++r) {
    const T* const row = x + r * cols;
    const V center = hn::Set(d, pivot[r]);
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
    if (!centered) {
      hn::StoreU(hn::Zero(dd), dd, moments.mean + r);
      hn::StoreU(v_square, dd, moments.variance + r);
      continue;
    }
    const auto variance = hn::NegMulAdd(v_offset, v_offset, v_square);
    const auto negative = hn::Lt(variance, hn::Zero(dd));  // NaN is not
    hn::StoreU(hn::Add(load_wide(dd, pivot + r), v_offset), dd, moments.mean + r);
    hn::StoreU(hn::IfThenZeroElse(negative, variance), dd, moments.variance + r);
  }
  return moments;
}

// Writes y of `count` rows of x, which is that of the arguments or the sum, and prefetches from
// `next` on.
template <bool non_temporal, int count, class T>
HWY_INLINE void write_rows(const kernels::RowsForward<T>& args, const T* x, const T* next,
                           const RowAffine<Wide<T>, count>& affine, std::int64_t row,
                           std::int64_t cols, std::int64_t prefetch_distance) {
  const hn::ScalableTag<Wide<T>> d;
  for (int r = 0; r < count; ++r, x += cols, next += cols) {
    const std::int64_t parameters = parameters_at(args, row + r, cols);
    const auto* const weight = args.weight + parameters;
    const auto* const bias = args.bias + parameters;
    const auto center = hn::Set(d, affine.center[r]);
    const auto scale = hn::Set(d, affine.scale[r]);
    const auto rest = hn::Set(d, affine.rest[r]);
    const Output<T> y{args.y + (row + r) * cols, non_temporal};
    for_each_vector_aligned<non_temporal>(
        d, y.data, cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
          prefetch_to_l2(next + i, prefetch_distance);
          const auto x_hat = hn::MulAdd(hn::Sub(lanes.load(d, x + i), center), scale, rest);
          y.put(lanes, hn::MulAdd(x_hat, lanes.load(d, weight + i), lanes.load(d, bias + i)), d, i);
        });
  }
}

// 1 / sqrt(variance + eps) of each row. Returns whether all variances can be trusted.
template <class P, int count>
HWY_INLINE bool set_rstd(const RowMoments<count>& moments, double eps, double* rstd) {
  using Range = kernels::Range<P>;
  const hn::CappedTag<double, count> d;
  bool trusted = true;
  for (int r = 0; r < count; r += static_cast<int>(hn::Lanes(d))) {
    const auto variance = hn::LoadU(d, moments.variance + r);
    const auto sum = hn::Add(variance, hn::Set(d, eps));
    hn::StoreU(hn::Div(hn::Set(d, 1), hn::Sqrt(sum)), d, rstd + r);
    trusted = trusted && hn::AllTrue(d, hn::And(hn::Ge(sum, hn::Set(d, Range::least_product)),
                                                hn::Le(variance, hn::Set(d, Range::most_product))));
  }
  return trusted;
}

// Rows of x, which is that of the arguments or the sum. Returns false, with nothing written, if the
// kernel cannot take them.
template <bool non_temporal, bool is_short, int count, class T>
HWY_INLINE bool forward_summed(const kernels::RowsForward<T>& args, const T* x, const T* next,
                               std::int64_t row, std::int64_t cols,
                               std::int64_t prefetch_distance) {
  using P = Wide<T>;
  RowMoments<count> moments;
  if constexpr (is_short) {
    moments = short_row_moments<count>(x, cols, args.centered);
  } else {
    static_assert(count == 1);
    if (args.centered) {
      const Moments m = row_moments(x, cols);
      moments.mean[0] = m.mean;
      moments.variance[0] = m.biased_variance();
    } else {
      moments.mean[0] = 0;
      moments.variance[0] = row_mean_square(x, cols);
    }
  }
  double rstd[count];
  if (HWY_UNLIKELY((!set_rstd<P, count>(moments, args.eps, rstd)))) return false;
  RowAffine<P, count> affine;
  affine.set(moments.mean, rstd);
  if (HWY_UNLIKELY(!affine.fits)) return false;
  if (args.mean) std::copy_n(moments.mean, count, args.mean + row);
  if (args.rstd) std::copy_n(rstd, count, args.rstd + row);
  write_rows<non_temporal, count>(args, x, next, affine, row, cols, prefetch_distance);
  return true;
}

// Rows of which one or more do not fit the kernel, one by one: a row's result does not depend on
// how many are taken together.
template <bool is_short, class T>
HWY_NOINLINE void forward_one_by_one(const kernels::RowsForward<T>& args, const T* x,
                                     std::int64_t row, int count, std::int64_t cols) {
  for (int r = 0; r < count; ++r, x += cols) {
    if constexpr (is_short) {
      if (count > 1 && forward_summed<false, true, 1>(args, x, x, row + r, cols, 0)) continue;
    }
    kernels::ExtendedRange<T>::row_forward(args, x, row + r, cols);
  }
}

template <bool non_temporal, bool is_short, int count, class T>
HWY_INLINE void forward_few(const kernels::RowsForward<T>& args, std::int64_t row,
                            std::int64_t cols) {
  const T* x = args.x + row * cols;
  const T* next = x;  // x itself, even if its sum takes its place
  const std::int64_t prefetch_distance = distance(non_temporal, count * cols);
  if (args.residual) {
    T* sum = args.sum + (args.keeps_sum ? row * cols : 0);
    add_rows(x, args.residual + row * cols, sum, count * cols, prefetch_distance);
    x = sum;
  }
  if (HWY_UNLIKELY((!forward_summed<non_temporal, is_short, count>(args, x, next, row, cols,
                                                                   prefetch_distance)))) {
    forward_one_by_one<is_short>(args, x, row, count, cols);
  }
}

// The last short rows, which are too few to be taken together.
template <class T>
HWY_NOINLINE void forward_short_rows(const kernels::RowsForward<T>& args, std::int64_t row,
                                     std::int64_t count, std::int64_t cols) {
  for (std::int64_t r = 0; r < count; ++r) forward_few<false, true, 1>(args, row + r, cols);
}

template <class T>
void rows_forward(kernels::RowsForward<T> args, std::int64_t rows, std::int64_t cols) {
  with_flag(args.non_temporal, [&](auto non_temporal) HWY_ATTR {
    std::int64_t r = 0;
    const auto take = [&](auto is_short, auto count) HWY_ATTR {
      for (; r + count <= rows; r += count) {
        forward_few<non_temporal.value, is_short.value, count.value>(args, r, cols);
      }
    };
    // From memory with a residual, which are more bytes a row, fewer rows are 1.1 times as fast.
    if (cols <= kNarrow<T> && !(non_temporal.value && args.residual)) {
      take(std::true_type(), Count<kLanes<Wide<T>>>());
    }
    if (cols <= kShort<T>) {
      take(std::true_type(), Count<std::min(kShortRows<non_temporal.value>, kLanes<Wide<T>>)>());
      forward_short_rows(args, r, rows - r, cols);
      return;
    }
    take(std::false_type(), Count<1>());
  });
}

static_assert(kernels::kMaxPiece == kBlock);

template <class T>
void add_piece(const T* x, const T* residual, T* sum, std::int64_t count) {
  add_rows(x, residual, sum, count, 0);
}
template <class T>
double sum_of_squares(const T* x, std::int64_t count) {
  return block_squares(x, count);
}
template <class T>
void write_piece(kernels::RowsForward<T> args, const T* x, double mean, double rstd,
                 std::int64_t count) {
  RowAffine<Wide<T>, 1> affine;
  affine.set(&mean, &rstd);
  with_flag(args.non_temporal, [&](auto non_temporal) HWY_ATTR {
    write_rows<non_temporal.value, 1>(args, x, x, affine, 0, count,
                                      distance(non_temporal.value, count));
  });
}

template <class T>
const kernels::RowsForwardTable<T>* table() {
  static constexpr kernels::RowsForwardTable<T> kTable = {rows_forward<T>, add_piece<T>,
                                                          sum_of_squares<T>, write_piece<T>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(rows_forward, RowsForwardTable)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(rows_forward, RowsForwardTable)
#endif
