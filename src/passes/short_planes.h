// What the passes over short planes do with one tile: they hand its channels the coefficients as
// kernels take them, and take channels that leave the range of the kernels once more.
#pragma once

#include <cstdint>

#include "src/base/scratch.h"
#include "src/kernels/extended.h"
#include "src/kernels/range.h"
#include "src/kernels/short_planes.h"
#include "src/passes/channels.h"
#include "src/passes/checked.h"

namespace evenkeel {

// A block of rows of some channels.
struct PlaneTile {
  std::int64_t channel;  // the first
  std::int64_t offset;   // in memory
  kernels::PlaneBlock block;
  std::int64_t prefetch_distance;  // to values that are read some way on
};

// The planes of some channels of a tile, and of one.
inline kernels::PlaneBlock channels_of(const PlaneTile& tile, std::int64_t begin,
                                       std::int64_t end) {
  return {tile.block.rows, end - begin, tile.block.inner, tile.block.stride};
}
inline kernels::Piece channel_of(const PlaneTile& tile) {
  return {tile.block.rows, tile.block.inner, tile.block.stride};
}

// Operands of a tile from its channel i on.
template <class Operands>
Operands operands_of(const Operands& operands, const PlaneTile& tile, std::int64_t i,
                     std::int64_t distance = 0) {
  return operands.at(tile.offset + i * tile.block.inner, distance);
}

template <class T>
const Affine<Wide<T>>* rounded_affine(const PlaneTile& tile, const ChannelAffine<T>* affine) {
  auto* const to = scratch<Affine<Wide<T>>, Scratch::tile_affine>(tile.block.channels);
  for (std::int64_t c = 0; c < tile.block.channels; ++c) {
    to[c] = kernels::rounded<Wide<T>>(affine[tile.channel + c]);
  }
  return to;
}

template <class T>
const GradientAffine<Wide<T>>* rounded_gradient(const PlaneTile& tile,
                                                const ChannelAffine<T>* affine,
                                                const ChannelGradient<T>* gradient) {
  auto* const to = scratch<GradientAffine<Wide<T>>, Scratch::tile_gradient>(tile.block.channels);
  for (std::int64_t c = 0; c < tile.block.channels; ++c) {
    const std::int64_t channel = tile.channel + c;
    to[c] = kernels::rounded<Wide<T>>(gradient[channel], affine[channel].center);
  }
  return to;
}

template <class T>
void write_forward(const ForwardOperands<T>& operands, const PlaneTile& tile, std::int64_t distance,
                   const ChannelAffine<T>* affine) {
  const auto* const a = rounded_affine<T>(tile, affine);
  const ChannelAffine<T>* const exact = affine + tile.channel;
  for_each_fitting(
      tile.block.channels, [&](std::int64_t c) { return kernels::fits<Wide<T>>(exact[c]); },
      [&](std::int64_t begin, std::int64_t end) {
        kernels::short_planes<T>().forward(operands_of(operands, tile, begin, distance),
                                           channels_of(tile, begin, end), a + begin);
      },
      [&](std::int64_t c) {
        kernels::ExtendedRange<T>::forward(operands_of(operands, tile, c), channel_of(tile),
                                           exact[c]);
      });
}

template <class T>
void sum_moments(const T* x, const PlaneTile& tile, bool prefetches, Moments* partials) {
  kernels::short_planes<T>().moments(x + tile.offset, tile.block,
                                     prefetches ? tile.prefetch_distance : 0, partials);
}

template <class T>
void sum_gradients(const BackwardOperands<T>& operands, const PlaneTile& tile,
                   const ChannelAffine<T>* affine, GradientSums* partials) {
  kernels::short_planes<T>().gradient_sums(operands.at(tile.offset, tile.prefetch_distance),
                                           tile.block, rounded_affine<T>(tile, affine), partials);
}

template <class T>
void write_gradients(const BackwardOperands<T>& operands, const PlaneTile& tile,
                     std::int64_t distance, const ChannelAffine<T>* affine,
                     const ChannelGradient<T>* gradient) {
  const auto* const a = rounded_affine<T>(tile, affine);
  const auto* const g = rounded_gradient<T>(tile, affine, gradient);
  const ChannelAffine<T>* const of_forward = affine + tile.channel;
  const ChannelGradient<T>* const exact = gradient + tile.channel;
  for_each_fitting(
      tile.block.channels,
      [&](std::int64_t c) { return kernels::fits<Wide<T>>(exact[c], of_forward[c]); },
      [&](std::int64_t begin, std::int64_t end) {
        kernels::short_planes<T>().backward(operands_of(operands, tile, begin, distance),
                                            channels_of(tile, begin, end), a + begin, g + begin);
      },
      [&](std::int64_t c) {
        kernels::ExtendedRange<T>::backward(operands_of(operands, tile, c), channel_of(tile),
                                            of_forward[c], exact[c]);
      });
}

}  // namespace evenkeel
