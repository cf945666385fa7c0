// Kernels for sums over a window of channels: LRN.
//
//   base = k + alpha * sum_{window} x^2        y  = x * base^-beta
//   dx   = dy * base^-beta - 2*alpha*beta * x * sum_{mirrored window} dy * x * base^(-beta - 1)
//
// A tile's squares are copied densely into a buffer with zeros before and after, so that a window
// needs no special case at the first and last channels, y may be x, and both layouts run the same
// loops: neighbouring channels are `step` values apart. Sums are added afresh for each value.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/windows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>
#include <limits>

#include "hwy/contrib/math/math-inl.h"
#include "src/kernels/kernels.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::Tile;
using kernels::Window;

// base^-beta. The common exponents need only square roots and a division.
struct InversePower3Quarters {
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V operator()(D d, V base) const {
    const auto root = hn::Sqrt(base);
    return hn::Div(hn::Set(d, 1), hn::Mul(root, hn::Sqrt(root)));
  }
};
struct InverseSquareRoot {
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V operator()(D d, V base) const {
    return hn::Div(hn::Set(d, 1), hn::Sqrt(base));
  }
};
struct Inverse {
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V operator()(D d, V base) const {
    return hn::Div(hn::Set(d, 1), base);
  }
};
// exp(-beta * log(base)): a relative error of about |beta * log(base)| units of rounding. The
// logarithm is for positive finite arguments only; 0, infinity and the rest are put right after.
struct InversePower {
  double beta;

  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V operator()(D d, V base) const {
    using T = hn::TFromD<D>;
    const auto zero = hn::Zero(d);
    const auto infinity = hn::Set(d, std::numeric_limits<T>::infinity());
    const auto nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
    const auto minus_beta = hn::Set(d, static_cast<T>(-beta));
    const auto at_zero = beta > 0 ? infinity : beta < 0 ? zero : hn::Set(d, 1);
    const auto at_infinity = beta > 0 ? zero : beta < 0 ? infinity : hn::Set(d, 1);
    auto power = hn::Exp(d, hn::Mul(minus_beta, hn::Log(d, base)));
    power = hn::IfThenElse(hn::Eq(base, infinity), at_infinity, power);
    power = hn::IfThenElse(hn::Eq(base, zero), at_zero, power);
    return hn::IfThenElse(hn::Ge(base, zero), power, nan);
  }
};

// Calls body(in_tile, dense) for each row: its offsets in the tile and in the dense copy.
template <class Body>
HWY_INLINE void for_each_row(const Tile& tile, const Body& body) {
  for (std::int64_t r = 0; r < tile.rows; ++r) body(r * tile.stride, r * tile.cols);
}

// sum of buffer[first + j * step], j in [0, points).
template <class D, class Lanes>
HWY_INLINE hn::Vec<D> window_sum(D d, Lanes lanes, const hn::TFromD<D>* first, std::int64_t points,
                                 std::int64_t step) {
  auto sum = lanes.load(d, first);
  for (std::int64_t j = 1; j < points; ++j) sum = hn::Add(sum, lanes.load(d, first + j * step));
  return sum;
}

// Squares of the tile, with room for `behind` channels before and `ahead` channels after.
template <class T>
HWY_INLINE void fill_squares(const T* x, const Tile& tile, T* dense) {
  const hn::ScalableTag<T> d;
  for_each_row(tile, [&](std::int64_t at, std::int64_t to) HWY_ATTR {
    for_each_vector(d, tile.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      const auto v = lanes.load(d, x + at + i);
      lanes.store(hn::Mul(v, v), d, dense + to + i);
    });
  });
}

template <class T>
HWY_INLINE void zero_margins(T* buffer, std::int64_t before, std::int64_t size,
                             std::int64_t after) {
  std::fill_n(buffer, before, T{0});
  std::fill_n(buffer + before + size, after, T{0});
}

template <class Power, class T>
void forward_tiles(const T* x, T* y, const Tile& tile, std::int64_t count, std::int64_t tile_stride,
                   const Window& window, Power power, T* squares) {
  const hn::ScalableTag<T> d;
  const auto k = hn::Set(d, static_cast<T>(window.k));
  const auto alpha = hn::Set(d, static_cast<T>(window.alpha));
  const std::int64_t points = window.behind + 1 + window.ahead;
  const std::int64_t before = window.behind * tile.step;
  zero_margins(squares, before, tile.size(), window.ahead * tile.step);

  for (std::int64_t n = 0; n < count; ++n, x += tile_stride, y += tile_stride) {
    fill_squares(x, tile, squares + before);
    for_each_row(tile, [&](std::int64_t at, std::int64_t to) HWY_ATTR {
      for_each_vector(d, tile.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
        const auto sum = window_sum(d, lanes, squares + to + i, points, tile.step);
        const auto base = hn::MulAdd(alpha, sum, k);
        lanes.store(hn::Mul(lanes.load(d, x + at + i), power(d, base)), d, y + at + i);
      });
    });
  }
}

