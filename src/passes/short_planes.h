// Short planes as stretches of adjacent columns. What the passes do with one tile of them: they
// hand its columns the coefficients of their channels, call the kernels for columns, and add up the
// sums of a channel's columns.
#pragma once

#include <array>
#include <cstdint>

#include "src/base/scratch.h"
#include "src/kernels/columns.h"
#include "src/kernels/extended.h"
#include "src/kernels/range.h"
#include "src/passes/channels.h"

namespace evenkeel {

using kernels::kMaxBlockCols;

// A block of rows of some whole channels, each of which is `inner` adjacent columns.
struct PlaneTile {
  std::int64_t channel, channels;  // the first channel, and how many
  std::int64_t inner;
  std::int64_t offset;  // in memory
  kernels::Block block;
  std::int64_t prefetch_distance;  // to a row some way on

  double values_per_channel() const { return static_cast<double>(block.rows * inner); }
};

// Writes each channel's values to all of its columns in the tile: value i to array i. The arrays
// are kMaxBlockCols apart.
template <int arrays, class P, class ValuesOf>
void spread(const PlaneTile& tile, P* to, const ValuesOf& values_of) {
  for (std::int64_t c = 0; c < tile.channels; ++c) {
    const std::array<P, arrays> values = values_of(c);
    for (std::size_t i = 0; i < arrays; ++i) {
      P* const first = to + static_cast<std::int64_t>(i) * kMaxBlockCols + c * tile.inner;
      first[0] = values[i];
      for (std::int64_t j = 1; j < tile.inner; ++j) first[j] = values[i];
    }
  }
}

// Four sums side by side: neither their rounding errors nor the latency of addition add up.
inline double sum_of(const double* values, std::int64_t count) {
  double sums[4] = {};
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int j = 0; j < 4; ++j) sums[j] += values[i + j];
  }
  for (; i < count; ++i) sums[0] += values[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Arrays with a value per column of a tile: scratch memory of the calling thread.
template <class P, Scratch purpose>
P* tile_columns(int arrays) {
  return scratch<P, purpose>(arrays * kMaxBlockCols);
}

template <class T>
void sum_moments(const T* x, const PlaneTile& tile, bool prefetches, Moments* partials) {
  using P = Wide<T>;
  const auto& kernel = kernels::columns<T>();
  P* const column_mean = tile_columns<P, Scratch::tile_pivots>(3);
  P* const column_pivot = column_mean + kMaxBlockCols;
  P* const pivot = column_pivot + kMaxBlockCols;
  double* const sum = tile_columns<double, Scratch::tile_sums>(2);
  double* const squares = sum + kMaxBlockCols;

  kernel.pivots(x + tile.offset, tile.block, column_mean);
  // One pivot for all columns of a channel: their mean, from differences to the first, so that
  // equal values have exactly their mean.
  for (std::int64_t c = 0; c < tile.channels; ++c) {
    const P* const means = column_mean + c * tile.inner;
    P differences{0};
    for (std::int64_t i = 0; i < tile.inner; ++i) differences += means[i] - means[0];
    pivot[c] = means[0] + differences / static_cast<P>(tile.inner);
  }
  spread<1>(tile, column_pivot, [&](std::int64_t c) { return std::array{pivot[c]}; });
  kernel.sums(x + tile.offset, tile.block, prefetches ? tile.prefetch_distance : 0, column_pivot,
              sum, squares);

  for (std::int64_t c = 0; c < tile.channels; ++c) {
    const std::int64_t column = c * tile.inner;
    partials[c] =
        moments_of_sums(tile.values_per_channel(), static_cast<double>(pivot[c]),
                        sum_of(sum + column, tile.inner), sum_of(squares + column, tile.inner));
  }
}

template <class T>
kernels::AffineColumns<Wide<T>> spread_affine(const PlaneTile& tile,
                                              const ChannelAffine<T>* affine) {
  using P = Wide<T>;
  auto* const to = tile_columns<P, Scratch::tile_affine>(3);
  spread<3>(tile, to, [&](std::int64_t c) {
    const Affine<P> a = kernels::rounded<P>(affine[tile.channel + c]);
    return std::array{a.center, a.scale, a.offset};
  });
  return {to, to + kMaxBlockCols, to + 2 * kMaxBlockCols};
}

template <class T>
kernels::GradientColumns<Wide<T>> spread_gradient(const PlaneTile& tile,
                                                  const ChannelAffine<T>* affine,
                                                  const ChannelGradient<T>* gradient) {
  using P = Wide<T>;
  auto* const to = tile_columns<P, Scratch::tile_gradient>(3);
  spread<3>(tile, to, [&](std::int64_t c) {
    const std::int64_t channel = tile.channel + c;
    const GradientAffine<P> g = kernels::rounded<P>(gradient[channel], affine[channel].center);
    return std::array{g.dy_scale, g.x_scale, g.offset};
  });
  return {to, to + kMaxBlockCols, to + 2 * kMaxBlockCols};
}

// Calls by_kernel(offset, block, first column) for the tile, if fits(channel) is true for all of
// its channels; else for each stretch of columns that fit, and extended(channel, offset, piece) for
// the others.
template <class Fits, class ByKernel, class ByExtended>
void for_each_fitting(const PlaneTile& tile, const Fits& fits, const ByKernel& by_kernel,
                      const ByExtended& extended) {
  bool all = true;
  for (std::int64_t c = 0; c < tile.channels; ++c) all = all && fits(tile.channel + c);
  if (all) {
    by_kernel(tile.offset, tile.block, 0);
    return;
  }
  std::int64_t begin = 0;
  const auto flush = [&](std::int64_t end) {
    if (begin == end) return;
    by_kernel(tile.offset + begin, kernels::Block{tile.block.rows, end - begin, tile.block.stride},
              begin);
  };
  for (std::int64_t c = 0; c < tile.channels; ++c) {
    if (fits(tile.channel + c)) continue;
    const std::int64_t column = c * tile.inner;
    flush(column);
    begin = column + tile.inner;
    extended(tile.channel + c, tile.offset + column,
             kernels::Piece{tile.block.rows, tile.inner, tile.block.stride});
  }
  flush(tile.block.cols);
}

template <class T>
void write_forward(const ForwardOperands<T>& operands, const PlaneTile& tile, std::int64_t distance,
                   const ChannelAffine<T>* affine) {
  const auto a = spread_affine<T>(tile, affine);
  for_each_fitting(
      tile, [&](std::int64_t c) { return kernels::fits<Wide<T>>(affine[c]); },
      [&](std::int64_t offset, const kernels::Block& block, std::int64_t i) {
        kernels::columns<T>().forward(operands.at(offset, distance), block, a.from(i));
      },
      [&](std::int64_t c, std::int64_t offset, const kernels::Piece& piece) {
        kernels::ExtendedRange<T>::forward(operands.at(offset), piece, affine[c]);
      });
}

template <class T>
void sum_gradients(const BackwardOperands<T>& operands, const PlaneTile& tile,
                   const ChannelAffine<T>* affine, GradientSums* partials) {
  double* const dy_sum = tile_columns<double, Scratch::tile_sums>(2);
  double* const dy_x_sum = dy_sum + kMaxBlockCols;
  kernels::columns<T>().gradient_sums(operands.at(tile.offset, tile.prefetch_distance), tile.block,
                                      spread_affine<T>(tile, affine), dy_sum, dy_x_sum);
  for (std::int64_t c = 0; c < tile.channels; ++c) {
    const std::int64_t column = c * tile.inner;
    partials[c] = {sum_of(dy_sum + column, tile.inner), sum_of(dy_x_sum + column, tile.inner)};
  }
}

template <class T>
void write_gradients(const BackwardOperands<T>& operands, const PlaneTile& tile,
                     std::int64_t distance, const ChannelAffine<T>* affine,
                     const ChannelGradient<T>* gradient) {
  using P = Wide<T>;
  const auto a = spread_affine<T>(tile, affine);
  const auto g = spread_gradient<T>(tile, affine, gradient);
  for_each_fitting(
      tile, [&](std::int64_t c) { return kernels::fits<P>(gradient[c], affine[c]); },
      [&](std::int64_t offset, const kernels::Block& block, std::int64_t i) {
        kernels::columns<T>().backward(operands.at(offset, distance), block, a.from(i), g.from(i));
      },
      [&](std::int64_t c, std::int64_t offset, const kernels::Piece& piece) {
        kernels::ExtendedRange<T>::backward(operands.at(offset), piece, affine[c], gradient[c]);
      });
}

}  // namespace evenkeel
