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

template <class D>
HWY_INLINE hn::Vec<Bits16<D>> narrow(D /*d*/, hn::Vec<D> v, BFloat16 /*type*/) {
  const Bits32<D> d32;
  const auto u = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(d32, 1));
  const auto rounded = hn::Add(u, hn::Add(odd, hn::Set(d32, 0x7fff)));
  const auto quiet_nan = hn::Or(u, hn::Set(d32, 0x400000));
  const auto bits = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet_nan, rounded);
  return hn::TruncateTo(Bits16<D>(), hn::ShiftRight<16>(bits));
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
