// What the kernels share: whole and partial vectors in memory, loops over an array, sums.
//
// T is the type in memory; the lanes of D, a Highway tag, are what is computed with: Wide<T>.
//
// Every file *-inl.h is included once per SIMD target (Highway's foreach_target), hence the
// toggling guards.
#if defined(EVENKEEL_SRC_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#undef EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_SIMD_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "evenkeel/tensor.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "src/kernels/float16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Values per block of accumulation in Wide<T>. Blocks are merged in double.
inline constexpr std::int64_t kBlock = 4096;

// Prefetches p[distance] into L2; does nothing if the distance is 0. Not into L1, where what is
// fetched far enough ahead would evict what is in use.
template <class T>
HWY_INLINE void prefetch_to_l2(const T* p, std::int64_t distance) {
  if (distance != 0) __builtin_prefetch(p + distance, 0, 2);
}

template <class T>
inline constexpr bool is_16_bit = sizeof(T) == 2;

template <class T>
auto* bits_of(T* p) {
  using Bits = std::conditional_t<std::is_const_v<T>, const std::uint16_t, std::uint16_t>;
  return reinterpret_cast<Bits*>(p);
}

// How a vector lies in memory. This one fills all lanes.
struct Whole {
  template <class D, class T>
  HWY_INLINE hn::Vec<D> load(D d, const T* p) const {
    if constexpr (is_16_bit<T>) {
      return widen(d, hn::LoadU(Bits16<D>(), bits_of(p)), T{});
    } else {
      return hn::LoadU(d, p);
    }
  }
  template <class D, class T>
  HWY_INLINE void store(hn::Vec<D> v, D d, T* p) const {
    if constexpr (is_16_bit<T>) {
      hn::StoreU(narrow(d, v, T{}), Bits16<D>(), bits_of(p));
    } else {
      hn::StoreU(v, d, p);
    }
  }
  // Past the cache, by a non-temporal store. p is aligned to the vector in memory.
  template <class D, class T>
  HWY_INLINE void store_past_cache(hn::Vec<D> v, D d, T* p) const {
    if constexpr (is_16_bit<T>) {
      hn::Stream(narrow(d, v, T{}), Bits16<D>(), bits_of(p));
    } else {
      hn::Stream(v, d, p);
    }
  }
  template <class D>
  HWY_INLINE hn::Vec<D> zero_rest(D /*d*/, hn::Vec<D> v) const {
    return v;
  }
};

// All lanes, in a line of the cache of which other values are stored the usual way: so this vector
// is too.
struct Edge : Whole {
  template <class D, class T>
  HWY_INLINE void store_past_cache(hn::Vec<D> v, D d, T* p) const {
    store(v, d, p);
  }
};

// The first n lanes, for the end of an array: at least one, not all. Loads give 0 in the others,
// and no memory beyond the array is touched.
//
// AVX-512 has masks for that, and AVX2 has them for loads of at least 4 bytes a lane. Elsewhere
// vectors are put together from words, and stored piece by piece: a copy that was written in pieces
// and is read as one vector waits for the stores, which took up to 2.6 times as long, and the
// masked stores of AVX2 take some 20 cycles on AMD's processors.
struct Partial {
  std::size_t n;

  template <class D, class T>
  HWY_INLINE hn::Vec<D> load(D d, const T* p) const {
    constexpr bool is_32_bytes = hn::MaxLanes(D()) * sizeof(T) == 32;
    if constexpr (HWY_TARGET <= HWY_AVX3 && is_16_bit<T>) {
      const Bits16<D> d16;
      return widen(d, hn::MaskedLoad(hn::FirstN(d16, n), d16, bits_of(p)), T{});
    } else if constexpr (HWY_TARGET <= HWY_AVX3 || is_32_bytes) {
      return hn::MaskedLoad(hn::FirstN(d, n), d, p);
    } else if constexpr (is_16_bit<T>) {
      return widen(d, of_words(Bits16<D>(), p), T{});
    } else {
      return of_words(d, p);
    }
  }
  template <class D, class T>
  HWY_INLINE void store(hn::Vec<D> v, D d, T* p) const {
#if HWY_TARGET <= HWY_AVX3
    if constexpr (is_16_bit<T>) {
      const Bits16<D> d16;
      hn::BlendedStore(narrow(d, v, T{}), hn::FirstN(d16, n), d16, bits_of(p));
    } else {
      hn::BlendedStore(v, hn::FirstN(d, n), d, p);
    }
#else
    HWY_ALIGN T buffer[hn::MaxLanes(D())];
    Whole{}.store(v, d, buffer);
    copy_pieces<hn::MaxLanes(D())>(buffer, p);
#endif
  }
  template <class D, class T>
  HWY_INLINE void store_past_cache(hn::Vec<D> v, D d, T* p) const {
    store(v, d, p);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> zero_rest(D d, hn::Vec<D> v) const {
    return hn::IfThenElseZero(hn::FirstN(d, n), v);
  }

 private:
  template <class Word>
  static HWY_INLINE std::uint64_t word_at(const char* p) {
    Word word;
    std::memcpy(&word, p, sizeof(Word));
    return word;
  }
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  template <class D, class T>
  HWY_INLINE hn::Vec<D> of_words(D d, const T* p) const {
    HWY_ALIGN hn::TFromD<D> buffer[hn::MaxLanes(D())] = {};
    std::memcpy(buffer, p, n * sizeof(T));
    return hn::Load(d, buffer);
  }
#else
  // Of 2 to 16 bytes. The last word of the array ends with it, and is shifted to its place.
  template <class D, class T>
  HWY_INLINE hn::Vec<D> of_words(D d, const T* values) const {
    const char* const p = reinterpret_cast<const char*>(values);
    const std::size_t bytes = n * sizeof(T);
    std::uint64_t low, high = 0;
    if (bytes >= 8) {
      low = word_at<std::uint64_t>(p);
      if (bytes > 8) high = word_at<std::uint64_t>(p + bytes - 8) >> (8 * (16 - bytes));
    } else if (bytes >= 4) {
      low = word_at<std::uint32_t>(p);
      if (bytes > 4) low |= word_at<std::uint32_t>(p + bytes - 4) >> (8 * (8 - bytes)) << 32;
    } else {
      low = word_at<std::uint16_t>(p);
    }
    const hn::CappedTag<std::uint64_t, 1> d64;
    if constexpr (hn::MaxLanes(D()) * sizeof(T) == 8) {
      return hn::BitCast(d, hn::Set(d64, low));
    } else {
      const hn::CappedTag<std::uint64_t, 2> both;
      return hn::BitCast(d, hn::Combine(both, hn::Set(d64, high), hn::Set(d64, low)));
    }
  }
#endif

  // `size` values if n has that bit, then the smaller powers of two.
  template <std::size_t size, class T>
  HWY_INLINE void copy_pieces(const T* from, T* to) const {
    if constexpr (size > 0) {
      if (n & size) {
        std::memcpy(to, from, size * sizeof(T));
        from += size;
        to += size;
      }
      copy_pieces<size / 2>(from, to);
    }
  }
};

// Whether stores of vectors of T can go past the cache: there is no such store of less than 16
// bytes, and none on Arm.
template <class T>
inline constexpr bool kStreams = HWY_ARCH_X86&& hn::MaxLanes(hn::ScalableTag<Wide<T>>()) *
                                     sizeof(T) >=
                                 16;

// An output of a kernel, stored through the cache or past it.
template <class T>
struct Output {
  T* data;
  bool non_temporal;

