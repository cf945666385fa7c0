// Moments of a block: one pass of shifted sums.
#if defined(EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#undef EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#endif

#include <algorithm>

#include "evenkeel/moments.h"
#include "src/kernels/kernels.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

// Values whose mean is the shift of a block.
inline constexpr std::int64_t kPilot = 64;

// A block of at most kBlock values, as runs. With d = x - shift, M2 = sum d^2 - (sum d)^2 / n.
//
// The subtraction loses accuracy by the factor 1 + (mean - shift)^2 / var. If the shift is the mean
// of k of the n values, that factor is at most n / k, whatever the values: so n / k <= 64 here
// bounds it, for a large common offset as for an outlier. The pilot mean is taken of differences to
// the first value, so that a constant block has a shift of exactly that constant, and M2 exactly 0.
template <class T>
HWY_INLINE Moments block_moments(const T* HWY_RESTRICT x, const kernels::Piece& piece,
                                 std::int64_t ahead = 0) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  auto shift = static_cast<P>(x[0]);
  if (piece.length >= kPilot) {
    const auto first = hn::Set(d, shift);
    auto differences = hn::Zero(d);
    for (std::int64_t i = 0; i < kPilot; i += static_cast<std::int64_t>(hn::Lanes(d))) {
      differences = hn::Add(differences, hn::Sub(Whole{}.load(d, x + i), first));
    }
    shift += hn::GetLane(hn::SumOfLanes(d, differences)) / static_cast<P>(kPilot);
  }
  const auto v_shift = hn::Set(d, shift);
  PairOfSums<decltype(d)> sums(d);
  for (std::int64_t r = 0; r < piece.runs; ++r, x += piece.stride) {
    sums.add(d, piece.length, [=](auto lanes, std::int64_t i, V& s, V& t) HWY_ATTR {
      prefetch_to_l2(x + i, ahead);
      const auto deviation = lanes.zero_rest(d, hn::Sub(lanes.load(d, x + i), v_shift));
      s = hn::Add(s, deviation);
      t = hn::MulAdd(deviation, deviation, t);
    });
  }
  return moments_of_sums(static_cast<double>(piece.runs * piece.length), static_cast<double>(shift),
                         sums.s(d), sums.t(d));
}

// Of one contiguous run of any length, block by block.
template <class T>
HWY_INLINE Moments run_moments(const T* HWY_RESTRICT x, std::int64_t count) {
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
