// Kernels for sums over a window of channels: LRN.
//
//   base = k + alpha * sum_{window} x^2        y  = x * base^-beta
//   dx   = dy * base^-beta - 2*alpha*beta * x * sum_{mirrored window} dy * x * base^(-beta - 1)
//
// Across rows (channels-first): one pass down the channels, with a second some channels behind it.
// The first adds up the squares of a window straight from x, whose rows are in L1. What the second
// needs waits in L1, in as few rows as it needs. The second is also where rows that start anywhere
// in a line are brought into line with the output, which can be streamed only so.
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

// `count` rows of values, `stride` apart, in a buffer.
template <class P>
struct BufferRows {
  P* data;
  std::int64_t count, stride;

  // The row of a channel, which that of channel + count takes over.
  HWY_INLINE P* slot(std::int64_t channel) const { return data + channel % count * stride; }
  // The sum over `channels` channels from `first` on.
  template <class Lanes, class D, class Count>
  HWY_INLINE hn::Vec<D> sum(Lanes lanes, D d, std::int64_t first, Count channels,
                            std::int64_t i) const {
    std::int64_t row = first % count;
    auto value = lanes.load(d, data + row * stride + i);
    for (std::int64_t r = 1; r < channels; ++r) {
      row = row + 1 == count ? 0 : row + 1;
      value = hn::Add(value, lanes.load(d, data + row * stride + i));
    }
    return value;
  }
};

// Calls body(lanes, i, n, base) for each vector of the rows of channels t + n, n < together, with
// that channel's base. Two channels share all but one of the squares of each: 6 loads of x instead
// of 10. The windows of two must not be cut off.
template <int together, class Count, class T, class Body>
HWY_INLINE void for_each_base(const T* x, Across<T> block, Window window, std::int64_t t,
                              Count rows, const Body& body) {
  const hn::ScalableTag<Stat<T>> d;
  const auto k = hn::Set(d, static_cast<Stat<T>>(window.k));
  const auto alpha = hn::Set(d, static_cast<Stat<T>>(window.alpha));
  const T* const first = x + std::max<std::int64_t>(t - window.behind, 0) * block.stride;
  const T* const next = first + (rows + together - 1) * block.stride;
  for_each_vector(d, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
    for (int n = 0; n < together; ++n) {
      hwy::Prefetch(next + n * block.stride + i);
      prefetch_to_l2(next + n * block.stride + i, block.cols);
    }
    const auto plus_square = [&](auto sum, std::int64_t row) HWY_ATTR {
      const auto v = lanes.load(d, first + row * block.stride + i);
      return hn::MulAdd(v, v, sum);
    };
    auto shared = hn::Zero(d);
    for (std::int64_t r = together - 1; r < rows; ++r) shared = plus_square(shared, r);
    if constexpr (together == 1) {
      body(lanes, i, 0, hn::MulAdd(alpha, shared, k));
    } else {
      static_assert(together == 2);
      body(lanes, i, 0, hn::MulAdd(alpha, plus_square(shared, 0), k));
      body(lanes, i, 1, hn::MulAdd(alpha, plus_square(shared, rows), k));
    }
  });
}

// The two passes down the channels, the second behind the first: for_bases(t, together, rows) takes
// `together` channels, with `rows` channels in the window of each, and when all channels of the
// window of a gradient have been taken, finish(c) that channel.
template <class Count, class ForBases, class Finish>
HWY_INLINE void down_the_channels(std::int64_t channels, const Window& window, Count points,
                                  const ForBases& for_bases, const Finish& finish) {
  std::int64_t t = 0, c = 0;
  while (c < channels) {
    const std::int64_t first = std::max<std::int64_t>(t - window.behind, 0);
    if (t >= window.behind && t + 1 + window.ahead < channels) {
      for_bases(t, std::integral_constant<int, 2>(), points);
      t += 2;
    } else if (t < channels) {
      for_bases(t, std::integral_constant<int, 1>(),
                std::min(t + window.ahead + 1, channels) - first);
      ++t;
    }
    for (; c < channels && (t == channels || c + window.behind < t); ++c) finish(c);
  }
}

// The rows of a buffer for channels t and t + 1.
template <class P>
struct TwoRows {
  P* row[2];
  TwoRows(const BufferRows<P>& rows, std::int64_t t) : row{rows.slot(t), rows.slot(t + 1)} {}
};

