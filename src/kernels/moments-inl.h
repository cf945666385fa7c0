// Moments of a run: shifted sums over blocks, merged in double.
#if defined(EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#undef EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_MOMENTS_INL_H_
#endif

#include <algorithm>

#include "evenkeel/moments.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

// Values whose mean is the shift of a block.
inline constexpr std::int64_t kPilot = 64;

// One block, one pass: with d = x - shift, M2 = sum d^2 - (sum d)^2 / n.
//
// The subtraction loses accuracy by the factor 1 + (mean - shift)^2 / var. If the shift is the mean
// of k of the n values, that factor is at most n / k, whatever the values: so n / k <= 64 here
// bounds it, for a large common offset as for an outlier. The pilot mean is taken of differences to
// the first value, so that a constant block has a shift of exactly that constant, and M2 exactly 0.
template <class T>
HWY_INLINE Moments block_moments(const T* HWY_RESTRICT x, std::int64_t n) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  T shift = x[0];
  if (n >= kPilot) {
    const auto first = hn::Set(d, x[0]);
    auto differences = hn::Zero(d);
    for (std::int64_t i = 0; i < kPilot; i += static_cast<std::int64_t>(hn::Lanes(d))) {
      differences = hn::Add(differences, hn::Sub(hn::LoadU(d, x + i), first));
    }
    shift += hn::GetLane(hn::SumOfLanes(d, differences)) / static_cast<T>(kPilot);
  }
  const auto v_shift = hn::Set(d, shift);
  T sum = 0, squares = 0;
  sum_pairs(
      d, n,
      [&](auto lanes, std::int64_t i, V& s, V& t) HWY_ATTR {
        const auto deviation = lanes.zero_rest(d, hn::Sub(lanes.load(d, x + i), v_shift));
        s = hn::Add(s, deviation);
        t = hn::MulAdd(deviation, deviation, t);
      },
      sum, squares);
  const auto count = static_cast<double>(n);
  const double offset = static_cast<double>(sum) / count;
  const double m2 = static_cast<double>(squares) - static_cast<double>(sum) * offset;
  // Rounding may leave a tiny negative M2; NaN must stay NaN, which std::max(m2, 0) keeps.
  return {count, static_cast<double>(shift) + offset, std::max(m2, 0.0)};
}

template <class T>
HWY_INLINE Moments run_moments(const T* HWY_RESTRICT x, std::int64_t count) {
  if (count <= 0) return {};
  Moments total = block_moments(x, std::min(kBlock, count));
  for (std::int64_t i = kBlock; i < count; i += kBlock) {
    total.merge(block_moments(x + i, std::min(kBlock, count - i)));
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
