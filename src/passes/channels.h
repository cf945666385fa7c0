// Passes over the channels of an activation: the steps that BatchNorm, GroupNorm, InstanceNorm,
// input standardization and exact statistics are made of, in either memory order.
//
// `group` neighboring channels share one mean and one variance; 1, as in BatchNorm, if each channel
// has its own. GroupNorm's channels are those of one sample: there, a channel of each sample counts
// as a channel of its own, sample by sample.
//
// The pieces of partial results depend on the shape alone and are merged in a fixed order, so
// results are bitwise the same for every number of threads. Callbacks run once a group, possibly
// for several groups at once in several threads.
#pragma once

#include <cstdint>

#include "evenkeel/moments.h"
#include "evenkeel/tensor.h"
#include "src/base/function_ref.h"
#include "src/base/types.h"
#include "src/kernels/operands.h"

namespace evenkeel {

// Statistics, sums and coefficients are in Extended<T>. Sums of gradients and coefficients are
// about the mean itself; a pass rounds it for its kernels, and takes groups that leave the range of
// Wide<T> through scalar loops instead.
template <class T>
using ChannelAffine = ExactAffine<Extended<T>>;
template <class T>
using ChannelSums = BasicGradientSums<Extended<T>>;
template <class T>
using ChannelGradient = GradientAffine<Extended<T>>;

template <class T>
using VisitMoments = FunctionRef<void(std::int64_t group, const GroupMoments<Extended<T>>&)>;
// Sets the coefficients of the group's channels from its moments.
template <class T>
using AffineFromMoments = FunctionRef<void(std::int64_t group, const GroupMoments<Extended<T>>&,
                                           ChannelAffine<T>* of_channels)>;
// Sets the coefficients of the group's channels from the sums of these channels.
template <class T>
using GradientFromSums = FunctionRef<void(std::int64_t group, const ChannelSums<T>* of_channels,
                                          ChannelGradient<T>* coefficients)>;

// The passes. Those that sum and those that write may be called one by one, with anything between
// them. `normalize` and `gradients` do both, with what was summed still in cache where it fits: of
// two passes over a large tensor, the second then reads no memory.
//
// x, and all tensors of the operands, are of the shape; coefficients and sums are per channel, in
// the caller's memory.
template <class T>
class ChannelPasses {
 public:
  virtual ~ChannelPasses() = default;

  // The moments of each group.
  virtual void moments(const T* x, VisitMoments<T> visit) const = 0;
  // The forward. y may be x or the residual.
  virtual void forward(const ForwardOperands<T>& operands,
                       const ChannelAffine<T>* affine) const = 0;
  // moments, then forward with the coefficients that `affine` makes of them. eps: what is added to
  // the variance, so that far smaller variances need not be exact.
  virtual void normalize(const ForwardOperands<T>& operands, double eps,
                         AffineFromMoments<T> affine) const = 0;
  // The gradient sums of each channel, about the center of `affine`, the forward's coefficients.
  virtual void gradient_sums(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                             ChannelSums<T>* sums) const = 0;
  // dx and dresidual, where they are wanted.
  virtual void backward(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                        const ChannelGradient<T>* gradient) const = 0;
  // gradient_sums, then backward with the coefficients that `gradient` makes of the sums.
  virtual void gradients(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                         GradientFromSums<T> gradient) const = 0;
};

// Channels as planes: (N, C, S) in memory, a channel is n contiguous planes of s values.
template <class T>
class Planes final : public ChannelPasses<T> {
 public:
  Planes(std::int64_t n, std::int64_t c, std::int64_t s, std::int64_t group = 1)
      : n_(n), c_(c), s_(s), group_(group) {}

  void moments(const T* x, VisitMoments<T> visit) const override;
  void forward(const ForwardOperands<T>& operands, const ChannelAffine<T>* affine) const override;
  void normalize(const ForwardOperands<T>& operands, double eps,
                 AffineFromMoments<T> affine) const override;
  void gradient_sums(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                     ChannelSums<T>* sums) const override;
  void backward(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                const ChannelGradient<T>* gradient) const override;
  void gradients(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                 GradientFromSums<T> gradient) const override;

 private:
  std::int64_t n_, c_, s_, group_;
};

// Channels as columns of row-major matrices, (rows, channels) in memory: channels-last, and plain
// features. The channels of each matrix are channels of their own.
template <class T>
class Columns final : public ChannelPasses<T> {
 public:
  Columns(std::int64_t matrices, std::int64_t rows, std::int64_t channels, std::int64_t group = 1)
      : matrices_(matrices), rows_(rows), channels_(channels), group_(group) {}

  void moments(const T* x, VisitMoments<T> visit) const override;
  void forward(const ForwardOperands<T>& operands, const ChannelAffine<T>* affine) const override;
  void normalize(const ForwardOperands<T>& operands, double eps,
                 AffineFromMoments<T> affine) const override;
  void gradient_sums(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                     ChannelSums<T>* sums) const override;
  void backward(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                const ChannelGradient<T>* gradient) const override;
  void gradients(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                 GradientFromSums<T> gradient) const override;

 private:
  std::int64_t matrices_, rows_, channels_, group_;
};

// Channels as short planes: (N, C, S) in memory as N rows of C adjacent planes of s values.
template <class T>
class ShortPlanes final : public ChannelPasses<T> {
 public:
  ShortPlanes(std::int64_t n, std::int64_t c, std::int64_t s) : n_(n), c_(c), s_(s) {}

  void moments(const T* x, VisitMoments<T> visit) const override;
  void forward(const ForwardOperands<T>& operands, const ChannelAffine<T>* affine) const override;
  void normalize(const ForwardOperands<T>& operands, double eps,
                 AffineFromMoments<T> affine) const override;
  void gradient_sums(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                     ChannelSums<T>* sums) const override;
  void backward(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                const ChannelGradient<T>* gradient) const override;
  void gradients(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                 GradientFromSums<T> gradient) const override;

 private:
  std::int64_t n_, c_, s_;
};

// Below this many positions a plane is too short to be taken by itself: its two ends are partial
// vectors and partial lines of the cache, and the kernel's call is long beside it.
inline constexpr std::int64_t kShortestPlane = 512;

// Calls f with the passes that fit the memory of the shape, the channels being those of the whole
// batch. Does nothing for an empty shape.
template <class T>
void with_channels(const Shape& shape, FunctionRef<void(const ChannelPasses<T>&)> f) {
  if (shape.size() == 0) return;
  if (shape.c == 1) {
    f(Planes<T>(1, 1, shape.n * shape.s));
  } else if (shape.layout == Layout::channels_last || shape.s == 1) {
    f(Columns<T>(1, shape.n * shape.s, shape.c));
  } else if (shape.s < kShortestPlane) {
    f(ShortPlanes<T>(shape.n, shape.c, shape.s));
  } else {
    f(Planes<T>(shape.n, shape.c, shape.s));
  }
}

// The same with N*C channels, those of each sample, of which `group` neighbors belong together.
template <class T>
void with_sample_channels(const Shape& shape, std::int64_t group,
                          FunctionRef<void(const ChannelPasses<T>&)> f) {
  if (shape.size() == 0) return;
  if (shape.c > 1 && (shape.layout == Layout::channels_last || shape.s == 1)) {
    f(Columns<T>(shape.n, shape.s, shape.c, group));
  } else {
    f(Planes<T>(1, shape.n * shape.c, shape.s, group));
  }
}

}  // namespace evenkeel
