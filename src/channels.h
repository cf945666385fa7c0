// Passes over the channels of an activation: the steps that BatchNorm, input standardization and
// exact statistics are made of, in either memory order.
//
// Work is cut by shape alone and partial results are merged in a fixed order, so results are
// bitwise the same for every number of threads. Callbacks run once a channel, possibly for several
// channels at once in several threads.
#pragma once

#include <cstdint>

#include "evenkeel/moments.h"
#include "evenkeel/tensor.h"
#include "src/coefficients.h"
#include "src/function_ref.h"

namespace evenkeel {

using VisitMoments = FunctionRef<void(std::int64_t channel, const Moments&)>;
template <class T>
using AffineOf = FunctionRef<Affine<Stat<T>>(std::int64_t channel)>;
template <class T>
using AffineFromMoments = FunctionRef<Affine<Stat<T>>(std::int64_t channel, const Moments&)>;
template <class T>
using GradientFromSums =
    FunctionRef<GradientAffine<Stat<T>>(std::int64_t channel, const GradientSums&)>;

// Channels as planes: (N, C, S) in memory, a channel is n contiguous runs of s values.
template <class T>
struct PlaneChannels {
  std::int64_t n, c, s;

  // The moments of each channel.
  void moments(const T* x, VisitMoments visit) const;
  // The forward pass, with given coefficients. y may be x or the residual.
  void forward(const ForwardPass<T>& pass, AffineOf<T> affine) const;
  // The same, with coefficients from the moments of the channel.
  void normalize(const ForwardPass<T>& pass, AffineFromMoments<T> affine) const;
  // The gradient sums of each channel about the center of `affine`, the coefficients of the
  // forward; then the backward pass with what `gradient` makes of them.
  void gradients(const BackwardPass<T>& pass, AffineOf<T> affine,
                 GradientFromSums<T> gradient) const;
};

// Channels as columns of a row-major matrix: `inner` adjacent columns are a channel. inner is 1 for
// (rows, channels) in memory, which is channels-last and plain features; it is s for (n, channels,
// s) in memory. Same passes.
template <class T>
struct ColumnChannels {
  std::int64_t rows, channels, inner;

  void moments(const T* x, VisitMoments visit) const;
  void forward(const ForwardPass<T>& pass, AffineOf<T> affine) const;
  void normalize(const ForwardPass<T>& pass, AffineFromMoments<T> affine) const;
  void gradients(const BackwardPass<T>& pass, AffineOf<T> affine,
                 GradientFromSums<T> gradient) const;
};

// Below this many positions a plane is too short a run: its two ends are parts of vectors and of
// lines of memory.
inline constexpr std::int64_t kShortestRun = 512;

// Calls f with the passes that fit the memory of the shape. Nothing to do for an empty shape.
template <class T, class F>
void with_channels(const Shape& shape, const F& f) {
  if (shape.size() == 0) return;
  if (shape.c == 1) {
    f(PlaneChannels<T>{1, 1, shape.n * shape.s});
  } else if (shape.layout == Layout::channels_last || shape.s == 1) {
    f(ColumnChannels<T>{shape.n * shape.s, shape.c, 1});
  } else if (shape.s < kShortestRun) {
    f(ColumnChannels<T>{shape.n, shape.c, shape.s});
  } else {
    f(PlaneChannels<T>{shape.n, shape.c, shape.s});
  }
}

}  // namespace evenkeel
