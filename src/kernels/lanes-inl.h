// How vectors lie in memory, and how outputs are stored.
//
// T is the type in memory; the lanes of D, a Highway tag, are what is computed with: Wide<T>.
//
// Every file *-inl.h is included once per SIMD target (Highway's foreach_target), hence the
// toggling guards.
#if defined(EVENKEEL_SRC_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_LANES_INL_H_
#undef EVENKEEL_SRC_KERNELS_LANES_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "evenkeel/tensor.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "src/kernels/float16-inl.h"

// For lambdas of a few instructions that are called in several places.
#undef EVENKEEL_INLINE_LAMBDA
#define EVENKEEL_INLINE_LAMBDA HWY_ATTR __attribute__((always_inline))

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

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

// The first n lanes, for the end of an array: at least one. Loads give 0 in the others,
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

// Two vectors that are interleaved in memory. Where the order of values does not matter, bfloat16
// is taken so: a shift or a mask widens it, where values in order must be spread and packed again,
// which was half of the time in cache.
//
// Values are computed for either vector by itself, the even values (which = 0) or the odd ones
// (1), and stored together. Arrays of the wide type, which are the kernels' own, hold the even
// values of 2N before the odd ones.
template <int which>
struct EvenOrOdd {
  template <class D, class T>
  HWY_INLINE hn::Vec<D> load(D d, const T* p) const {
    if constexpr (std::is_same_v<T, BFloat16>) {
      const auto bits = hn::LoadU(Bits16Interleaved<D>(), bits_of(p));
      return which == 0 ? widen_even(d, bits) : widen_odd(d, bits);
    } else {
      return hn::LoadU(d, p + which * hn::Lanes(d));
    }
  }
  template <class D, class P>
  HWY_INLINE void store(hn::Vec<D> v, D d, P* p) const {
    hn::StoreU(v, d, p + which * hn::Lanes(d));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> zero_rest(D /*d*/, hn::Vec<D> v) const {
    return v;
  }
};
template <class V>
struct EvenOdd {
  V even, odd;
};
template <class V>
HWY_INLINE EvenOdd<V> even_odd(const V& even, const V& odd) {
  return {even, odd};
}
struct Interleaved {
  template <class V, class D>
  HWY_INLINE void store(const EvenOdd<V>& v, D d, BFloat16* p) const {
    hn::StoreU(interleave(d, v.even, v.odd), Bits16Interleaved<D>(), bits_of(p));
  }
  template <class V, class D>
  HWY_INLINE void store_past_cache(const EvenOdd<V>& v, D d, BFloat16* p) const {
    hn::Stream(interleave(d, v.even, v.odd), Bits16Interleaved<D>(), bits_of(p));
  }
};
struct InterleavedEdge : Interleaved {
  template <class V, class D>
  HWY_INLINE void store_past_cache(const EvenOdd<V>& v, D d, BFloat16* p) const {
    store(v, d, p);
  }
};
template <class Lanes>
inline constexpr bool is_interleaved = std::is_base_of_v<Interleaved, Lanes>;

template <class T>
inline constexpr bool kInterleaves = std::is_same_v<T, BFloat16>&& HWY_TARGET != HWY_SCALAR;

// Calls f(lanes), or f of either vector.
template <class Lanes, class F>
HWY_INLINE void for_each_part(Lanes lanes, const F& f) {
  if constexpr (is_interleaved<Lanes>) {
    f(EvenOrOdd<0>{});
    f(EvenOrOdd<1>{});
  } else {
    f(lanes);
  }
}
// value(lanes), or those of both vectors.
template <class Lanes, class Value>
HWY_INLINE auto value_of(Lanes lanes, const Value& value) {
  if constexpr (is_interleaved<Lanes>) {
    return even_odd(value(EvenOrOdd<0>{}), value(EvenOrOdd<1>{}));
  } else {
    return value(lanes);
  }
}

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

  template <class Lanes, class V, class D>
  HWY_INLINE void put(Lanes lanes, const V& v, D d, std::int64_t i) const {
    if (kStreams<T> && non_temporal) {
      lanes.store_past_cache(v, d, data + i);
    } else {
      lanes.store(v, d, data + i);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
