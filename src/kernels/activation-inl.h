// Activations as compile-time policies of the kernels, and the one formula of each direction, which
// planes and columns share.
//
//   forward    y  = activation(v + residual)      v = (x - center) * scale + offset
//   backward   g  = dy * activation'(v + residual)
//              dx = dy_scale * g + x_scale * (x - center) + offset
//
// So that an activation costs no kernel of its own there are two policies: bounds, which do for
// none, ReLU, ReLU6 and hardtanh, and a gate, which does for the others. A backward without an
// activation has a third, since it need not compute v.
#if defined(EVENKEEL_SRC_KERNELS_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_ACTIVATION_INL_H_
#undef EVENKEEL_SRC_KERNELS_ACTIVATION_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_ACTIVATION_INL_H_
#endif

#include <cmath>
#include <limits>

#include "hwy/contrib/math/math-inl.h"
#include "src/kernels/operands.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

// y = min(max(v, low), high).
template <class D>
struct Bounds {
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;
  V low, high;
  // At and beyond these the gradient is 0. NaN where there is no bound, since no comparison with
  // NaN is true.
  V stop_low, stop_high;

  HWY_INLINE Bounds(D d, const Activation& a)
      : low(hn::Set(d, static_cast<T>(a.low))),
        high(hn::Set(d, static_cast<T>(a.high))),
        stop_low(hn::Set(d, stop(a.low))),
        stop_high(hn::Set(d, stop(a.high))) {}

  HWY_INLINE V value(D /*d*/, V v) const {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
    // Their Min and Max drop NaN.
    v = hn::IfThenElse(hn::Lt(v, low), low, v);
    return hn::IfThenElse(hn::Gt(v, high), high, v);
#else
    // On x86 Min and Max give their second argument if either is NaN, on Arm NaN.
    return hn::Min(high, hn::Max(low, v));
#endif
  }
  HWY_INLINE V gradient(D /*d*/, V dy, V v) const {
    return hn::IfThenZeroElse(hn::Or(hn::Le(v, stop_low), hn::Ge(v, stop_high)), dy);
  }

 private:
  static T stop(double bound) {
    return std::isinf(bound) ? std::numeric_limits<T>::quiet_NaN() : static_cast<T>(bound);
  }
};

// y = v * gate(v). The kind is tested for each vector, which is cheap beside the exponential.
template <class D>
struct Gate {
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;
  Activation::Kind kind;
  V slope;

  HWY_INLINE Gate(D d, const Activation& a)
      : kind(a.kind), slope(hn::Set(d, static_cast<T>(a.slope))) {}

  // A v that overflowed to minus infinity has the gate 0, and their product would be NaN.
  HWY_INLINE V value(D d, V v) const {
    return hn::Mul(kind == Activation::Kind::leaky_relu ? v : at_least_lowest(d, v), gate(d, v));
  }

  HWY_INLINE V gradient(D d, V dy, V v) const {
    v = at_least_lowest(d, hn::Neg(at_least_lowest(d, hn::Neg(v))));
    const V g = gate(d, v);
    switch (kind) {
      case Activation::Kind::silu: {  // s + v * s * (1 - s)
        const V s_prime = hn::NegMulAdd(g, g, g);
        return hn::Mul(dy, hn::MulAdd(v, s_prime, g));
      }
      case Activation::Kind::hardswish: {  // gate + v / 6 between -3 and 3
        const V inside = hn::MulAdd(v, hn::Set(d, T{1} / 6), g);
        const auto outside = hn::Ge(hn::Abs(v), hn::Set(d, 3));
        return hn::Mul(dy, hn::IfThenElse(outside, g, inside));
      }
      default:
        return hn::Mul(dy, g);
    }
  }

 private:
  // The lowest finite number instead of minus infinity. NaN stays NaN.
  static HWY_INLINE V at_least_lowest(D d, V v) {
    const V lowest = hn::Set(d, std::numeric_limits<T>::lowest());
    return hn::IfThenElse(hn::Lt(v, lowest), lowest, v);
  }

