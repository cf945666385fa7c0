// Kernels for contiguous runs with common coefficients: planes of a channel.
//
//   affine     y  = (x - center) * scale + shift
//   gradient   dx = dy_scale * dy + x_scale * (x - center) + shift
//
// Each is one pass over its operands.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/runs.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "src/kernels/kernels.h"
#include "src/kernels/moments-inl.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

template <class T>
Moments moments(const T* x, std::int64_t count) {
  return run_moments(x, count);
}

template <class T>
void affine(const T* x, T* y, std::int64_t count, const Affine<Stat<T>>& a) {
  const hn::ScalableTag<T> d;
  const auto center = hn::Set(d, a.center);
  const auto scale = hn::Set(d, a.scale);
  const auto shift = hn::Set(d, a.shift);
  for_each_vector(d, count, [&](auto lanes, std::int64_t i) HWY_ATTR {
    lanes.store(hn::MulAdd(hn::Sub(lanes.load(d, x + i), center), scale, shift), d, y + i);
  });
}

template <class T>
GradientSums gradient_sums(const T* dy, const T* x, std::int64_t count, Stat<T> center) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const auto v_center = hn::Set(d, center);
  GradientSums total;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const T* block_dy = dy + begin;
    const T* block_x = x + begin;
    T sum_dy = 0, sum_dy_x = 0;
    sum_pairs(
        d, std::min(kBlock, count - begin),
        [&](auto lanes, std::int64_t i, V& s, V& t) HWY_ATTR {
          const auto g = lanes.load(d, block_dy + i);
          const auto deviation = lanes.zero_rest(d, hn::Sub(lanes.load(d, block_x + i), v_center));
          s = hn::Add(s, g);
          t = hn::MulAdd(g, deviation, t);
        },
        sum_dy, sum_dy_x);
    total.dy += static_cast<double>(sum_dy);
    total.dy_x += static_cast<double>(sum_dy_x);
  }
  return total;
}

template <class T>
void gradient(const T* dy, const T* x, T* dx, std::int64_t count,
              const GradientAffine<Stat<T>>& g) {
  const hn::ScalableTag<T> d;
  const auto center = hn::Set(d, g.center);
  const auto dy_scale = hn::Set(d, g.dy_scale);
  const auto x_scale = hn::Set(d, g.x_scale);
  const auto shift = hn::Set(d, g.shift);
  for_each_vector(d, count, [&](auto lanes, std::int64_t i) HWY_ATTR {
    const auto deviation = hn::Sub(lanes.load(d, x + i), center);
    const auto from_x = hn::MulAdd(deviation, x_scale, shift);
    lanes.store(hn::MulAdd(lanes.load(d, dy + i), dy_scale, from_x), d, dx + i);
  });
}

template <class T>
const kernels::Runs<T>* table() {
  static constexpr kernels::Runs<T> kTable = {moments<T>, affine<T>, gradient_sums<T>, gradient<T>};
  return &kTable;
}
const kernels::Runs<float>* float_runs() { return table<float>(); }
const kernels::Runs<double>* double_runs() { return table<double>(); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenkeel::kernels {

HWY_EXPORT(float_runs);
HWY_EXPORT(double_runs);

template <>
const Runs<float>& runs<float>() {
  select_target_from_environment();
  return *HWY_DYNAMIC_DISPATCH(float_runs)();
}
template <>
const Runs<double>& runs<double>() {
  select_target_from_environment();
  return *HWY_DYNAMIC_DISPATCH(double_runs)();
}

}  // namespace evenkeel::kernels
#endif
