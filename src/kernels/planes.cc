// Kernels for planes. Each is one pass over its operands.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/planes.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "src/kernels/activation-inl.h"
#include "src/kernels/dispatch.h"
#include "src/kernels/moments-inl.h"
#include "src/kernels/planes.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::Piece;

template <class D, class P>
HWY_INLINE AffineVectors<hn::Vec<D>> vectors_of(D d, const Affine<P>& a) {
  return {hn::Set(d, a.center), hn::Set(d, a.scale), hn::Set(d, a.offset)};
}
template <class D, class P>
HWY_INLINE GradientVectors<hn::Vec<D>> vectors_of(D d, const GradientAffine<P>& g) {
  return {hn::Set(d, g.dy_scale), hn::Set(d, g.x_scale), hn::Set(d, g.offset)};
}

template <class T>
Moments moments(const T* x, const Piece& piece, std::int64_t prefetch_distance) {
  return block_moments(x, piece, prefetch_distance);
}

template <class T>
void forward(const ForwardOperands<T>& whole, const Piece& piece, const Affine<Wide<T>>& affine) {
  const hn::ScalableTag<Wide<T>> d;
  const auto a = vectors_of(d, affine);
  const auto write = [&](auto epilogue, auto non_temporal) HWY_ATTR {
    for (std::int64_t n = 0; n < piece.count; ++n) {
      const auto operands = whole.at(n * piece.stride, non_temporal ? whole.prefetch_distance : 0);
      const Output<T> y{operands.y, non_temporal};
      constexpr bool may_pass_cache = !std::is_same_v<decltype(non_temporal), std::false_type>;
      for_each_vector_aligned<may_pass_cache>(
          d, y.data, piece.length, [=](auto lanes, std::int64_t i) HWY_ATTR {
            y.put(lanes, normalized(epilogue, lanes, d, operands, i, a), d, i);
          });
    }
  };
  with_epilogue(d, whole, [&](auto epilogue) HWY_ATTR {
    if constexpr (epilogue.is_gate) {
      write(epilogue, whole.non_temporal);
    } else {  // tests of this for each vector took a fifth of the time of bfloat16 in cache
      with_flag(whole.non_temporal, [&](auto flag) HWY_ATTR { write(epilogue, flag); });
    }
  });
}

template <class T>
GradientSums gradient_sums(const BackwardOperands<T>& whole, const Piece& piece,
                           const Affine<Wide<T>>& affine) {
  const hn::ScalableTag<Wide<T>> d;
  using V = hn::Vec<decltype(d)>;
  const auto a = vectors_of(d, affine);
  PairOfSums<decltype(d)> sums(d);
  with_epilogue(d, whole, [&](auto epilogue) HWY_ATTR {
    for (std::int64_t n = 0; n < piece.count; ++n) {
      const auto operands = whole.at(n * piece.stride, whole.prefetch_distance);
      sums.add(d, piece.length, [=](auto lanes, std::int64_t i, V& dy, V& dy_x) HWY_ATTR {
        add_gradient(epilogue, lanes, d, operands, i, a, dy, dy_x);
      });
    }
  });
  return {sums.s(d), sums.t(d)};
}

template <class T>
void backward(const BackwardOperands<T>& whole, const Piece& piece, const Affine<Wide<T>>& affine,
              const GradientAffine<Wide<T>>& gradient) {
  const hn::ScalableTag<Wide<T>> d;
  const auto a = vectors_of(d, affine);
  const auto g = vectors_of(d, gradient);
  with_epilogue(d, whole, [&](auto epilogue) HWY_ATTR {
    for (std::int64_t n = 0; n < piece.count; ++n) {
      const auto operands = whole.at(n * piece.stride, whole.prefetch_distance);
      const T* aligned = operands.dx ? operands.dx : operands.dresidual;
      const Output<T> dx{operands.dx, operands.non_temporal};
      const Output<T> dresidual{operands.dresidual,
                                operands.non_temporal && misaligned(operands.dresidual, kLine<T>) ==
                                                             misaligned(aligned, kLine<T>)};
      for_each_vector_aligned(d, aligned, piece.length, [=](auto lanes, std::int64_t i) HWY_ATTR {
        put_gradient(epilogue, lanes, d, operands, i, a, g, dx, dresidual);
      });
    }
  });
}

template <class T>
const kernels::Planes<T>* table() {
  static constexpr kernels::Planes<T> kTable = {moments<T>, forward<T>, gradient_sums<T>,
                                                backward<T>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(planes, Planes)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(planes, Planes)
#endif