  // A call instead took four times as long: its vectors go through memory, and constants are loaded
  // anew for each.
  HWY_INLINE V gate(D d, V v) const {
    const V one = hn::Set(d, 1);
    switch (kind) {
      case Activation::Kind::silu: {  // the sigmoid, by an exponential that cannot overflow
        const V e = hn::Exp(d, hn::Neg(hn::Abs(v)));
        const V numerator = hn::IfThenElse(hn::Lt(v, hn::Zero(d)), e, one);
        return hn::Div(numerator, hn::Add(one, e));
      }
      case Activation::Kind::hardswish: {
        const V linear = hn::MulAdd(v, hn::Set(d, T{1} / 6), hn::Set(d, T{0.5}));
        const V above = hn::IfThenElse(hn::Lt(linear, hn::Zero(d)), hn::Zero(d), linear);
        return hn::IfThenElse(hn::Gt(above, one), one, above);
      }
      default:  // leaky ReLU
        return hn::IfThenElse(hn::Le(v, hn::Zero(d)), slope, one);
    }
  }
};

// The policy of a backward without an activation, which need not compute v.
template <class D>
struct Identity {
  HWY_INLINE Identity(D /*d*/, const Activation& /*none*/) {}
};

// may_add: whether there is a residual. Beside a gate it is looked for at run time.
template <class D, template <class> class Policy, bool may_add>
struct Epilogue {
  using V = hn::Vec<D>;
  static constexpr bool is_identity = std::is_same_v<Policy<D>, Identity<D>>;
  static constexpr bool is_gate = std::is_same_v<Policy<D>, Gate<D>>;
  Policy<D> activation;

  template <class T>
  static HWY_INLINE bool adds(const T* residual) {
    if constexpr (is_gate) return residual != nullptr;
    return may_add;
  }
  template <class Lanes, class T>
  HWY_INLINE V sum(Lanes lanes, D d, V v, const T* residual, std::int64_t i) const {
    return adds(residual) ? hn::Add(v, lanes.load(d, residual + i)) : v;
  }
};

// Operands of most calls in a network: what is in cache is neither prefetched nor written past the
// cache, and the backward writes dx alone, by the whole formula. Where the compiler knows so it
// leaves out up to four tests a vector, which took a fifth of the time in cache.
template <class Operands>
struct Plain : Operands {
  static constexpr bool non_temporal = false, through_statistics = true;
  static constexpr std::int64_t prefetch_distance = 0;
  bool wants_dx() const { return true; }
  bool wants_dresidual() const { return false; }
};
template <class T>
HWY_INLINE bool is_plain(const ForwardOperands<T>& operands) {
  return !operands.non_temporal;
}
template <class T>
HWY_INLINE bool is_plain(const BackwardOperands<T>& operands) {
  return !operands.non_temporal && operands.through_statistics && operands.wants_dx() &&
         !operands.wants_dresidual();
}

// Calls f(epilogue, operands) with the epilogue that a pass has, and Plain operands where they are
// that. Gates have no variant for these: an exponential takes longer than the tests.
template <class Epilogue, class Operands, class F>
HWY_INLINE void with_plain(const Epilogue& epilogue, const Operands& operands, const F& f) {
  if constexpr (Epilogue::is_gate) {
    f(epilogue, operands);
  } else if (is_plain(operands)) {
    f(epilogue, Plain<Operands>{operands});
  } else {
    f(epilogue, operands);
  }
}
template <class D, class Operands, class F>
HWY_INLINE void with_activation(D d, const Operands& operands, const F& f) {
  const Activation& a = operands.activation;
  if (a.kind != Activation::Kind::clamp) {
    with_plain(Epilogue<D, Gate, true>{Gate<D>(d, a)}, operands, f);
  } else if (operands.residual != nullptr) {
    with_plain(Epilogue<D, Bounds, true>{Bounds<D>(d, a)}, operands, f);
  } else {
    with_plain(Epilogue<D, Bounds, false>{Bounds<D>(d, a)}, operands, f);
  }
}
template <class D, class T, class F>
HWY_INLINE void with_epilogue(D d, const ForwardOperands<T>& operands, const F& f) {
  with_activation(d, operands, f);
}
// Without an activation the residual does not matter to the backward.
template <class D, class T, class F>
HWY_INLINE void with_epilogue(D d, const BackwardOperands<T>& operands, const F& f) {
  if (operands.activation == Activation::none) {
    with_plain(Epilogue<D, Identity, false>{Identity<D>(d, operands.activation)}, operands, f);
  } else {
    with_activation(d, operands, f);
  }
}

