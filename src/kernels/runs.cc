// Kernels for contiguous runs with common coefficients: planes of a channel.
//
//   forward    y  = activation((x - center) * scale + shift + residual)
//   backward   dx = dy_scale * dy + x_scale * (x - center) + shift
//
// Each is one pass over its operands.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/runs.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "src/kernels/epilogue-inl.h"
#include "src/kernels/kernels.h"
#include "src/kernels/moments-inl.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::Piece;

template <class T>
Moments moments(const T* x, const Piece& piece, std::int64_t ahead) {
  return block_moments(x, piece, ahead);
}

template <class T>
void forward(const ForwardPass<T>& whole, const Piece& piece, const Affine<Stat<T>>& a) {
  const hn::ScalableTag<Stat<T>> d;
  const auto center = hn::Set(d, a.center);
  const auto scale = hn::Set(d, a.scale);
  const auto shift = hn::Set(d, a.shift);
  const auto run = [&](auto epilogue, auto streams) HWY_ATTR {
    for (std::int64_t r = 0; r < piece.runs; ++r) {
      const ForwardPass<T> pass = whole.at(r * piece.stride, streams.value ? whole.ahead : 0);
      const Output<T> y{pass.y, streams.value};
      for_each_vector_aligned(d, pass.y, piece.length, [=](auto lanes, std::int64_t i) HWY_ATTR {
        prefetch(epilogue, pass, i);
        const auto v = hn::MulAdd(hn::Sub(lanes.load(d, pass.x + i), center), scale, shift);
        y.put(lanes, epilogue.forward(lanes, d, v, pass.residual, i), d, i);
      });
    }
  };
  // Tests of streams and ahead for each vector took a fifth of the time of bfloat16 in cache.
  with_epilogue(whole, [&](auto epilogue) HWY_ATTR {
    with_flag(whole.streams, [&](auto streams) HWY_ATTR { run(epilogue, streams); });
  });
}

template <class T>
GradientSums gradient_sums(const BackwardPass<T>& whole, const Piece& piece,
                           const Affine<Stat<T>>& a) {
  const hn::ScalableTag<Stat<T>> d;
  using V = hn::Vec<decltype(d)>;
  const auto center = hn::Set(d, a.center);
  const auto scale = hn::Set(d, a.scale);
  const auto shift = hn::Set(d, a.shift);
  PairOfSums<decltype(d)> sums(d);
  with_epilogue(whole, [&](auto epilogue, auto) HWY_ATTR {
    for (std::int64_t r = 0; r < piece.runs; ++r) {
      const BackwardPass<T> pass = whole.at(r * piece.stride, whole.ahead);
      sums.add(d, piece.length, [=](auto lanes, std::int64_t i, V& s, V& t) HWY_ATTR {
        prefetch(epilogue, pass, i);
        const auto deviation = lanes.zero_rest(d, hn::Sub(lanes.load(d, pass.x + i), center));
        auto g = lanes.load(d, pass.dy + i);
        if constexpr (decltype(epilogue)::masks) {
          const auto v = hn::MulAdd(deviation, scale, shift);
          g = epilogue.backward(lanes, d, g, v, pass.residual, i);
        }
        s = hn::Add(s, g);
        t = hn::MulAdd(g, deviation, t);
      });
    }
  });
  return {sums.s(d), sums.t(d)};
}

template <class T>
void backward(const BackwardPass<T>& whole, const Piece& piece, const Affine<Stat<T>>& a,
              const GradientAffine<Stat<T>>& g) {
  const hn::ScalableTag<Stat<T>> d;
  const auto center = hn::Set(d, a.center);
  const auto scale = hn::Set(d, a.scale);
  const auto shift = hn::Set(d, a.shift);
  const auto dy_scale = hn::Set(d, g.dy_scale);
  const auto x_scale = hn::Set(d, g.x_scale);
  const auto rest = hn::Set(d, g.shift);
  with_epilogue(whole, [&](auto epilogue, auto statistics) HWY_ATTR {
    for (std::int64_t r = 0; r < piece.runs; ++r) {
      const BackwardPass<T> pass = whole.at(r * piece.stride, whole.ahead);
      const T* aligned = pass.dx ? pass.dx : pass.dresidual;
      const Output<T> dx{pass.dx, pass.streams};
      const Output<T> dresidual{
          pass.dresidual,
          pass.streams && misaligned(pass.dresidual, kLine<T>) == misaligned(aligned, kLine<T>)};
      for_each_vector_aligned(d, aligned, piece.length, [=](auto lanes, std::int64_t i) HWY_ATTR {
        prefetch(epilogue, pass, i);
        const auto deviation = hn::Sub(lanes.load(d, pass.x + i), center);
        auto dy = lanes.load(d, pass.dy + i);
        if constexpr (decltype(epilogue)::masks) {
          const auto v = hn::MulAdd(deviation, scale, shift);
          dy = epilogue.backward(lanes, d, dy, v, pass.residual, i);
        }
        if (dresidual.data) dresidual.put(lanes, dy, d, i);
        if (!dx.data) return;
        auto v = hn::Mul(dy, dy_scale);
        if constexpr (decltype(statistics)::value) {
          v = hn::MulAdd(dy, dy_scale, hn::MulAdd(deviation, x_scale, rest));
        }
        dx.put(lanes, v, d, i);
      });
    }
  });
}

template <class T>
const kernels::Runs<T>* table() {
  static constexpr kernels::Runs<T> kTable = {moments<T>, forward<T>, gradient_sums<T>,
                                              backward<T>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(runs, Runs)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(runs, Runs)
#endif
