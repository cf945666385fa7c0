// LRN along rows (channels-last): squares and terms of some rows are laid out with zeros between
// the rows, so that a window needs no special case at the first and last channels.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/windows_along.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>

#include "src/kernels/dispatch.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/windows-inl.h"
#include "src/kernels/windows.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::Along;
using kernels::LargestInWindows;
using kernels::Window;

// sum of first[j], j in [0, points).
template <class Lanes, class D, class Count>
HWY_INLINE hn::Vec<D> window_sum(Lanes lanes, D d, const hn::TFromD<D>* first, Count points) {
  auto sum = lanes.load(d, first);
  for (std::int64_t j = 1; j < points; ++j) sum = hn::Add(sum, lanes.load(d, first + j));
  return sum;
}

// The squares of `count` values.
template <class T>
HWY_INLINE void fill_squares(const T* x, Wide<T>* to, std::int64_t count) {
  const hn::ScalableTag<Wide<T>> d;
  for_each_vector(d, count, [&](auto lanes, std::int64_t i) HWY_ATTR {
    hwy::Prefetch(x + i);
    const auto v = lanes.load(d, x + i);
    lanes.store(hn::Mul(v, v), d, to + i);
  });
}

// Rows with `before` and `after` zeros around each.
template <class P>
HWY_INLINE BufferRows<P> padded_rows(P* buffer, std::int64_t rows, std::int64_t channels,
                                     std::int64_t before, std::int64_t after) {
  const std::int64_t stride = before + channels + after;
  for (P* row = buffer; row != buffer + rows * stride; row += stride) {
    std::fill_n(row, before, P{0});
    std::fill_n(row + before + channels, after, P{0});
  }
  return {buffer, rows, stride};
}

template <class Count, class T>
LargestInWindows forward(const T* x, T* y_data, Along block, Window window, Count points,
                         Wide<T>* buffer, bool non_temporal) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  const InversePower power{window.beta};
  const auto k = hn::Set(d, static_cast<P>(window.k));
  const auto alpha = hn::Set(d, static_cast<P>(window.alpha));
  const auto squares = padded_rows(buffer, block.rows, block.channels, window.behind, window.ahead);
  Largest<decltype(d)> bases(d);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    fill_squares(x + r * block.channels, squares.data + r * squares.stride + window.behind,
                 block.channels);
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t at = r * block.channels;
    const P* row = squares.data + r * squares.stride;
    const Output<T> y{y_data + at, non_temporal};
    for_each_vector_aligned(d, y.data, block.channels, [&](auto lanes, std::int64_t i) HWY_ATTR {
      hwy::Prefetch(x + at + block.rows * block.channels + i);
      const auto base = hn::MulAdd(alpha, window_sum(lanes, d, row + i, points), k);
      bases.add(base);
      y.put(lanes, hn::Mul(lanes.load(d, x + at + i), power(d, base).value), d, i);
    });
  }
  return {bases.value(d)};
}

template <class Count, class T>
LargestInWindows backward(const T* dy, const T* x, T* dx_data, Along block, Window window,
                          Count points, Wide<T>* buffer, bool non_temporal) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  const InversePower power{window.beta};
  const auto k = hn::Set(d, static_cast<P>(window.k));
  const auto alpha = hn::Set(d, static_cast<P>(window.alpha));
  const auto factor = hn::Set(d, static_cast<P>(-2 * window.alpha * window.beta));
  const std::int64_t channels = block.channels, padded = block.forward_buffer(window);
  const auto squares = padded_rows(buffer, block.rows, channels, window.behind, window.ahead);
  // dy * x * base^(-beta - 1), with the margins mirrored
  const auto terms =
      padded_rows(buffer + padded, block.rows, channels, window.ahead, window.behind);
  P* direct = buffer + 2 * padded;  // dy * base^-beta
  Largest<decltype(d)> bases(d), scaled_dys(d);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    fill_squares(x + r * channels, squares.data + r * squares.stride + window.behind, channels);
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t at = r * channels;
    const P* row = squares.data + r * squares.stride;
    P* terms_row = terms.data + r * terms.stride + window.ahead;
    for_each_vector(d, channels, [&](auto lanes, std::int64_t i) HWY_ATTR {
      const auto base = hn::MulAdd(alpha, window_sum(lanes, d, row + i, points), k);
      const auto inverse = power(d, base);
      const auto scaled = hn::Mul(lanes.load(d, dy + at + i), inverse.value);
      bases.add(base);
      scaled_dys.add(hn::Abs(scaled));
      lanes.store(scaled, d, direct + at + i);
      // x / base is small where x is large, so that the product does not overflow.
      const auto share = hn::Mul(lanes.load(d, x + at + i), inverse.reciprocal);
      lanes.store(hn::Mul(scaled, share), d, terms_row + i);
    });
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t at = r * channels;
    const P* row = terms.data + r * terms.stride;
    const Output<T> dx{dx_data + at, non_temporal};
    for_each_vector_aligned(d, dx.data, channels, [&](auto lanes, std::int64_t i) HWY_ATTR {
      hwy::Prefetch(x + at + block.rows * channels + i);
      hwy::Prefetch(dy + at + block.rows * channels + i);
      const auto sum = window_sum(lanes, d, row + i, points);
      const auto scaled = hn::Mul(factor, lanes.load(d, x + at + i));
      dx.put(lanes, hn::MulAdd(scaled, sum, lanes.load(d, direct + at + i)), d, i);
    });
  }
  return {bases.value(d), scaled_dys.value(d)};
}

template <class T>
const kernels::WindowsAlong<T>* table() {
  using P = Wide<T>;
  static constexpr kernels::WindowsAlong<T> kTable = {
      [](const T* x, T* y, Along block, Window window, P* buffer, bool non_temporal) HWY_ATTR {
        return with_points(window, [&](auto points) HWY_ATTR {
          return forward(x, y, block, window, points, buffer, non_temporal);
        });
      },
      [](const T* dy, const T* x, T* dx, Along block, Window window, P* buffer, bool non_temporal)
          HWY_ATTR {
            return with_points(window, [&](auto points) HWY_ATTR {
              return backward(dy, x, dx, block, window, points, buffer, non_temporal);
            });
          },
      [](const T* x, Along block)
          HWY_ATTR { return largest_of_rows(x, 1, block.rows * block.channels, 0); }};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(windows_along, WindowsAlong)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(windows_along, WindowsAlong)
#endif
