// What follows the normalization within a pass, as compile-time policies.
//
//   forward    y  = activation(v + residual)
//   backward   dy counts where v + residual, computed again, was positive
#if defined(EVENKEEL_SRC_KERNELS_EPILOGUE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_EPILOGUE_INL_H_
#undef EVENKEEL_SRC_KERNELS_EPILOGUE_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_EPILOGUE_INL_H_
#endif

#include "src/coefficients.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

template <bool relu, bool has_residual>
struct Epilogue {
  static constexpr bool masks = relu, adds = has_residual;

  template <class Lanes, class D, class T, class V = hn::Vec<D>>
  HWY_INLINE V forward(Lanes lanes, D d, V v, const T* residual, std::int64_t i) const {
    if constexpr (has_residual) v = hn::Add(v, lanes.load(d, residual + i));
    // Not a maximum with 0, which would lose NaN.
    if constexpr (relu) v = hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v);
    return v;
  }

  template <class Lanes, class D, class T, class V = hn::Vec<D>>
  HWY_INLINE V backward(Lanes lanes, D d, V dy, V v, const T* residual, std::int64_t i) const {
    if constexpr (has_residual) v = hn::Add(v, lanes.load(d, residual + i));
    return hn::IfThenZeroElse(hn::Le(v, hn::Zero(d)), dy);
  }
};

// Calls f with the epilogue that a pass has.
template <class T, class F>
HWY_INLINE void with_epilogue(const ForwardPass<T>& pass, const F& f) {
  with_flag(pass.relu, [&](auto relu) HWY_ATTR {
    with_flag(pass.residual != nullptr, [&](auto residual) HWY_ATTR {
      f(Epilogue<decltype(relu)::value, decltype(residual)::value>{});
    });
  });
}
// And whether gradients flow through the statistics. Without an activation the residual does not
// matter to the backward.
template <class T, class F>
HWY_INLINE void with_epilogue(const BackwardPass<T>& pass, const F& f) {
  with_flag(pass.through_statistics, [&](auto statistics) HWY_ATTR {
    if (!pass.relu) {
      f(Epilogue<false, false>{}, statistics);
    } else if (pass.residual) {
      f(Epilogue<true, true>{}, statistics);
    } else {
      f(Epilogue<true, false>{}, statistics);
    }
  });
}

// Prefetches what a pass will read `ahead` values on.
template <class Epilogue, class T>
HWY_INLINE void prefetch(Epilogue /*policy*/, const ForwardPass<T>& pass, std::int64_t i) {
  prefetch_to_l2(pass.x + i, pass.ahead);
  if constexpr (Epilogue::adds) prefetch_to_l2(pass.residual + i, pass.ahead);
}
template <class Epilogue, class T>
HWY_INLINE void prefetch(Epilogue /*policy*/, const BackwardPass<T>& pass, std::int64_t i) {
  prefetch_to_l2(pass.dy + i, pass.ahead);
  prefetch_to_l2(pass.x + i, pass.ahead);
  if constexpr (Epilogue::adds) prefetch_to_l2(pass.residual + i, pass.ahead);
}

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
