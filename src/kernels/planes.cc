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

template <class T>
Moments moments(const T* x, const Piece& piece, std::int64_t prefetch_distance) {
  return block_moments(x, piece, prefetch_distance);
}

// The operands of the planes of a piece one after the other: f(operands of the plane).
template <class Operands, class F>
HWY_INLINE void for_each_plane(const Operands& operands, const Piece& piece, const F& f) {
  for (std::int64_t n = 0; n < piece.count; ++n) {
    auto of_plane = operands;
    of_plane.move(n * piece.stride);
    f(of_plane);
  }
}

template <class T>
void forward(const ForwardOperands<T>& whole, const Piece& piece, const Affine<Wide<T>>& affine) {
  const hn::ScalableTag<Wide<T>> d;
  const auto a = vectors_of(d, affine);
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    constexpr bool may_pass_cache = std::is_same_v<decltype(operands), const ForwardOperands<T>&>;
    for_each_plane(operands, piece, [=](const auto& plane) HWY_ATTR {
      const Output<T> y{plane.y, plane.non_temporal};
      for_each_vector_aligned<may_pass_cache, kInterleaves<T>>(
          d, y.data, piece.length, [=](auto lanes, std::int64_t i) HWY_ATTR {
            const auto value = value_of(lanes, [=](auto part) HWY_ATTR {
              return normalized(epilogue, part, d, plane, i, a);
            });
            y.put(lanes, value, d, i);
          });
    });
  });
}

template <class T>
GradientSums gradient_sums(const BackwardOperands<T>& whole, const Piece& piece,
                           const Affine<Wide<T>>& affine) {
  const hn::ScalableTag<Wide<T>> d;
  using V = hn::Vec<decltype(d)>;
  const auto a = vectors_of(d, affine);
  GradientSums result;
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    PairOfSums<decltype(d)> sums(d);
    for_each_plane(operands, piece, [&](const auto& plane) HWY_ATTR {
      const auto add = [=](auto lanes, std::int64_t i, V& dy, V& dy_x)
                           HWY_ATTR { add_gradient(epilogue, lanes, d, plane, i, a, dy, dy_x); };
      sums.template add<kInterleaves<T>>(d, piece.length, add);
    });
    result = {sums.s(d), sums.t(d)};
  });
  return result;
}

template <class T>
void backward(const BackwardOperands<T>& whole, const Piece& piece, const Affine<Wide<T>>& affine,
              const GradientAffine<Wide<T>>& gradient) {
  const hn::ScalableTag<Wide<T>> d;
  const auto a = vectors_of(d, affine);
  const auto g = vectors_of(d, gradient);
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    constexpr bool may_pass_cache = std::is_same_v<decltype(operands), const BackwardOperands<T>&>;
    for_each_plane(operands, piece, [=](const auto& plane) HWY_ATTR {
      const T* aligned = plane.wants_dx() ? plane.dx : plane.dresidual;
      const Output<T> dx{plane.dx, plane.non_temporal};
      const Output<T> dresidual{plane.dresidual,
                                plane.non_temporal && misaligned(plane.dresidual, kLine<T>) ==
                                                          misaligned(aligned, kLine<T>)};
      for_each_vector_aligned<may_pass_cache, kInterleaves<T>>(
          d, aligned, piece.length, [=](auto lanes, std::int64_t i) HWY_ATTR {
            const auto of = value_of(lanes, [=](auto part) HWY_ATTR {
              return input_gradients(epilogue, part, d, plane, i, a, g);
            });
            if (plane.wants_dresidual()) dresidual.put(lanes, of.dresidual, d, i);
            if (plane.wants_dx()) dx.put(lanes, of.dx, d, i);
          });
    });
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
