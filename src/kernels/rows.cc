// Kernels for rows that are each normalized by themselves: LayerNorm.
//
// Forward, two passes over a row (the second from cache): moments; then
//   x^ = (x - center) * rstd + rest     y = x^ * weight + bias
// where center is the mean rounded to T's precision and rest = -(mean - center) * rstd.
//
// Backward, two passes over a row: with g = dy * weight, the sums of g and g * x^, and the row's
// contribution to dweight and dbias; then
//   dx = rstd * (g - mean(g) - x^ * mean(g*x^))
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <cmath>

#include "src/kernels/kernels.h"
#include "src/kernels/moments-inl.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

template <bool has_weight, bool has_bias, class T>
void forward_rows(const T* x, T* y, std::int64_t rows, std::int64_t cols, const Stat<T>* weight,
                  const Stat<T>* bias, Stat<T>* mean, Stat<T>* rstd, double eps) {
  const hn::ScalableTag<T> d;
  for (std::int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    const Moments m = run_moments(x, cols);
    const double row_rstd = 1 / std::sqrt(m.biased_variance() + eps);
    const auto row_mean = static_cast<Stat<T>>(m.mean);
    if (mean) mean[r] = row_mean;
    if (rstd) rstd[r] = static_cast<Stat<T>>(row_rstd);

    const auto center = hn::Set(d, row_mean);
    const auto scale = hn::Set(d, static_cast<T>(row_rstd));
    const auto rest =
        hn::Set(d, static_cast<T>((static_cast<double>(row_mean) - m.mean) * row_rstd));
    for_each_vector(d, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      auto v = hn::MulAdd(hn::Sub(lanes.load(d, x + i), center), scale, rest);
      if constexpr (has_weight && has_bias) {
        v = hn::MulAdd(v, lanes.load(d, weight + i), lanes.load(d, bias + i));
      } else if constexpr (has_weight) {
        v = hn::Mul(v, lanes.load(d, weight + i));
      } else if constexpr (has_bias) {
        v = hn::Add(v, lanes.load(d, bias + i));
      }
      lanes.store(v, d, y + i);
    });
  }
}

template <class T>
void forward(const T* x, T* y, std::int64_t rows, std::int64_t cols, const Stat<T>* weight,
             const Stat<T>* bias, Stat<T>* mean, Stat<T>* rstd, double eps) {
  const auto run = weight ? (bias ? forward_rows<true, true, T> : forward_rows<true, false, T>)
                          : (bias ? forward_rows<false, true, T> : forward_rows<false, false, T>);
  run(x, y, rows, cols, weight, bias, mean, rstd, eps);
}

template <bool has_weight, bool wants_dweight, bool wants_dbias, class T>
void backward_rows(const T* dy, const T* x, T* dx, std::int64_t rows, std::int64_t cols,
                   const Stat<T>* weight, const Stat<T>* mean, const Stat<T>* rstd,
                   Stat<T>* dweight, Stat<T>* dbias) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  for (std::int64_t r = 0; r < rows; ++r, x += cols, dy += cols) {
    const auto center = hn::Set(d, mean[r]);
    const auto scale = hn::Set(d, rstd[r]);
    double sum_g = 0, sum_g_x = 0;
    for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
      T block_g = 0, block_g_x = 0;
      sum_pairs(
          d, std::min(kBlock, cols - begin),
          [&](auto lanes, std::int64_t offset, V& s, V& t) HWY_ATTR {
            const std::int64_t i = begin + offset;
            const auto v_dy = lanes.load(d, dy + i);
            const auto x_hat =
                lanes.zero_rest(d, hn::Mul(hn::Sub(lanes.load(d, x + i), center), scale));
            auto g = v_dy;
            if constexpr (has_weight) g = hn::Mul(g, lanes.load(d, weight + i));
            s = hn::Add(s, g);
            t = hn::MulAdd(g, x_hat, t);
            if constexpr (wants_dweight) {
              lanes.store(hn::MulAdd(v_dy, x_hat, lanes.load(d, dweight + i)), d, dweight + i);
            }
            if constexpr (wants_dbias) {
              lanes.store(hn::Add(v_dy, lanes.load(d, dbias + i)), d, dbias + i);
            }
          },
          block_g, block_g_x);
      sum_g += static_cast<double>(block_g);
      sum_g_x += static_cast<double>(block_g_x);
    }
    if (!dx) continue;

    const auto features = static_cast<double>(cols);
    const auto mean_g = hn::Set(d, static_cast<T>(sum_g / features));
    const auto mean_g_x = hn::Set(d, static_cast<T>(sum_g_x / features));
    for_each_vector(d, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      const auto x_hat = hn::Mul(hn::Sub(lanes.load(d, x + i), center), scale);
      auto g = lanes.load(d, dy + i);
      if constexpr (has_weight) g = hn::Mul(g, lanes.load(d, weight + i));
      const auto centered = hn::NegMulAdd(x_hat, mean_g_x, hn::Sub(g, mean_g));
      lanes.store(hn::Mul(centered, scale), d, dx + i);
    });
    dx += cols;
  }
}

template <bool has_weight, class T>
constexpr auto choose_backward(bool wants_dweight, bool wants_dbias) {
  return wants_dweight ? (wants_dbias ? backward_rows<has_weight, true, true, T>
                                      : backward_rows<has_weight, true, false, T>)
                       : (wants_dbias ? backward_rows<has_weight, false, true, T>
                                      : backward_rows<has_weight, false, false, T>);
}

template <class T>
void backward(const T* dy, const T* x, T* dx, std::int64_t rows, std::int64_t cols,
              const Stat<T>* weight, const Stat<T>* mean, const Stat<T>* rstd, Stat<T>* dweight,
              Stat<T>* dbias) {
  const auto run = weight ? choose_backward<true, T>(dweight != nullptr, dbias != nullptr)
                          : choose_backward<false, T>(dweight != nullptr, dbias != nullptr);
  run(dy, x, dx, rows, cols, weight, mean, rstd, dweight, dbias);
}

template <class T>
const kernels::Rows<T>* table() {
  static constexpr kernels::Rows<T> kTable = {forward<T>, backward<T>};
  return &kTable;
}
const kernels::Rows<float>* float_rows() { return table<float>(); }
const kernels::Rows<double>* double_rows() { return table<double>(); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenkeel::kernels {

HWY_EXPORT(float_rows);
HWY_EXPORT(double_rows);

template <>
const Rows<float>& rows<float>() {
  select_target_from_environment();
  return *HWY_DYNAMIC_DISPATCH(float_rows)();
}
template <>
const Rows<double>& rows<double>() {
  select_target_from_environment();
  return *HWY_DYNAMIC_DISPATCH(double_rows)();
}

}  // namespace evenkeel::kernels
#endif
