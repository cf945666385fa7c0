// LRN across rows (channels-first): one pass down the channels, with a second some channels behind
// it. The first adds up the squares of a window straight from x, whose rows are in L1. What the
// second needs waits in L1, in as few rows as it needs. In the second, rows that start anywhere in
// a line of the cache are also brought into line with the output, as non-temporal stores need.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/windows_across.cc"
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

using kernels::Across;
using kernels::LargestInWindows;
using kernels::Window;

// Calls body(lanes, i, n, base) for each vector of the rows of channels t + n, n < together, with
// that channel's base. Two channels share all but one of the squares of each: 6 loads of x instead
// of 10. With together = 2, both windows must lie within the channels.
template <int together, class Count, class T, class Body>
HWY_INLINE void for_each_base(const T* x, Across block, Window window, std::int64_t t, Count rows,
                              const Body& body) {
  const hn::ScalableTag<Wide<T>> d;
  const auto k = hn::Set(d, static_cast<Wide<T>>(window.k));
  const auto alpha = hn::Set(d, static_cast<Wide<T>>(window.alpha));
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

template <class Count, class T>
LargestInWindows forward(const T* x, T* y_data, Across block, Window window, Count points,
                         Wide<T>* buffer, bool non_temporal) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  const InversePower power{window.beta};
  // base^-beta, kept until no channel needs this one's x, which y may overwrite
  const BufferRows<P> factors{buffer, window.behind + 2, block.cols};
  Largest<decltype(d)> bases(d);

  down_the_channels(
      block.channels, window, points,
      [&](std::int64_t t, auto together, auto rows) HWY_ATTR {
        const TwoRows<P> to(factors, t);
        for_each_base<together.value>(x, block, window, t, rows,
                                      [&](auto lanes, std::int64_t i, int n, auto base) HWY_ATTR {
                                        bases.add(base);
                                        lanes.store(power(d, base).value, d, to.row[n] + i);
                                      });
      },
      [&](std::int64_t c) HWY_ATTR {
        const T* row_x = x + c * block.stride;
        const P* row = factors.slot(c);
        const Output<T> y{y_data + c * block.stride, non_temporal};
        for_each_vector_aligned(d, y.data, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
          y.put(lanes, hn::Mul(lanes.load(d, row_x + i), lanes.load(d, row + i)), d, i);
        });
      });
  return {bases.value(d)};
}

template <class Count, class T>
LargestInWindows backward(const T* dy, const T* x, T* dx_data, Across block, Window window,
                          Count points, Wide<T>* buffer, bool non_temporal) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  const InversePower power{window.beta};
  const auto factor = hn::Set(d, static_cast<P>(-2 * window.alpha * window.beta));
  // dy * x * base^(-beta - 1)
  const BufferRows<P> terms{buffer, points + 1, block.cols};
  // dy * base^-beta, kept until the terms of all channels of the window are there
  const BufferRows<P> direct{buffer + (points + 1) * block.cols, window.behind + 2, block.cols};
  Largest<decltype(d)> bases(d), scaled_dys(d);

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
              bases.add(base);
              scaled_dys.add(hn::Abs(scaled));
              lanes.store(scaled, d, direct_to.row[n] + i);
              // x / base is small where x is large, so that the product does not overflow.
              const auto share =
                  hn::Mul(lanes.load(d, rows_x + n * stride + i), inverse.reciprocal);
              lanes.store(hn::Mul(scaled, share), d, to.row[n] + i);
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
        const Output<T> dx{dx_data + c * block.stride, non_temporal};
        for_each_vector_aligned(d, dx.data, block.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
          dx.put(lanes, lanes.load(d, row + i), d, i);
        });
      });
  return {bases.value(d), scaled_dys.value(d)};
}

template <class T>
const kernels::WindowsAcross<T>* table() {
  using P = Wide<T>;
  static constexpr kernels::WindowsAcross<T> kTable = {
      [](const T* x, T* y, Across block, Window window, P* buffer, bool non_temporal) HWY_ATTR {
        return with_points(window, [&](auto points) HWY_ATTR {
          return forward(x, y, block, window, points, buffer, non_temporal);
        });
      },
      [](const T* dy, const T* x, T* dx, Across block, Window window, P* buffer, bool non_temporal)
          HWY_ATTR {
            return with_points(window, [&](auto points) HWY_ATTR {
              return backward(dy, x, dx, block, window, points, buffer, non_temporal);
            });
          },
      [](const T* x, Across block)
          HWY_ATTR { return largest_of_rows(x, block.channels, block.cols, block.stride); }};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(windows_across, WindowsAcross)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(windows_across, WindowsAcross)
#endif