template <class Power, class Count, class T>
void forward_across(const T* x, T* y_data, Across<T> block, Window window, Power power,
                    Count points, Stat<T>* buffer, bool streams) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  // base^-beta, kept until no channel needs this one's x, which y may overwrite
  const BufferRows<P> factors{buffer, window.behind + 2, block.cols};

  down_the_channels(
      block.channels, window, points,
      [&](std::int64_t t, auto together, auto rows) HWY_ATTR {
        const TwoRows<P> to(factors, t);
        for_each_base<together.value>(x, block, window, t, rows,
                                      [&](auto lanes, std::int64_t i, int n, auto base) HWY_ATTR {
                                        lanes.store(power(d, base).value, d, to.row[n] + i);
                                      });
      },
      [&](std::int64_t c) HWY_ATTR {
        const T* row_x = x + c * block.stride;
        const P* row = factors.slot(c);
        const Output<T> y{y_data + c * block.stride, streams};
        for_each_vector_aligned(d, y.data, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
          y.put(lanes, hn::Mul(lanes.load(d, row_x + i), lanes.load(d, row + i)), d, i);
        });
      });
}

template <class Power, class Count, class T>
void backward_across(const T* dy, const T* x, T* dx_data, Across<T> block, Window window,
                     Power power, Count points, Stat<T>* buffer, bool streams) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  const auto factor = hn::Set(d, static_cast<P>(-2 * window.alpha * window.beta));
  // dy * x * base^(-beta - 1)
  const BufferRows<P> terms{buffer, points + 1, block.cols};
  // dy * base^-beta, kept until the terms of all channels of the window are there
  const BufferRows<P> direct{buffer + (points + 1) * block.cols, window.behind + 2, block.cols};

  down_the_channels(
      block.channels, window, points,
      [&](std::int64_t t, auto together, auto rows) HWY_ATTR {
        const TwoRows<P> to(terms, t), direct_to(direct, t);
        const std::int64_t stride = block.stride;
        const T* const rows_x = x + t * stride;
        const T* const rows_dy = dy + t * stride;
        for_each_base<together.value>(
            x, block, window, t, rows, [&](auto lanes, std::int64_t i, int n, auto base) HWY_ATTR {
              hwy::Prefetch(rows_dy + (together.value + n) * stride + i);
              const auto inverse = power(d, base);
              const auto scaled = hn::Mul(lanes.load(d, rows_dy + n * stride + i), inverse.value);
              lanes.store(scaled, d, direct_to.row[n] + i);
              const auto scaled_x = hn::Mul(scaled, lanes.load(d, rows_x + n * stride + i));
              lanes.store(hn::Mul(scaled_x, inverse.reciprocal), d, to.row[n] + i);
            });
      },
      [&](std::int64_t c) HWY_ATTR {
        const T* row_x = x + c * block.stride;
        P* const row = direct.slot(c);
        const std::int64_t first = std::max<std::int64_t>(c - window.ahead, 0);
        const std::int64_t rows = std::min(c + window.behind + 1, block.channels) - first;
        const auto add_terms = [=](auto count) HWY_ATTR {
          for_each_vector(d, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
            const auto sum = terms.sum(lanes, d, first, count, i);
            const auto scaled = hn::Mul(factor, lanes.load(d, row_x + i));
            lanes.store(hn::MulAdd(scaled, sum, lanes.load(d, row + i)), d, row + i);
          });
        };
        if (rows == points) {
          add_terms(points);
        } else {
          add_terms(rows);
        }
        const Output<T> dx{dx_data + c * block.stride, streams};
        for_each_vector_aligned(d, dx.data, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
          dx.put(lanes, lanes.load(d, row + i), d, i);
        });
      });
}

// sum of first[j], j in [0, points).
template <class Lanes, class D, class Count>
HWY_INLINE hn::Vec<D> window_sum(Lanes lanes, D d, const hn::TFromD<D>* first, Count points) {
  auto sum = lanes.load(d, first);
  for (std::int64_t j = 1; j < points; ++j) sum = hn::Add(sum, lanes.load(d, first + j));
  return sum;
}

// The squares of `count` values.
template <class T>
HWY_INLINE void fill_squares(const T* x, Stat<T>* to, std::int64_t count) {
  const hn::ScalableTag<Stat<T>> d;
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
                 block.channels);
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
