#include "src/passes/windows.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "src/base/cache.h"
#include "src/base/parallel.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/kernels/extended.h"
#include "src/kernels/range.h"

namespace evenkeel {
namespace {

using kernels::Across;
using kernels::Along;

// Positions that a kernel takes at once channels-first: for a window of 5 the kernels' buffers, 4
// rows of floats forward and 10 backward, stay in L1 beside the rows of x.
constexpr std::int64_t kTileCols = 512;
// Values of a channels-last block: squares, terms and operands together fill a half of L1 at most.
constexpr std::int64_t kBlockValues = 512;

// Without several positions both layouts are the same memory.
bool channels_along(const Shape& shape) {
  return shape.layout == Layout::channels_last || shape.s == 1;
}

// The smallest blocks, whose size depends on the shape alone: what leaves the range of P is taken
// again by such blocks, so that no neighbor's result depends on the number of threads. A line of
// positions across, some rows along.
template <class T>
struct Blocks {
  static constexpr auto kLine = static_cast<std::int64_t>(64 / sizeof(T));
  Shape shape;
  bool along = channels_along(shape);
  std::int64_t rows = std::max<std::int64_t>(1, kBlockValues / shape.c);  // of a block along
  std::int64_t of_sample = along ? ceil_div(shape.n * shape.s, rows) : ceil_div(shape.s, kLine);
  std::int64_t count = along ? of_sample : shape.n * of_sample;
  // Blocks that a kernel takes at once; across, they are of one sample.
  std::int64_t most = along ? 1 : kTileCols / kLine;

  std::int64_t offset(std::int64_t i) const {
    if (along) return i * rows * shape.c;
    return i / of_sample * shape.c * shape.s + i % of_sample * kLine;
  }
  Along block_along(std::int64_t i) const {
    return {std::min(rows, shape.n * shape.s - i * rows), shape.c};
  }
  Across block_across(std::int64_t i, std::int64_t n) const {
    return {shape.c, std::min(n * kLine, shape.s - i % of_sample * kLine), shape.s};
  }
};

// Calls f(kernels, block, offset, whether it is a smallest one) for all blocks. Each thread has its
// equal share of them, and takes some neighboring ones at once; if f returns false for those, each
// by itself.
template <class T, class F>
void for_each_block(const Shape& shape, const F& f) {
  const Blocks<T> blocks{shape};
  const auto take = [&](std::int64_t i, std::int64_t n) {
    return blocks.along
               ? f(kernels::windows_along<T>(), blocks.block_along(i), blocks.offset(i), n == 1)
               : f(kernels::windows_across<T>(), blocks.block_across(i, n), blocks.offset(i),
                   n == 1);
  };
  const auto take_range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t left = std::min(end - i, blocks.of_sample - i % blocks.of_sample);
      const std::int64_t n = ceil_div(left, ceil_div(left, blocks.most));  // of equal size
      if (!take(i, n)) {
        for (std::int64_t k = 0; k < n; ++k) take(i + k, 1);
      }
      i += n;
    }
  };
  parallel_ranges(blocks.count, threads_for(blocks.count, shape.size()), take_range);
}

// The bounds within which base = k + alpha * sum x^2, base^-beta and dy * base^-beta keep their
// digits in P.
struct WindowRange {
  double most_base;    // then its power, too, is neither too large nor too small
  double least_x;      // of values that are not 0; 0 if k keeps the base from being too small
  double most_x;       // then no base is above most_base
  double most_scaled;  // of dy * base^-beta
  double most_dy;      // then none is above most_scaled

