// What the passes over rows share: how many rows they take at a time, sums of the lanes of
// many vectors at once, and what is computed in double.
#if defined(EVENKEEL_SRC_KERNELS_ROW_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_ROW_SUMS_INL_H_
#undef EVENKEEL_SRC_KERNELS_ROW_SUMS_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_ROW_SUMS_INL_H_
#endif

#include <algorithm>

#include "src/kernels/range.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

// What follows the sums of a row, which is horizontal sums and the forward's square root and
// division, takes longer than reading and writing a short row. So the forward takes some short rows
// at a time, and both directions take as many narrow rows as a vector has lanes: then the sums of
// all of them end in one vector.
template <class T>
inline constexpr std::int64_t kNarrow = 512 / sizeof(T);
template <class T>
inline constexpr std::int64_t kShort = 1024 / sizeof(T);
template <class P>
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(hn::ScalableTag<P>()));

// Where a row's set of parameters starts.
template <class Args>
HWY_INLINE std::int64_t parameters_at(const Args& args, std::int64_t row, std::int64_t cols) {
  return args.groups == 1 ? 0 : row % args.groups * cols;
}

// A number of rows, as a policy.
template <int n>
using Count = std::integral_constant<int, n>;

// The prefetch distance for some rows of `count` values in all: 2048 values at least, and 0 for
// what is in cache.
HWY_INLINE std::int64_t distance(bool non_temporal, std::int64_t count) {
  return non_temporal ? std::max<std::int64_t>(count, 2048) : 0;
}

// Lane r of the result is the sum of the lanes of vectors[r], r < count. Neighbors are added up,
// and then neighbors of those: the same order for every r and count.
template <int count, int lanes, class D, class V = hn::Vec<D>>
HWY_INLINE V sums_of_lanes([[maybe_unused]] D d, const V* vectors) {
  static_assert(count <= lanes);
  if constexpr (lanes == 1) {
    return vectors[0];
#if HWY_TARGET != HWY_SCALAR  // which has one lane
  } else {
    constexpr int pairs = (count + 1) / 2;
    V sums[pairs];
    for (int p = 0; p < pairs; ++p) {
      const V low = vectors[2 * p], high = vectors[std::min(2 * p + 1, count - 1)];
      sums[p] = hn::Add(hn::ConcatEven(d, high, low), hn::ConcatOdd(d, high, low));
    }
    return sums_of_lanes<pairs, lanes / 2>(d, sums);
#endif
  }
}
template <int count, class D, class V = hn::Vec<D>>
HWY_INLINE V sums_of_lanes(D d, const V* vectors) {
  return sums_of_lanes<count, static_cast<int>(hn::MaxLanes(d))>(d, vectors);
}

// Values of P as doubles, and back.
template <class D, class P>
HWY_INLINE hn::Vec<D> load_wide(D d, const P* p) {
  if constexpr (std::is_same_v<P, double>) {
    return hn::LoadU(d, p);
  } else {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<P, D>(), p));
  }
}
template <class D, class P>
HWY_INLINE void store_narrow(hn::Vec<D> v, D d, P* p) {
  if constexpr (std::is_same_v<P, double>) {
    hn::StoreU(v, d, p);
  } else {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
    // Their DemoteTo makes the largest float of infinity.
    double values[hn::MaxLanes(D())];
    hn::StoreU(v, d, values);
    std::copy_n(values, hn::Lanes(d), p);
#else
    const hn::Rebind<P, D> narrow;
    hn::StoreU(hn::DemoteTo(narrow, v), narrow, p);
#endif
  }
}

// x^ = (x - center) * scale + rest, of each row, where center is the mean rounded to P and
// rest = (center - mean) * rstd.
template <class P, int count>
struct RowAffine {
  P center[count], scale[count], rest[count];
  // Whether all of it is within the bounds of range.h, so that the kernels can take the rows.
  bool fits = true;

  HWY_INLINE void set(const double* mean, const double* rstd) {
    using Range = kernels::Range<P>;
    const hn::CappedTag<double, count> d;
    for (int r = 0; r < count; r += static_cast<int>(hn::Lanes(d))) {
      const auto v_mean = hn::LoadU(d, mean + r), v_rstd = hn::LoadU(d, rstd + r);
      store_narrow(v_mean, d, center + r);
      store_narrow(v_rstd, d, scale + r);
      store_narrow(hn::Mul(hn::Sub(load_wide(d, center + r), v_mean), v_rstd), d, rest + r);
      const auto outside = hn::Or(hn::Or(hn::Lt(v_rstd, hn::Set(d, Range::least_scale)),
                                         hn::Gt(v_rstd, hn::Set(d, Range::most))),
                                  hn::Gt(hn::Abs(v_mean), hn::Set(d, Range::most)));
      fits = fits && hn::AllFalse(d, outside);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
