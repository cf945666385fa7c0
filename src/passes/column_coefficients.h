// What the passes over columns sum and write with: the coefficients of all channels, exact, and per
// column as the kernels take them.
#pragma once

#include <atomic>
#include <cstdint>

#include "src/base/cache.h"
#include "src/base/scratch.h"
#include "src/kernels/columns.h"
#include "src/kernels/extended.h"
#include "src/kernels/range.h"
#include "src/passes/channels.h"
#include "src/passes/checked.h"
#include "src/passes/cut.h"

namespace evenkeel {

template <class T>
std::int64_t prefetch_distance(const kernels::Block& block) {
  constexpr std::int64_t kPrefetched = kPrefetchBytes / sizeof(T);
  return (kPrefetched / block.cols + 1) * block.stride;
}

// Some neighboring channels of a matrix.
struct Stretch {
  std::int64_t matrix, channel, channels;
};

// Three coefficients of each column of some matrices, from `first` on, in separate arrays.
template <class P>
class ColumnArrays {
 public:
  ColumnArrays(const Cut& cut, P* memory, std::int64_t first, std::int64_t matrices)
      : cut_(cut), memory_(memory), first_(first), size_(matrices * cut.cols()) {}

  void set(std::int64_t matrix, std::int64_t channel, P first, P second, P third) {
    P* to = memory_ + (matrix - first_) * cut_.cols() + channel;
    for (std::int64_t f = 0; f < cut_.folds; ++f, to += cut_.channels) {
      to[0] = first;
      to[size_] = second;
      to[2 * size_] = third;
    }
  }
  template <class Columns>
  Columns at(std::int64_t matrix, std::int64_t col) const {
    const P* const from = memory_ + (matrix - first_) * cut_.cols() + col;
    return {from, from + size_, from + 2 * size_};
  }

 private:
  const Cut& cut_;
  P* memory_;
  std::int64_t first_, size_;
};
template <class P, Scratch purpose>
ColumnArrays<P> column_arrays(const Cut& cut, std::int64_t first, std::int64_t matrices) {
  return {cut, scratch<P, purpose>(3 * matrices * cut.cols()), first, matrices};
}

// Some columns of a tile, and one of them.
inline kernels::Block columns_of(const Tile& tile, std::int64_t begin, std::int64_t end) {
  return {tile.block.rows, end - begin, tile.block.stride};
}
inline kernels::Piece column_of(const Tile& tile) {
  return {tile.block.rows, 1, tile.block.stride};
}

// What a forward of some matrices writes with: the coefficients of all channels, exact and as
// kernels take them.
template <class T>
class ForwardColumns {
 public:
  using P = Wide<T>;
  ForwardColumns(const Cut& cut, std::int64_t first, std::int64_t matrices,
                 const ForwardOperands<T>& operands, const ChannelAffine<T>* affine)
      : cut_(cut),
        operands_(operands),
        affine_(affine),
        columns_(column_arrays<P, Scratch::affine_columns>(cut, first, matrices)) {}

  // Takes the exact coefficients of a stretch.
  void take(const Stretch& stretch) {
    const ChannelAffine<T>* const exact = of_matrix(stretch.matrix);
    bool all = true;
    for (std::int64_t c = stretch.channel; c < stretch.channel + stretch.channels; ++c) {
      const Affine<P> a = kernels::rounded<P>(exact[c]);
      columns_.set(stretch.matrix, c, a.center, a.scale, a.offset);
      all = all && kernels::fits<P>(exact[c]);
    }
    if (!all) all_fit_ = false;
  }
  void write(std::int64_t matrix, const Tile& tile, std::int64_t distance) const {
    const auto& kernel = kernels::columns<T>();
    const auto a = columns_.template at<kernels::AffineColumns<P>>(matrix, tile.col);
    const std::int64_t offset = matrix * cut_.size() + tile.offset;
    if (all_fit_) return kernel.forward(operands_.at(offset, distance), tile.block, a);
    const ChannelAffine<T>* const exact = of_matrix(matrix);
    const auto of_column = [&](std::int64_t i) -> const ChannelAffine<T>& {
      return exact[(tile.col + i) % cut_.channels];
    };
    for_each_fitting(
        tile.block.cols, [&](std::int64_t i) { return kernels::fits<P>(of_column(i)); },
        [&](std::int64_t begin, std::int64_t end) {
          kernel.forward(operands_.at(offset + begin, distance), columns_of(tile, begin, end),
                         a.from(begin));
        },
        [&](std::int64_t i) {
          kernels::ExtendedRange<T>::forward(operands_.at(offset + i), column_of(tile),
                                             of_column(i));
        });
  }

