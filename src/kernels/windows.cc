// Kernels for sums over a window of channels: LRN.
//
//   base = k + alpha * sum_{window} x^2        y  = x * base^-beta
//   dx   = dy * base^-beta - 2*alpha*beta * x * sum_{mirrored window} dy * x * base^(-beta - 1)
//
// Across rows (channels-first): one pass down the channels. Squares, and in the backward the terms
// of the second sum, wait in rings of as many rows as the window has points, in L1. A slot is
// overwritten when its channel leaves the window, and is zero for channels that do not exist.
//
// Along rows (channels-last): squares and terms of some rows are laid out with zeros between the
// rows, so that a window needs no special case at the first and last channels.
//
// Sums are added afresh for each value, never slid: subtracting a large value that leaves the
// window would leave its rounding error behind.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/windows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>

#include "src/kernels/kernels.h"
#include "src/kernels/power-inl.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::Window;
template <class T>
using Across = typename kernels::Windows<T>::Across;
template <class T>
using Along = typename kernels::Windows<T>::Along;

// The number of points of a window: a constant for the usual five, so that their sum has no loop.
template <std::int64_t fixed>
struct Points {
  std::int64_t any;
  constexpr operator std::int64_t() const { return fixed > 0 ? fixed : any; }
};
template <class F>
HWY_INLINE void with_points(const Window& window, const F& f) {
  if (window.points() == 5) {
    f(Points<5>{5});
  } else {
    f(Points<0>{window.points()});
  }
}

// `count` rows of `cols` values, `stride` apart, in a buffer.
template <class P, class Count = std::int64_t>
struct BufferRows {
  P* data;
  Count count;
  std::int64_t stride;

  // The row of a channel in a ring.
  HWY_INLINE P* slot(std::int64_t channel) const { return data + channel % count * stride; }
  // The sum over all rows.
  template <class Lanes, class D>
  HWY_INLINE hn::Vec<D> sum(Lanes lanes, D d, std::int64_t i) const {
    auto value = lanes.load(d, data + i);
    for (std::int64_t r = 1; r < count; ++r) {
      value = hn::Add(value, lanes.load(d, data + r * stride + i));
    }
    return value;
  }
};

// The squares of `count` values, prefetching those `ahead` of them; zeros if there are none.
template <class T>
HWY_INLINE void fill_squares(const T* x, Stat<T>* to, std::int64_t count, std::int64_t ahead) {
  const hn::ScalableTag<Stat<T>> d;
  if (!x) {
    std::fill_n(to, count, Stat<T>{0});
    return;
  }
  for_each_vector(d, count, [&](auto lanes, std::int64_t i) HWY_ATTR {
    hwy::Prefetch(x + ahead + i);
    const auto v = lanes.load(d, x + i);
    lanes.store(hn::Mul(v, v), d, to + i);
  });
}

template <class Power, class Count, class T>
void forward_across(const T* x, T* y_data, Across<T> block, Window window, Power power,
                    Count points, Stat<T>* buffer, bool streams) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  const auto k = hn::Set(d, static_cast<P>(window.k));
  const auto alpha = hn::Set(d, static_cast<P>(window.alpha));
  const BufferRows<P, Count> squares{buffer, points, block.cols};
  std::fill_n(buffer, block.forward_buffer(window), P{0});

  // Channel j gets its square, channel c its result.
  for (std::int64_t j = 0; j < block.channels + window.ahead; ++j) {
    fill_squares(j < block.channels ? x + j * block.stride : nullptr, squares.slot(j), block.cols,
                 block.stride);
    const std::int64_t c = j - window.ahead;
    if (c < 0) continue;
    const T* row = x + c * block.stride;
    const Output<T> y{y_data + c * block.stride, streams};
    if (streams) prefetch_ends(y.data + 2 * block.stride, block.cols);
    for_each_vector_aligned(d, y.data, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      const auto base = hn::MulAdd(alpha, squares.sum(lanes, d, i), k);
      y.put(lanes, hn::Mul(lanes.load(d, row + i), power(d, base).value), d, i);
    });
  }
}

