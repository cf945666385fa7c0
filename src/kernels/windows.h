// Kernels for sums over a window of channels.
//
//   base = k + alpha * sum_{window} x^2        y  = x * base^-beta
//   dx   = dy * base^-beta - 2*alpha*beta * x * sum_{mirrored window} dy * x * base^(-beta - 1)
//
// Sums are added afresh for each value, never slid: subtracting a large value that leaves the
// window would leave its rounding error behind.
#pragma once

#include <cstdint>

#include "evenkeel/tensor.h"

namespace evenkeel::kernels {

struct Window {
  std::int64_t behind, ahead;  // channels before and after the center; at most channels - 1
  double alpha, beta, k;
  std::int64_t points() const { return behind + 1 + ahead; }
};

// Where a block's values are: channel c at position i is at c * channel_stride + i * stride.
struct Positions {
  std::int64_t channels, positions, channel_stride, stride;
};

// Channels as rows: a channels x cols block, consecutive channels `stride` apart.
struct Across {
  std::int64_t channels, cols, stride;
  // Values of the buffer that a kernel needs.
  std::int64_t forward_buffer(const Window& w) const { return (w.behind + 2) * cols; }
  std::int64_t backward_buffer(const Window& w) const { return (w.points() + w.behind + 3) * cols; }
  Positions positions() const { return {channels, cols, stride, 1}; }
};

// Channels along rows: contiguous rows of `channels` values.
struct Along {
  std::int64_t rows, channels;
  std::int64_t forward_buffer(const Window& w) const { return rows * (channels + w.points() - 1); }
  std::int64_t backward_buffer(const Window& w) const {
    return 2 * forward_buffer(w) + rows * channels;
  }
  Positions positions() const { return {channels, rows, 1, channels}; }
};

// What tells whether a block was within the range of P. NaN does not count.
struct LargestInWindows {
  double base = 0;       // the largest
  double scaled_dy = 0;  // the largest magnitude of dy * base^-beta
};

template <class T, class Block>
struct Windows {
  using P = Wide<T>;
  LargestInWindows (*forward)(const T* x, T* y, Block block, Window window, P* buffer,
                              bool non_temporal);
  LargestInWindows (*backward)(const T* dy, const T* x, T* dx, Block block, Window window,
                               P* buffer, bool non_temporal);
  // The largest magnitude of x in the block. NaN may count or not.
  P (*largest)(const T* x, Block block);
};
template <class T>
using WindowsAcross = Windows<T, Across>;
template <class T>
using WindowsAlong = Windows<T, Along>;

template <class T>
const WindowsAcross<T>& windows_across();
template <class T>
const WindowsAlong<T>& windows_along();

}  // namespace evenkeel::kernels
