// What the kernels share: whole and partial vectors, loops over an array, sums.
//
// Included once per SIMD target (Highway's foreach_target), hence the toggling guard.
#if defined(EVENKEEL_SRC_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#undef EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Values per block of float accumulation. Blocks are merged in double.
inline constexpr std::int64_t kBlock = 4096;

// A vector's worth of an array: all lanes.
struct Whole {
  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, const hn::TFromD<D>* p) const {
    return hn::LoadU(d, p);
  }
  template <class D>
  HWY_INLINE void store(hn::Vec<D> v, D d, hn::TFromD<D>* p) const {
    hn::StoreU(v, d, p);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> zero_rest(D /*d*/, hn::Vec<D> v) const {
    return v;
  }
};

// The first n lanes, for the end of an array. Loads give 0 in the others; nothing beyond the array
// is touched.
struct Part {
  std::size_t n;

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, const hn::TFromD<D>* p) const {
#if HWY_MEM_OPS_MIGHT_FAULT
    HWY_ALIGN hn::TFromD<D> buffer[HWY_MAX_BYTES / sizeof(hn::TFromD<D>)] = {};
    for (std::size_t i = 0; i < n; ++i) buffer[i] = p[i];
    return hn::Load(d, buffer);
#else
    return hn::MaskedLoad(hn::FirstN(d, n), d, p);
#endif
  }
  template <class D>
  HWY_INLINE void store(hn::Vec<D> v, D d, hn::TFromD<D>* p) const {
#if HWY_MEM_OPS_MIGHT_FAULT
    HWY_ALIGN hn::TFromD<D> buffer[HWY_MAX_BYTES / sizeof(hn::TFromD<D>)];
    hn::Store(v, d, buffer);
    for (std::size_t i = 0; i < n; ++i) p[i] = buffer[i];
#else
    hn::BlendedStore(v, hn::FirstN(d, n), d, p);
#endif
  }
  template <class D>
  HWY_INLINE hn::Vec<D> zero_rest(D d, hn::Vec<D> v) const {
    return hn::IfThenElseZero(hn::FirstN(d, n), v);
  }
};

// Calls body(lanes, i) for each vector of [0, count): lanes is Whole, for the rest Part.
template <class D, class Body>
HWY_INLINE void for_each_vector(D d, std::int64_t count, const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(Whole{}, i);
  if (i < count) body(Part{static_cast<std::size_t>(count - i)}, i);
}

// Two sums over [0, count): body(lanes, i, s, t) adds what vector i contributes to s and t. Four
// independent pairs of accumulators hide the latency of addition.
template <class D, class Body>
HWY_INLINE void sum_pairs(D d, std::int64_t count, const Body& body, hn::TFromD<D>& s_out,
                          hn::TFromD<D>& t_out) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  auto t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  std::int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    body(Whole{}, i, s0, t0);
    body(Whole{}, i + lanes, s1, t1);
    body(Whole{}, i + 2 * lanes, s2, t2);
    body(Whole{}, i + 3 * lanes, s3, t3);
  }
  for (; i + lanes <= count; i += lanes) body(Whole{}, i, s0, t0);
  if (i < count) body(Part{static_cast<std::size_t>(count - i)}, i, s1, t1);
  s_out = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  t_out = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(t0, t1), hn::Add(t2, t3))));
}

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