template <class Power, class Count, class T>
void backward_across(const T* dy, const T* x, T* dx_data, Across<T> block, Window window,
                     Power power, Count points, Stat<T>* buffer, bool streams) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  const auto k = hn::Set(d, static_cast<P>(window.k));
  const auto alpha = hn::Set(d, static_cast<P>(window.alpha));
  const auto factor = hn::Set(d, static_cast<P>(-2 * window.alpha * window.beta));
  const BufferRows<P, Count> squares{buffer, points, block.cols};
  // dy * x * base^(-beta - 1)
  const BufferRows<P, Count> terms{buffer + points * block.cols, points, block.cols};
  // dy * base^-beta, kept until the terms of all channels of the window are there
  const BufferRows<P> direct{terms.data + points * block.cols, window.behind + 1, block.cols};
  std::fill_n(buffer, block.backward_buffer(window), P{0});

  // Channel j gets its square, channel t its term, channel c its gradient.
  const std::int64_t channels = block.channels;
  for (std::int64_t j = 0; j < channels + window.ahead + window.behind; ++j) {
    const std::int64_t t = j - window.ahead, c = t - window.behind;
    fill_squares(j < channels ? x + j * block.stride : nullptr, squares.slot(j), block.cols,
                 block.stride);
    if (t < 0) continue;
    P* term_row = terms.slot(t);
    if (t < channels) {
      const T* row_x = x + t * block.stride;
      const T* row_dy = dy + t * block.stride;
      P* direct_row = direct.slot(t);
      for_each_vector(d, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
        hwy::Prefetch(row_dy + block.stride + i);
        const auto v_dy = lanes.load(d, row_dy + i);
        const auto sum = squares.sum(lanes, d, i);
        const auto inverse = power(d, hn::MulAdd(alpha, sum, k));
        const auto scaled = hn::Mul(v_dy, inverse.value);
        lanes.store(scaled, d, direct_row + i);
        lanes.store(hn::Mul(hn::Mul(scaled, lanes.load(d, row_x + i)), inverse.reciprocal), d,
                    term_row + i);
      });
    } else {
      std::fill_n(term_row, block.cols, P{0});
    }
    if (c < 0) continue;
    const T* row_x = x + c * block.stride;
    const P* direct_row = direct.slot(c);
    const Output<T> dx{dx_data + c * block.stride, streams};
    if (streams) prefetch_ends(dx.data + 2 * block.stride, block.cols);
    for_each_vector_aligned(d, dx.data, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      const auto sum = terms.sum(lanes, d, i);
      const auto scaled = hn::Mul(factor, lanes.load(d, row_x + i));
      dx.put(lanes, hn::MulAdd(scaled, sum, lanes.load(d, direct_row + i)), d, i);
    });
  }
}

// sum of first[j], j in [0, points).
template <class Lanes, class D, class Count>
HWY_INLINE hn::Vec<D> window_sum(Lanes lanes, D d, const hn::TFromD<D>* first, Count points) {
  auto sum = lanes.load(d, first);
  for (std::int64_t j = 1; j < points; ++j) sum = hn::Add(sum, lanes.load(d, first + j));
  return sum;
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

template <class Power, class Count, class T>
void forward_along(const T* x, T* y_data, Along<T> block, Window window, Power power, Count points,
                   Stat<T>* buffer, bool streams) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  const auto k = hn::Set(d, static_cast<P>(window.k));
  const auto alpha = hn::Set(d, static_cast<P>(window.alpha));
  const auto squares = padded_rows(buffer, block.rows, block.channels, window.behind, window.ahead);
  for (std::int64_t r = 0; r < block.rows; ++r) {
    fill_squares(x + r * block.channels, squares.data + r * squares.stride + window.behind,
                 block.channels, 0);
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t at = r * block.channels;
    const P* row = squares.data + r * squares.stride;
    const Output<T> y{y_data + at, streams};
    for_each_vector_aligned(d, y.data, block.channels, [&](auto lanes, std::int64_t i) HWY_ATTR {
      hwy::Prefetch(x + at + block.rows * block.channels + i);
      const auto base = hn::MulAdd(alpha, window_sum(lanes, d, row + i, points), k);
      y.put(lanes, hn::Mul(lanes.load(d, x + at + i), power(d, base).value), d, i);
    });
  }
}

