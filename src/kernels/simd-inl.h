// What the kernels share: loops over the vectors of an array, and sums.
#if defined(EVENKEEL_SRC_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#undef EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "src/kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Values per block of accumulation in Wide<T>. Blocks are merged in double.
inline constexpr std::int64_t kBlock = 4096;

// How many values after p the next multiple of `values` values lies in memory.
template <class T>
HWY_INLINE std::int64_t misaligned(const T* p, std::int64_t values) {
  const auto from_start =
      static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p) / sizeof(T));
  return (values - from_start % values) % values;
}

// Values of a line of the cache.
template <class T>
inline constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));

// Calls body(lanes, i) for each vector of [0, count). lanes is Whole, and Partial for the rest; if
// `interleaved`, Interleaved before these.
//
// Bodies that hold constants of rows or channels capture them by value. As far as the compiler
// knows, a vector store might change what is captured by reference, so it would load constants and
// test flags again for each vector: up to 1.5 times as long in cache.
template <bool interleaved = false, class D, class Body>
HWY_INLINE void for_each_vector(D d, std::int64_t count, const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  if constexpr (interleaved) {
    for (; i + 2 * lanes <= count; i += 2 * lanes) body(Interleaved{}, i);
  }
  for (; i + lanes <= count; i += lanes) body(Whole{}, i);
  if (i < count) body(Partial{static_cast<std::size_t>(count - i)}, i);
}
// The same, not in order, and so that all whole vectors of `aligned` are aligned: with Partials at
// either end. Where vectors are smaller than lines of the cache, those of the lines at the two ends
// are Edges: a line that is stored partly past the cache took 2.5 times as long (bfloat16, 27 x 27
// planes). Each kind has one loop over its one or two ranges, since every call of body is compiled
// for itself. Without non-temporal stores there are no Edges.
template <bool non_temporal = true, bool interleaved = false, class D, class T, class Body>
HWY_INLINE void for_each_vector_aligned(D d, const T* aligned, std::int64_t count,
                                        const Body& body) {
  using Inner = std::conditional_t<interleaved, Interleaved, Whole>;
  using Outer = std::conditional_t<interleaved, InterleavedEdge, Edge>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t step = interleaved ? 2 * lanes : lanes;
  const std::int64_t first = std::min(misaligned(aligned, step), count);
  const std::int64_t last = first + (count - first) / step * step;
  std::int64_t begin = first, end = last;  // of Inner
  if constexpr (non_temporal && (interleaved ? 2 : 1) * hn::MaxLanes(D()) < kLine<T>) {
    begin = std::min(last, first + misaligned(aligned + first, kLine<T>));
    end = begin + (last - begin) / kLine<T> * kLine<T>;
    for (std::int64_t i = first; i < last; i += step) {
      if (i == begin) i = end;
      if (i < last) body(Outer{}, i);
    }
  }
  for (std::int64_t i = begin; i < end; i += step) body(Inner{}, i);
  const std::int64_t ends[2][2] = {{0, first}, {last, count}};
#pragma GCC unroll 1
  for (const auto& [from, to] : ends) {
    for (std::int64_t i = from; i < to; i += lanes) {
      body(Partial{static_cast<std::size_t>(std::min(lanes, to - i))}, i);
    }
  }
}

// Two sums, in four independent pairs of accumulators that hide the latency of addition.
template <class D>
struct PairOfSums {
  using V = hn::Vec<D>;
  V s0, s1, s2, s3;
  V t0, t1, t2, t3;

  explicit HWY_INLINE PairOfSums(D d) { s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = hn::Zero(d); }

  // Over [0, count): body(lanes, i, s, t) adds what vector i contributes to s and t.
  template <bool interleaved = false, class Body>
  HWY_INLINE void add(D d, std::int64_t count, const Body& body) {
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t i = 0;
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
      if constexpr (interleaved) {
        body(EvenOrOdd<0>{}, i, s0, t0);
        body(EvenOrOdd<1>{}, i, s1, t1);
        body(EvenOrOdd<0>{}, i + 2 * lanes, s2, t2);
        body(EvenOrOdd<1>{}, i + 2 * lanes, s3, t3);
      } else {
        body(Whole{}, i, s0, t0);
        body(Whole{}, i + lanes, s1, t1);
        body(Whole{}, i + 2 * lanes, s2, t2);
        body(Whole{}, i + 3 * lanes, s3, t3);
      }
    }
    for (; i < count; i += lanes) {
      body(Partial{static_cast<std::size_t>(std::min(lanes, count - i))}, i, s0, t0);
    }
  }
  HWY_INLINE double s(D d) const { return total(d, s0, s1, s2, s3); }
  HWY_INLINE double t(D d) const { return total(d, t0, t1, t2, t3); }

 private:
  static HWY_INLINE double total(D d, V a, V b, V c, V e) {
    const V all = hn::Add(hn::Add(a, b), hn::Add(c, e));
    return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, all)));
  }
};

// Calls f with a compile-time flag: an option as a policy of a kernel.
template <class F>
HWY_INLINE void with_flag(bool flag, const F& f) {
  if (flag) {
    f(std::true_type{});
  } else {
    f(std::false_type{});
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