// The coefficients of a vector.
template <class V>
struct AffineVectors {
  V center, scale, offset;
};
template <class V>
struct GradientVectors {
  V dy_scale, x_scale, offset;
};
template <class D, class P>
HWY_INLINE AffineVectors<hn::Vec<D>> vectors_of(D d, const Affine<P>& a) {
  return {hn::Set(d, a.center), hn::Set(d, a.scale), hn::Set(d, a.offset)};
}
template <class D, class P>
HWY_INLINE GradientVectors<hn::Vec<D>> vectors_of(D d, const GradientAffine<P>& g) {
  return {hn::Set(d, g.dy_scale), hn::Set(d, g.x_scale), hn::Set(d, g.offset)};
}

// y of vector i.
template <class E, class Lanes, class D, class Operands, class V = hn::Vec<D>>
HWY_INLINE V normalized(const E& epilogue, Lanes lanes, D d, const Operands& operands,
                        std::int64_t i, const AffineVectors<V>& a) {
  prefetch_to_l2(operands.x + i, operands.prefetch_distance);
  if (E::adds(operands.residual)) prefetch_to_l2(operands.residual + i, operands.prefetch_distance);
  const V v = hn::MulAdd(hn::Sub(lanes.load(d, operands.x + i), a.center), a.scale, a.offset);
  return epilogue.activation.value(d, epilogue.sum(lanes, d, v, operands.residual, i));
}

// dy of vector i as it passes the activation, and x - center, which is 0 beyond the array.
template <class V>
struct Gradient {
  V dy, deviation;
};
template <class E, class Lanes, class D, class Operands, class V = hn::Vec<D>>
HWY_INLINE Gradient<V> gradient(const E& epilogue, Lanes lanes, D d, const Operands& operands,
                                std::int64_t i, const AffineVectors<V>& a) {
  prefetch_to_l2(operands.dy + i, operands.prefetch_distance);
  prefetch_to_l2(operands.x + i, operands.prefetch_distance);
  if (E::adds(operands.residual)) prefetch_to_l2(operands.residual + i, operands.prefetch_distance);
  const V deviation = lanes.zero_rest(d, hn::Sub(lanes.load(d, operands.x + i), a.center));
  V dy = lanes.load(d, operands.dy + i);
  if constexpr (!E::is_identity) {
    const V v = hn::MulAdd(deviation, a.scale, a.offset);
    dy = epilogue.activation.gradient(d, dy, epilogue.sum(lanes, d, v, operands.residual, i));
  }
  return {dy, deviation};
}

// Adds the contribution of vector i to sum dy and sum dy * (x - center).
template <class E, class Lanes, class D, class Operands, class V = hn::Vec<D>>
HWY_INLINE void add_gradient(const E& epilogue, Lanes lanes, D d, const Operands& operands,
                             std::int64_t i, const AffineVectors<V>& a, V& sum_dy, V& sum_dy_x) {
  const Gradient<V> g = gradient(epilogue, lanes, d, operands, i, a);
  sum_dy = hn::Add(sum_dy, g.dy);
  sum_dy_x = hn::MulAdd(g.dy, g.deviation, sum_dy_x);
}

// dx and dresidual of vector i.
template <class V>
struct InputGradients {
  V dx, dresidual;
};
template <class V>
HWY_INLINE InputGradients<EvenOdd<V>> even_odd(const InputGradients<V>& even,
                                               const InputGradients<V>& odd) {
  return {{even.dx, odd.dx}, {even.dresidual, odd.dresidual}};
}
template <class E, class Lanes, class D, class Operands, class V = hn::Vec<D>>
HWY_INLINE InputGradients<V> input_gradients(const E& epilogue, Lanes lanes, D d,
                                             const Operands& operands, std::int64_t i,
                                             const AffineVectors<V>& a,
                                             const GradientVectors<V>& g) {
  const Gradient<V> in = gradient(epilogue, lanes, d, operands, i, a);
  if (!operands.through_statistics) return {hn::Mul(in.dy, g.dy_scale), in.dy};
  const V rest = hn::MulAdd(in.deviation, g.x_scale, g.offset);
  return {hn::MulAdd(in.dy, g.dy_scale, rest), in.dy};
}

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