 private:
  const ChannelAffine<T>* of_matrix(std::int64_t matrix) const {
    return affine_ + matrix * cut_.channels;
  }

  const Cut& cut_;
  const ForwardOperands<T>& operands_;
  const ChannelAffine<T>* affine_;
  ColumnArrays<P> columns_;
  std::atomic<bool> all_fit_ = true;
};

// And a backward, which also sums.
template <class T>
class BackwardColumns {
 public:
  using P = Wide<T>;
  BackwardColumns(const Cut& cut, std::int64_t first, std::int64_t matrices,
                  const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                  const ChannelGradient<T>* gradient)
      : cut_(cut),
        operands_(operands),
        affine_(affine),
        gradient_(gradient),
        affine_columns_(column_arrays<P, Scratch::affine_columns>(cut, first, matrices)),
        gradient_columns_(column_arrays<P, Scratch::gradient_columns>(cut, first, matrices)) {}

  void take_affine(const Stretch& stretch) {
    const ChannelAffine<T>* const exact = affine_ + stretch.matrix * cut_.channels;
    for (std::int64_t c = stretch.channel; c < stretch.channel + stretch.channels; ++c) {
      const Affine<P> a = kernels::rounded<P>(exact[c]);
      affine_columns_.set(stretch.matrix, c, a.center, a.scale, a.offset);
    }
  }
  void take_gradient(const Stretch& stretch) {
    const ChannelAffine<T>* const affine = affine_ + stretch.matrix * cut_.channels;
    const ChannelGradient<T>* const exact = gradient_ + stretch.matrix * cut_.channels;
    bool all = true;
    for (std::int64_t c = stretch.channel; c < stretch.channel + stretch.channels; ++c) {
      const GradientAffine<P> g = kernels::rounded<P>(exact[c], affine[c].center);
      gradient_columns_.set(stretch.matrix, c, g.dy_scale, g.x_scale, g.offset);
      all = all && kernels::fits<P>(exact[c], affine[c]);
    }
    if (!all) all_fit_ = false;
  }

  void sum(std::int64_t matrix, const Tile& tile, kernels::StatisticColumns out) const {
    kernels::columns<T>().gradient_sums(
        operands_.at(matrix * cut_.size() + tile.offset, prefetch_distance<T>(tile.block)),
        tile.block, affine_at(matrix, tile.col), out.first, out.second);
  }
  // The sums of channel c, of what the kernels summed.
  ChannelSums<T> sums_of(std::int64_t matrix, std::int64_t c, const GradientSums& sums) const {
    const kernels::Piece channel = {cut_.size() / cut_.channels, 1, cut_.channels};
    return checked_sums(operands_.at(matrix * cut_.size() + c), channel,
                        affine_[matrix * cut_.channels + c], sums);
  }
  void write(std::int64_t matrix, const Tile& tile, std::int64_t distance) const {
    const auto& kernel = kernels::columns<T>();
    const auto a = affine_at(matrix, tile.col);
    const auto g = gradient_columns_.template at<kernels::GradientColumns<P>>(matrix, tile.col);
    const std::int64_t offset = matrix * cut_.size() + tile.offset;
    if (all_fit_) return kernel.backward(operands_.at(offset, distance), tile.block, a, g);
    const ChannelAffine<T>* const affine = affine_ + matrix * cut_.channels;
    const ChannelGradient<T>* const gradient = gradient_ + matrix * cut_.channels;
    const auto channel = [&](std::int64_t i) { return (tile.col + i) % cut_.channels; };
    for_each_fitting(
        tile.block.cols,
        [&](std::int64_t i) { return kernels::fits<P>(gradient[channel(i)], affine[channel(i)]); },
        [&](std::int64_t begin, std::int64_t end) {
          kernel.backward(operands_.at(offset + begin, distance), columns_of(tile, begin, end),
                          a.from(begin), g.from(begin));
        },
        [&](std::int64_t i) {
          kernels::ExtendedRange<T>::backward(operands_.at(offset + i), column_of(tile),
                                              affine[channel(i)], gradient[channel(i)]);
        });
  }

 private:
  kernels::AffineColumns<P> affine_at(std::int64_t matrix, std::int64_t col) const {
    return affine_columns_.template at<kernels::AffineColumns<P>>(matrix, col);
  }

  const Cut& cut_;
  const BackwardOperands<T>& operands_;
  const ChannelAffine<T>* affine_;
  const ChannelGradient<T>* gradient_;
  ColumnArrays<P> affine_columns_, gradient_columns_;
  std::atomic<bool> all_fit_ = true;
};

}  // namespace evenkeel
