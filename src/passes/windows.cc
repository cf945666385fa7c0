#include "src/passes/windows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "src/base/cache.h"
#include "src/base/parallel.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/kernels/extended.h"

namespace evenkeel {
namespace {

using kernels::Across;
using kernels::Along;

// Positions of a channels-first task: for a window of 5 the kernels' buffers, 4 rows of floats
// forward and 10 backward, stay in L1 beside the rows of x.
constexpr std::int64_t kTileCols = 512;
// Values of a channels-last block: squares, terms and operands together fill a half of L1 at most.
constexpr std::int64_t kBlockValues = 512;

// Without several positions both layouts are the same memory.
bool channels_along(const Shape& shape) {
  return shape.layout == Layout::channels_last || shape.s == 1;
}

// Calls f(block, offset) for every block of a channels-first activation.
template <class T, class F>
void for_each_across(const Shape& shape, const F& f) {
  const std::int64_t tiles = ceil_div(shape.s, kTileCols);
  const auto line = static_cast<std::int64_t>(64 / sizeof(T));
  const std::int64_t cols = ceil_div(ceil_div(shape.s, line), tiles) * line;  // equal, whole lines
  const std::int64_t tasks = shape.n * tiles;
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task) {
    const std::int64_t begin = task % tiles * cols;
    if (begin >= shape.s) return;
    f(Across{shape.c, std::min(cols, shape.s - begin), shape.s},
      task / tiles * shape.c * shape.s + begin);
  });
}

// The same for channels-last.
template <class F>
void for_each_along(const Shape& shape, const F& f) {
  const std::int64_t rows = shape.n * shape.s;
  const std::int64_t block = std::max<std::int64_t>(1, kBlockValues / shape.c);
  const std::int64_t tasks = ceil_div(rows, block);
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task) {
    const std::int64_t row = task * block;
    f(Along{std::min(block, rows - row), shape.c}, row * shape.c);
  });
}

// Calls f(kernels, block, offset) for every block, in the order of the shape.
template <class T, class F>
void for_each_block(const Shape& shape, const F& f) {
  if (channels_along(shape)) {
    const auto& kernel = kernels::windows_along<T>();
    for_each_along(shape, [&](const Along& block, std::int64_t at) { f(kernel, block, at); });
  } else {
    const auto& kernel = kernels::windows_across<T>();
    for_each_across<T>(shape, [&](const Across& block, std::int64_t at) { f(kernel, block, at); });
  }
}

template <class T>
inline constexpr double kLargest = std::is_same_v<T, Float16>
                                       ? 65504
                                       : std::numeric_limits<double>::infinity();

// The magnitudes for which base = k + alpha * sum x^2, base^-beta and dy * base^-beta keep their
// digits in P.
struct FittingMagnitudes {
  double least = 0, most;  // of values of x that are not 0
  double most_dy;

  template <class T>
  static FittingMagnitudes of(const kernels::Window& window) {
    constexpr double exponent = std::is_same_v<Wide<T>, double> ? 900 : 100;
    // Base and power stay below 2^exponent in magnitude, and above 2^-exponent.
    const double bound = std::exp2(exponent / std::max(1.0, std::abs(window.beta)));
    const double alpha = std::abs(window.alpha);
    const auto points = static_cast<double>(window.points());
    const bool by_k = window.k >= 1 / bound;  // k alone keeps the base from being too small
    FittingMagnitudes fitting;
    fitting.most =
        std::sqrt(std::max(0.0, bound - std::abs(window.k)) / points / std::max(alpha, 1.0));
    if (!by_k) fitting.least = 1 / std::sqrt(bound * std::min(alpha, 1.0));
    const double largest_power =
        by_k && window.beta > 0 ? std::pow(window.k, -window.beta) : std::exp2(exponent);
    fitting.most_dy = std::exp2(1.1 * exponent) / std::max(1.0, largest_power);
    return fitting;
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

// Whether all of a block is at most `most`.
template <class T, class Kernel, class Block>
bool is_at_most(double most, const Kernel& kernel, const T* values, const Block& block) {
  return most >= kLargest<T> || !(static_cast<double>(kernel.largest(values, block)) > most);
}

// Whether the kernels may take a block.
template <class T, class Kernel, class Block>
bool fits(const FittingMagnitudes& fitting, const Kernel& kernel, const T* x, const Block& block) {
  return is_at_most(fitting.most, kernel, x, block) &&
         (fitting.least == 0 || !any_below(x, block.positions(), fitting.least));
}

}  // namespace

template <class T>
void forward_windows(const Shape& shape, const T* x, T* y, const kernels::Window& window) {
  const bool non_temporal = exceeds_cache(2 * bytes_of<T>(shape));
  const auto fitting = FittingMagnitudes::of<T>(window);
  for_each_block<T>(shape, [&](const auto& kernel, const auto& block, std::int64_t at) {
    if (!fits(fitting, kernel, x + at, block)) {
      kernels::ExtendedRange<T>::window_forward(x + at, y + at, block.positions(), window);
      return;
    }
    auto* const buffer = scratch<Wide<T>, Scratch::window>(block.forward_buffer(window));
    kernel.forward(x + at, y + at, block, window, buffer, non_temporal);
  });
}

template <class T>
void backward_windows(const Shape& shape, const T* dy, const T* x, T* dx,
                      const kernels::Window& window) {
  const bool non_temporal = exceeds_cache(3 * bytes_of<T>(shape));
  const auto fitting = FittingMagnitudes::of<T>(window);
  for_each_block<T>(shape, [&](const auto& kernel, const auto& block, std::int64_t at) {
    if (!fits(fitting, kernel, x + at, block) ||
        !is_at_most(fitting.most_dy, kernel, dy + at, block)) {
      kernels::ExtendedRange<T>::window_backward(dy + at, x + at, dx + at, block.positions(),
                                                 window);
      return;
    }
    auto* const buffer = scratch<Wide<T>, Scratch::window>(block.backward_buffer(window));
    kernel.backward(dy + at, x + at, dx + at, block, window, buffer, non_temporal);
  });
}

#define EVENKEEL_INSTANTIATE(T)                                                      \
  template void forward_windows(const Shape&, const T*, T*, const kernels::Window&); \
  template void backward_windows(const Shape&, const T*, const T*, T*, const kernels::Window&);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
