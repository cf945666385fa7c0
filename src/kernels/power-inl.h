// base^-beta and 1 / base, for LRN. The common exponents need only square roots.
#if defined(EVENKEEL_SRC_KERNELS_POWER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_POWER_INL_H_
#undef EVENKEEL_SRC_KERNELS_POWER_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_POWER_INL_H_
#endif

#include <limits>
#include <type_traits>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class V>
struct InverseOf {
  V value;       // base^-beta
  V reciprocal;  // base^-1
};

template <class D, class V = hn::Vec<D>>
HWY_INLINE V inverse_square_root(D d, V base) {
#if HWY_TARGET <= HWY_AVX3
  // AVX-512's estimate has 14 bits; one step of Newton gives the 24 of a float, in 0.4 of the time
  // of a square root and a division. For 0 and infinity the estimate is right and the step NaN.
  if constexpr (std::is_same_v<hn::TFromD<D>, float>) {
    const V estimate = hn::ApproximateReciprocalSqrt(base);
    const V half_base = hn::Mul(base, hn::Set(d, 0.5F));
    const V step = hn::NegMulAdd(hn::Mul(half_base, estimate), estimate, hn::Set(d, 1.5F));
    return hn::IfThenElse(hn::IsNaN(step), estimate, hn::Mul(estimate, step));
  }
#endif
  return hn::Div(hn::Set(d, 1), hn::Sqrt(base));
}

// Which exponent it is is tested for each vector: that is cheap beside a root.
struct InversePower {
  double beta;

  template <class D, class V = hn::Vec<D>>
  HWY_INLINE InverseOf<V> operator()(D d, V base) const {
    if (beta == 0.75 || beta == 0.5) {
      const V root = inverse_square_root(d, base);
      return {beta == 0.5 ? root : hn::Mul(root, hn::Sqrt(root)), hn::Mul(root, root)};
    }
    const V reciprocal = hn::Div(hn::Set(d, 1), base);
    return {beta == 1 ? reciprocal : any(d, base), reciprocal};
  }

 private:
  // exp(-beta * log(base)): a relative error of about |beta * log(base)| units of rounding. The
  // logarithm is for positive finite arguments only; 0, infinity and the rest are put right after.
  // Not inlined: it takes longer than the call, and there are many calls to compile.
  template <class D, class V = hn::Vec<D>>
  HWY_NOINLINE V any(D d, V base) const {
    using T = hn::TFromD<D>;
    const auto zero = hn::Zero(d);
    const auto infinity = hn::Set(d, std::numeric_limits<T>::infinity());
    const auto nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
    const auto minus_beta = hn::Set(d, static_cast<T>(-beta));
    const auto at_zero = beta > 0 ? infinity : beta < 0 ? zero : hn::Set(d, 1);
    const auto at_infinity = beta > 0 ? zero : beta < 0 ? infinity : hn::Set(d, 1);
    auto power = hn::Exp(d, hn::Mul(minus_beta, hn::Log(d, base)));
    power = hn::IfThenElse(hn::Eq(base, infinity), at_infinity, power);
    power = hn::IfThenElse(hn::Eq(base, zero), at_zero, power);
    return hn::IfThenElse(hn::Ge(base, zero), power, nan);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