template <class Power, class T>
void backward_tiles(const T* dy, const T* x, T* dx, const Tile& tile, std::int64_t count,
                    std::int64_t tile_stride, const Window& window, Power power, T* buffer) {
  const hn::ScalableTag<T> d;
  const auto k = hn::Set(d, static_cast<T>(window.k));
  const auto alpha = hn::Set(d, static_cast<T>(window.alpha));
  const auto factor = hn::Set(d, static_cast<T>(-2 * window.alpha * window.beta));
  const std::int64_t points = window.behind + 1 + window.ahead;
  const std::int64_t before = window.behind * tile.step, after = window.ahead * tile.step;
  const std::int64_t padded = kernels::forward_buffer(tile, window);
  T* squares = buffer;
  T* terms = buffer + padded;       // dy * x * base^(-beta - 1), with the margins mirrored
  T* powers = buffer + 2 * padded;  // base^-beta
  zero_margins(squares, before, tile.size(), after);
  zero_margins(terms, after, tile.size(), before);

  for (std::int64_t n = 0; n < count; ++n, x += tile_stride, dy += tile_stride, dx += tile_stride) {
    fill_squares(x, tile, squares + before);
    for_each_row(tile, [&](std::int64_t at, std::int64_t to) HWY_ATTR {
      for_each_vector(d, tile.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
        const auto sum = window_sum(d, lanes, squares + to + i, points, tile.step);
        const auto base = hn::MulAdd(alpha, sum, k);
        const auto base_power = power(d, base);
        const auto product = hn::Mul(lanes.load(d, dy + at + i), lanes.load(d, x + at + i));
        lanes.store(base_power, d, powers + to + i);
        lanes.store(hn::Div(hn::Mul(product, base_power), base), d, terms + after + to + i);
      });
    });
    for_each_row(tile, [&](std::int64_t at, std::int64_t to) HWY_ATTR {
      for_each_vector(d, tile.cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
        const auto sum = window_sum(d, lanes, terms + to + i, points, tile.step);
        const auto through_window = hn::Mul(hn::Mul(factor, lanes.load(d, x + at + i)), sum);
        const auto direct = lanes.load(d, powers + to + i);
        lanes.store(hn::MulAdd(lanes.load(d, dy + at + i), direct, through_window), d, dx + at + i);
      });
    });
  }
}

// Calls run with the cheapest form of base^-beta.
template <class Run>
HWY_INLINE void with_power(double beta, const Run& run) {
  if (beta == 0.75) {
    run(InversePower3Quarters{});
  } else if (beta == 0.5) {
    run(InverseSquareRoot{});
  } else if (beta == 1) {
    run(Inverse{});
  } else {
    run(InversePower{beta});
  }
}

template <class T>
void forward(const T* x, T* y, const Tile& tile, std::int64_t count, std::int64_t tile_stride,
             const Window& window, T* buffer) {
  with_power(window.beta, [&](auto power) HWY_ATTR {
    forward_tiles(x, y, tile, count, tile_stride, window, power, buffer);
  });
}

template <class T>
void backward(const T* dy, const T* x, T* dx, const Tile& tile, std::int64_t count,
              std::int64_t tile_stride, const Window& window, T* buffer) {
  with_power(window.beta, [&](auto power) HWY_ATTR {
    backward_tiles(dy, x, dx, tile, count, tile_stride, window, power, buffer);
  });
}

template <class T>
const kernels::Windows<T>* table() {
  static constexpr kernels::Windows<T> kTable = {forward<T>, backward<T>};
  return &kTable;
}
const kernels::Windows<float>* float_windows() { return table<float>(); }
const kernels::Windows<double>* double_windows() { return table<double>(); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenkeel::kernels {

HWY_EXPORT(float_windows);
HWY_EXPORT(double_windows);

template <>
const Windows<float>& windows<float>() {
  select_target_from_environment();
  return *HWY_DYNAMIC_DISPATCH(float_windows)();
}
template <>
const Windows<double>& windows<double>() {
  select_target_from_environment();
  return *HWY_DYNAMIC_DISPATCH(double_windows)();
}

}  // namespace evenkeel::kernels
#endif
