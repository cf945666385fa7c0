// Moments of a block: one pass of sums about a pivot.
#if defined(EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#undef EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#endif

#include <algorithm>

#include "evenkeel/moments.h"
#include "src/kernels/planes.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

// Values whose mean is the pivot of a block.
inline constexpr std::int64_t kPivotValues = 64;

// A block of at most kBlock values. With d = x - pivot, M2 = sum d^2 - (sum d)^2 / n.
//
// That subtraction loses accuracy by the factor 1 + (mean - pivot)^2 / var. If the pivot is the
// mean of k of the n values, the factor is at most n / k, whatever the values are. So n / k <= 64
// here bounds it, for a large common offset as for an outlier. The pivot is computed from
// differences to the first value, so that a constant block has exactly that constant as its pivot,
// and an M2 of exactly 0.
template <class T>
HWY_INLINE Moments block_moments(const T* HWY_RESTRICT x, const kernels::Piece& piece,
                                 std::int64_t prefetch_distance = 0) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  auto pivot = static_cast<P>(x[0]);
  if (piece.length >= kPivotValues) {
    const auto first = hn::Set(d, pivot);
    auto differences = hn::Zero(d);
    for (std::int64_t i = 0; i < kPivotValues; i += static_cast<std::int64_t>(hn::Lanes(d))) {
      differences = hn::Add(differences, hn::Sub(Whole{}.load(d, x + i), first));
    }
    pivot += hn::GetLane(hn::SumOfLanes(d, differences)) / static_cast<P>(kPivotValues);
  }
  const auto v_pivot = hn::Set(d, pivot);
  PairOfSums<decltype(d)> sums(d);
  for (std::int64_t n = 0; n < piece.count; ++n, x += piece.stride) {
    const auto add = [=](auto lanes, std::int64_t i, V& s, V& t) HWY_ATTR {
      prefetch_to_l2(x + i, prefetch_distance);
      const auto deviation = lanes.zero_rest(d, hn::Sub(lanes.load(d, x + i), v_pivot));
      s = hn::Add(s, deviation);
      t = hn::MulAdd(deviation, deviation, t);
    };
    sums.template add<kInterleaves<T>>(d, piece.length, add);
  }
  return moments_of_sums(static_cast<double>(piece.count * piece.length),
                         static_cast<double>(pivot), sums.s(d), sums.t(d));
}

// Of a contiguous row of any length, block by block.
template <class T>
HWY_INLINE Moments row_moments(const T* HWY_RESTRICT x, std::int64_t count) {
  Moments total = block_moments(x, {1, std::min(kBlock, count), 0});
  for (std::int64_t i = kBlock; i < count; i += kBlock) {
    total.merge(block_moments(x + i, {1, std::min(kBlock, count - i), 0}));
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