  template <class Lanes, class D>
  HWY_INLINE void put(Lanes lanes, hn::Vec<D> v, D d, std::int64_t i) const {
    if (kStreams<T> && non_temporal) {
      lanes.store_past_cache(v, d, data + i);
    } else {
      lanes.store(v, d, data + i);
    }
  }
};

// How many values after p the next multiple of `values` values lies in memory.
template <class T>
HWY_INLINE std::int64_t misaligned(const T* p, std::int64_t values) {
  const auto from_start =
      static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p) / sizeof(T));
  return (values - from_start % values) % values;
}
// The same for whole vectors.
template <class D, class T>
HWY_INLINE std::int64_t misaligned(D d, const T* p) {
  return misaligned(p, static_cast<std::int64_t>(hn::Lanes(d)));
}

// Values of a line of the cache.
template <class T>
inline constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));

// Calls body(lanes, i) for each vector of [begin, count). lanes is Whole, and Partial for the rest.
//
// Bodies that hold constants of rows or channels capture them by value. As far as the compiler
// knows, a vector store might change what is captured by reference, so it would load constants and
// test flags again for each vector: up to 1.5 times as long in cache.
template <class D, class Body>
HWY_INLINE void for_each_vector(D d, std::int64_t begin, std::int64_t count, const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = begin;
  for (; i + lanes <= count; i += lanes) body(Whole{}, i);
  if (i < count) body(Partial{static_cast<std::size_t>(count - i)}, i);
}
template <class D, class Body>
HWY_INLINE void for_each_vector(D d, std::int64_t count, const Body& body) {
  for_each_vector(d, 0, count, body);
}
// The same, not in order, and so that all whole vectors of `aligned` are aligned: with a Partial at
// either end. Where vectors are smaller than lines of the cache, those of the lines at the two ends
// are Edges: a line that is stored partly past the cache took 2.5 times as long (bfloat16, 27 x 27
// planes). Each kind has one loop over its one or two ranges, since every call of body is compiled
// for itself. Without non-temporal stores there are no Edges.
template <bool non_temporal = true, class D, class T, class Body>
HWY_INLINE void for_each_vector_aligned(D d, const T* aligned, std::int64_t count,
                                        const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t first = std::min(misaligned(d, aligned), count);
  const std::int64_t last = first + (count - first) / lanes * lanes;
  std::int64_t begin = first, end = last;  // of the Whole vectors
  if constexpr (non_temporal && static_cast<std::int64_t>(hn::MaxLanes(D())) < kLine<T>) {
    begin = std::min(last, first + misaligned(aligned + first, kLine<T>));
    end = begin + (last - begin) / kLine<T> * kLine<T>;
    for (std::int64_t i = first; i < last; i += lanes) {
      if (i == begin) i = end;
      if (i < last) body(Edge{}, i);
    }
  }
  for (std::int64_t i = begin; i < end; i += lanes) body(Whole{}, i);
  const std::int64_t sizes[] = {first, count - last};
#pragma GCC unroll 1
  for (int e = 0; e < 2; ++e) {
    if (sizes[e] > 0) body(Partial{static_cast<std::size_t>(sizes[e])}, e == 0 ? 0 : last);
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
  template <class Body>
  HWY_INLINE void add(D d, std::int64_t count, const Body& body) {
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    std::int64_t i = 0;
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
      body(Whole{}, i, s0, t0);
      body(Whole{}, i + lanes, s1, t1);
      body(Whole{}, i + 2 * lanes, s2, t2);
      body(Whole{}, i + 3 * lanes, s3, t3);
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