template <class Power, class Count, class T>
void backward_along(const T* dy, const T* x, T* dx_data, Along<T> block, Window window, Power power,
                    Count points, Stat<T>* buffer, bool streams) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  const auto k = hn::Set(d, static_cast<P>(window.k));
  const auto alpha = hn::Set(d, static_cast<P>(window.alpha));
  const auto factor = hn::Set(d, static_cast<P>(-2 * window.alpha * window.beta));
  const std::int64_t channels = block.channels, padded = block.forward_buffer(window);
  const auto squares = padded_rows(buffer, block.rows, channels, window.behind, window.ahead);
  // dy * x * base^(-beta - 1), with the margins mirrored
  const auto terms =
      padded_rows(buffer + padded, block.rows, channels, window.ahead, window.behind);
  P* direct = buffer + 2 * padded;  // dy * base^-beta
  for (std::int64_t r = 0; r < block.rows; ++r) {
    fill_squares(x + r * channels, squares.data + r * squares.stride + window.behind, channels, 0);
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t at = r * channels;
    const P* row = squares.data + r * squares.stride;
    P* terms_row = terms.data + r * terms.stride + window.ahead;
    for_each_vector(d, channels, [&](auto lanes, std::int64_t i) HWY_ATTR {
      const auto base = hn::MulAdd(alpha, window_sum(lanes, d, row + i, points), k);
      const auto inverse = power(d, base);
      const auto scaled = hn::Mul(lanes.load(d, dy + at + i), inverse.value);
      lanes.store(scaled, d, direct + at + i);
      lanes.store(hn::Mul(hn::Mul(scaled, lanes.load(d, x + at + i)), inverse.reciprocal), d,
                  terms_row + i);
    });
  }
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t at = r * channels;
    const P* row = terms.data + r * terms.stride;
    const Output<T> dx{dx_data + at, streams};
    for_each_vector_aligned(d, dx.data, channels, [&](auto lanes, std::int64_t i) HWY_ATTR {
      hwy::Prefetch(x + at + block.rows * channels + i);
      hwy::Prefetch(dy + at + block.rows * channels + i);
      const auto sum = window_sum(lanes, d, row + i, points);
      const auto scaled = hn::Mul(factor, lanes.load(d, x + at + i));
      dx.put(lanes, hn::MulAdd(scaled, sum, lanes.load(d, direct + at + i)), d, i);
    });
  }
}

// Calls run(power, points) with both as policies.
template <class Run>
HWY_INLINE void with_policies(const Window& window, const Run& run) {
  with_power(window.beta, [&](auto power) HWY_ATTR {
    with_points(window, [&](auto points) HWY_ATTR { run(power, points); });
  });
}

template <class T>
const kernels::Windows<T>* table() {
  using P = Stat<T>;
  static constexpr kernels::Windows<T> kTable = {
      [](const T* x, T* y, Across<T> block, Window window, P* buffer, bool streams) HWY_ATTR {
        with_policies(window, [&](auto power, auto points) HWY_ATTR {
          forward_across(x, y, block, window, power, points, buffer, streams);
        });
      },
      [](const T* dy, const T* x, T* dx, Across<T> block, Window window, P* buffer, bool streams)
          HWY_ATTR {
            with_policies(window, [&](auto power, auto points) HWY_ATTR {
              backward_across(dy, x, dx, block, window, power, points, buffer, streams);
            });
          },
      [](const T* x, T* y, Along<T> block, Window window, P* buffer, bool streams) HWY_ATTR {
        with_policies(window, [&](auto power, auto points) HWY_ATTR {
          forward_along(x, y, block, window, power, points, buffer, streams);
        });
      },
      [](const T* dy, const T* x, T* dx, Along<T> block, Window window, P* buffer, bool streams)
          HWY_ATTR {
            with_policies(window, [&](auto power, auto points) HWY_ATTR {
              backward_along(dy, x, dx, block, window, power, points, buffer, streams);
            });
          }};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(windows, Windows)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(windows, Windows)
#endif