  template <class P>
  static WindowRange of(const kernels::Window& window) {
    constexpr double exponent = std::is_same_v<P, double> ? 900 : 100;
    const double most_base = std::exp2(exponent / std::max(1.0, std::abs(window.beta)));
    const double alpha = std::abs(window.alpha);
    const auto points = static_cast<double>(window.points());
    const bool by_k = window.k >= 1 / most_base && alpha <= window.k * std::exp2(exponent);
    const double largest_power =
        by_k && window.beta > 0 ? std::pow(window.k, -window.beta) : std::exp2(exponent);
    const double least_x = by_k ? 0 : 1 / std::sqrt(most_base * std::min(alpha, 1.0));
    // x / base, by which dy * base^-beta is multiplied, and of which some are added up.
    const double most_share = by_k ? 1 / (2 * std::sqrt(alpha * window.k)) : 1 / (alpha * least_x);
    const double most_scaled = std::exp2(1.1 * exponent) / std::max(1.0, points * most_share);
    const double factor = 2 * alpha * std::abs(window.beta);
    const auto of_type = [](double v) {
      return v >= kernels::Range<P>::least_scale && v <= kernels::Range<P>::most;
    };
    // No block fits if the options themselves do not.
    if (!of_type(alpha) || !of_type(factor) || std::abs(window.k) > kernels::Range<P>::most) {
      return {-1, 0, -1, -1, -1};
    }
    return {.most_base = most_base,
            .least_x = least_x,
            .most_x = std::sqrt(std::max(0.0, most_base - std::abs(window.k)) / points /
                                std::max(alpha, 1.0)),
            .most_scaled = most_scaled,
            .most_dy = most_scaled / std::max(1.0, largest_power)};
  }

  bool holds(const kernels::LargestInWindows& largest) const {
    return largest.base <= most_base && largest.scaled_dy <= most_scaled;
  }
};

template <class T>
bool any_below(const T* x, const kernels::Positions& block, double least) {
  for (std::int64_t c = 0; c < block.channels; ++c) {
    for (std::int64_t i = 0; i < block.positions; ++i) {
      const auto v = static_cast<Wide<T>>(x[c * block.channel_stride + i * block.stride]);
      if (v != 0 && std::abs(v) < least) return true;
    }
  }
  return false;
}

template <class T, class Kernel, class Block>
bool is_at_most(double most, const Kernel& kernel, const T* values, const Block& block) {
  return !(static_cast<double>(kernel.largest(values, block)) > most);
}

}  // namespace

// Whether a kernel's block was within the range of P shows when it is done, and if not it is taken
// again. A block that is written over its input must be looked at beforehand: channels-first, where
// it passes through the cache twice, that took 1.0 to 1.4 times as long.
template <class T>
void forward_windows(const Shape& shape, const T* x, T* y, const kernels::Window& window) {
  const bool non_temporal = exceeds_cache(2 * bytes_of<T>(shape)), in_place = x == y;
  const auto range = WindowRange::of<Wide<T>>(window);
  for_each_block<T>(shape, [&](const auto& kernel, const auto& block, std::int64_t at,
                               bool is_smallest) {
    auto* const buffer = scratch<Wide<T>, Scratch::window>(block.forward_buffer(window));
    const bool fits =
        (range.least_x == 0 || !any_below(x + at, block.positions(), range.least_x)) &&
        (!in_place || is_at_most(range.most_x, kernel, x + at, block));
    if (fits && (range.holds(kernel.forward(x + at, y + at, block, window, buffer, non_temporal)) ||
                 in_place)) {
      return true;
    }
    if (is_smallest) {
      kernels::ExtendedRange<T>::window_forward(x + at, y + at, block.positions(), window);
    }
    return is_smallest;
  });
}

template <class T>
void backward_windows(const Shape& shape, const T* dy, const T* x, T* dx,
                      const kernels::Window& window) {
  const bool non_temporal = exceeds_cache(3 * bytes_of<T>(shape)), in_place = dx == dy;
  const auto range = WindowRange::of<Wide<T>>(window);
  for_each_block<T>(
      shape, [&](const auto& kernel, const auto& block, std::int64_t at, bool is_smallest) {
        auto* const buffer = scratch<Wide<T>, Scratch::window>(block.backward_buffer(window));
        const bool fits =
            (range.least_x == 0 || !any_below(x + at, block.positions(), range.least_x)) &&
            (!in_place || (is_at_most(range.most_x, kernel, x + at, block) &&
                           is_at_most(range.most_dy, kernel, dy + at, block)));
        if (fits && (range.holds(kernel.backward(dy + at, x + at, dx + at, block, window, buffer,
                                                 non_temporal)) ||
                     in_place)) {
          return true;
        }
        if (is_smallest) {
          kernels::ExtendedRange<T>::window_backward(dy + at, x + at, dx + at, block.positions(),
                                                     window);
        }
        return is_smallest;
      });
}

#define EVENKEEL_INSTANTIATE(T)                                                      \
  template void forward_windows(const Shape&, const T*, T*, const kernels::Window&); \
  template void backward_windows(const Shape&, const T*, const T*, T*, const kernels::Window&);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
