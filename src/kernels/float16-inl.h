// 16-bit values as float vectors and back, as evenkeel/float16.h converts them.
#if defined(EVENKEEL_SRC_KERNELS_FLOAT16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_FLOAT16_INL_H_
#undef EVENKEEL_SRC_KERNELS_FLOAT16_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_FLOAT16_INL_H_
#endif

#include <cstdint>

#include "evenkeel/float16.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Vectors of as many lanes as D, of other types.
template <class D>
using Bits16 = hn::Rebind<std::uint16_t, D>;
template <class D>
using Bits32 = hn::Rebind<std::uint32_t, D>;

template <class D>
HWY_INLINE hn::Vec<D> widen(D d, hn::Vec<Bits16<D>> bits, BFloat16 /*type*/) {
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(Bits32<D>(), bits)));
}

// The bits of v rounded to bfloat16, in the upper halves of lanes; what is in the lower ones does
// not matter.
template <class D>
HWY_INLINE hn::Vec<Bits32<D>> rounded_to_bfloat16(D /*d*/, hn::Vec<D> v) {
  const Bits32<D> d32;
  const auto u = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(d32, 1));
  return hn::Add(u, hn::Add(odd, hn::Set(d32, 0x7fff)));
}
// The same where v is NaN, which rounding would make a number: a quiet NaN.
template <class D>
HWY_INLINE hn::Vec<Bits32<D>> with_nan(D /*d*/, hn::Vec<D> v, hn::Vec<Bits32<D>> rounded) {
  const Bits32<D> d32;
  const auto quiet_nan = hn::Or(hn::BitCast(d32, v), hn::Set(d32, 0x400000));
  return hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet_nan, rounded);
}

// On x86, whether any lane is NaN is one more instruction and a branch that is never taken, which
// is less than to choose in each lane.
template <class D>
HWY_INLINE hn::Vec<Bits16<D>> narrow(D d, hn::Vec<D> v, BFloat16 /*type*/) {
  auto bits = rounded_to_bfloat16(d, v);
  if (!HWY_ARCH_X86 || HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(v)))) bits = with_nan(d, v, bits);
#if HWY_TARGET == HWY_AVX2
  // As two halves: one instruction less than to pack a whole vector with itself.
  const hn::Rebind<std::int32_t, D> d32;
  const hn::Half<decltype(d32)> half;
  const auto words = hn::ShiftRight<16>(hn::BitCast(d32, bits));
  return hn::BitCast(Bits16<D>(),
                     hn::ReorderDemote2To(hn::Rebind<std::int16_t, D>(), hn::LowerHalf(half, words),
                                          hn::UpperHalf(half, words)));
#else
  return hn::TruncateTo(Bits16<D>(), hn::ShiftRight<16>(bits));
#endif
}

// Of 2N bfloat16 values, N being the lanes of D, the even or the odd ones; and 2N values of both.
template <class D>
using Bits16Interleaved = hn::Repartition<std::uint16_t, D>;
template <class D>
HWY_INLINE hn::Vec<D> widen_even(D d, hn::Vec<Bits16Interleaved<D>> bits) {
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::BitCast(Bits32<D>(), bits)));
}
template <class D>
HWY_INLINE hn::Vec<D> widen_odd(D d, hn::Vec<Bits16Interleaved<D>> bits) {
  const Bits32<D> d32;
  return hn::BitCast(d, hn::And(hn::BitCast(d32, bits), hn::Set(d32, 0xffff0000)));
}
template <class D>
HWY_INLINE hn::Vec<Bits16Interleaved<D>> interleave(D d, hn::Vec<D> even, hn::Vec<D> odd) {
  auto even_bits = rounded_to_bfloat16(d, even), odd_bits = rounded_to_bfloat16(d, odd);
  if (!HWY_ARCH_X86 || HWY_UNLIKELY(!hn::AllFalse(d, hn::Or(hn::IsNaN(even), hn::IsNaN(odd))))) {
    even_bits = with_nan(d, even, even_bits);
    odd_bits = with_nan(d, odd, odd_bits);
  }
  const Bits16Interleaved<D> d16;
  return hn::OddEven(hn::BitCast(d16, odd_bits), hn::BitCast(d16, hn::ShiftRight<16>(even_bits)));
}

#if HWY_TARGET <= HWY_AVX2  // has F16C

template <class D>
HWY_INLINE hn::Vec<D> widen(D d, hn::Vec<Bits16<D>> bits, Float16 /*type*/) {
  return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), bits));
}
template <class D>
HWY_INLINE hn::Vec<Bits16<D>> narrow(D /*d*/, hn::Vec<D> v, Float16 /*type*/) {
  return hn::BitCast(Bits16<D>(), hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), v));
}

#else

template <class D>
HWY_INLINE hn::Vec<D> widen(D d, hn::Vec<Bits16<D>> bits, Float16 /*type*/) {
  const Bits32<D> d32;
  const auto u = hn::PromoteTo(d32, bits);
  const auto magnitude = hn::And(u, hn::Set(d32, 0x7fff));
  const auto special = hn::Gt(magnitude, hn::Set(d32, 0x7bff));  // infinity, NaN
  const auto subnormal = hn::Lt(magnitude, hn::Set(d32, 0x400));
  const auto exponent = hn::IfThenElse(special, hn::Set(d32, 0x70000000), hn::Set(d32, 0x38000000));
  const auto normal = hn::Add(hn::ShiftLeft<13>(magnitude), exponent);
  const auto count = hn::ConvertTo(d, hn::BitCast(hn::Rebind<std::int32_t, D>(), magnitude));
  const auto small = hn::BitCast(d32, hn::Mul(count, hn::Set(d, 0x1p-24F)));
  const auto sign = hn::ShiftLeft<16>(hn::And(u, hn::Set(d32, 0x8000)));
  return hn::BitCast(d, hn::Or(sign, hn::IfThenElse(subnormal, small, normal)));
}

template <class D>
HWY_INLINE hn::Vec<Bits16<D>> narrow(D d, hn::Vec<D> v, Float16 /*type*/) {
  const Bits32<D> d32;
  const auto u = hn::BitCast(d32, v);
  const auto magnitude = hn::And(u, hn::Set(d32, 0x7fffffff));
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(d32, 1));
  const auto normal =
      hn::ShiftRight<13>(hn::Add(magnitude, hn::Sub(odd, hn::Set(d32, 0x38000000 - 0xfff))));
  // In 0.5 to 1 floats have the spacing of subnormals: adding 0.5 rounds.
  const auto half = hn::Set(d, 0.5F);
  const auto small =
      hn::Sub(hn::BitCast(d32, hn::Add(hn::BitCast(d, magnitude), half)), hn::BitCast(d32, half));
  const auto quiet_nan =
      hn::Or(hn::Set(d32, 0x7e00), hn::And(hn::ShiftRight<13>(magnitude), hn::Set(d32, 0x1ff)));
  auto bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(d32, 0x38800000)), small, normal);
  bits = hn::IfThenElse(hn::Gt(magnitude, hn::Set(d32, 0x477fefff)), hn::Set(d32, 0x7c00), bits);
  bits = hn::IfThenElse(hn::Gt(magnitude, hn::Set(d32, 0x7f800000)), quiet_nan, bits);
  bits = hn::Or(bits, hn::ShiftRight<16>(hn::AndNot(hn::Set(d32, 0x7fffffff), u)));
  return hn::DemoteTo(Bits16<D>(), hn::BitCast(hn::Rebind<std::int32_t, D>(), bits));
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
