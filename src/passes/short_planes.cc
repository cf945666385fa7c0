// Channel passes over planes that are too short to be taken one by one.
//
// The matrix of N rows is cut into tiles of some whole channels. A tile is taken through both
// passes at once, while it is in cache.
#include "src/passes/short_planes.h"

#include <algorithm>
#include <numeric>

#include "src/base/cache.h"
#include "src/base/parallel.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/passes/channels.h"
#include "src/passes/checked.h"

namespace evenkeel {
namespace {

struct Tiling {
  std::int64_t rows, channels, inner, bytes;  // bytes of a value
  std::int64_t tile_channels;

  Tiling(std::int64_t n, std::int64_t c, std::int64_t s, std::int64_t n_bytes)
      : rows(n), channels(c), inner(s), bytes(n_bytes) {
    // Channels whose columns make whole lines, as non-temporal stores need them.
    const std::int64_t line = kLineBytes / bytes, unit = std::lcm(line, inner) / inner;
    const std::int64_t fitting = kTileBytes / (rows * inner * bytes);
    const std::int64_t wanted = fitting >= unit                 ? fitting / unit * unit
                                : size() * bytes >= kLargeBytes ? unit
                                                                : fitting;
    tile_channels = std::clamp<std::int64_t>(wanted, 1, std::min(channels, kMaxBlockCols / inner));
  }

  std::int64_t size() const { return rows * channels * inner; }
  std::int64_t tiles() const { return ceil_div(channels, tile_channels); }
  std::int64_t blocks() const { return ceil_div(rows, kBlockRows); }
  // All values of a channel, from its first plane on.
  kernels::Piece channel() const { return {rows, inner, channels * inner}; }

  // Block `block` of the rows of tile `index`.
  PlaneTile tile(std::int64_t block, std::int64_t index) const {
    const std::int64_t row = block * kBlockRows, channel = index * tile_channels;
    const std::int64_t width = std::min(tile_channels, channels - channel);
    const std::int64_t stride = channels * inner;
    return {channel,
            width,
            inner,
            row * stride + channel * inner,
            {std::min(kBlockRows, rows - row), width * inner, stride},
            (kPrefetchBytes / (width * inner * bytes) + 1) * stride};
  }

 private:
  static constexpr std::int64_t kLineBytes = 64;
  // Values of a tile: at least two such for each of 64 threads that have 64 KB.
  static constexpr std::int64_t kTileBytes = std::int64_t{32} * 1024;
  // From here on outputs may be stored past the cache, and whole lines matter more than shares.
  static constexpr std::int64_t kLargeBytes = std::int64_t{8} << 20;
  // Most rows of a block of accumulation.
  static constexpr std::int64_t kBlockRows = 1024;
  // How far on rows are prefetched: alone, the hardware's prefetcher reaches half of the bandwidth
  // of memory when values are summed.
  static constexpr std::int64_t kPrefetchBytes = std::int64_t{32} * 1024;
};

// For each tile: sum_tile(tile, partials) sets the partial sums of its channels in a block of rows,
// those of a channel are merged in order; then finish(channel, total); then apply(tile, distance)
// for each block, `distance` being that to what the calling thread reads next, or 0.
template <class Partial, class SumTile, class Finish, class Apply>
void reduce_then_apply(const Tiling& tiling, const SumTile& sum_tile, const Finish& finish,
                       const Apply& apply) {
  const std::int64_t tiles = tiling.tiles(), blocks = tiling.blocks();
  parallel_ranges(
      tiles, threads_for(tiles, tiling.size()), [&](std::int64_t begin, std::int64_t end) {
        auto* const partials = scratch<Partial, Scratch::tile_partials>(2 * tiling.tile_channels);
        Partial* const totals = partials + tiling.tile_channels;
        for (std::int64_t index = begin; index < end; ++index) {
          const PlaneTile first = tiling.tile(0, index);
          std::fill_n(totals, first.channels, Partial());
          for (std::int64_t b = 0; b < blocks; ++b) {
            sum_tile(tiling.tile(b, index), partials);
            for (std::int64_t c = 0; c < first.channels; ++c) totals[c].merge(partials[c]);
          }
          for (std::int64_t c = 0; c < first.channels; ++c) finish(first.channel + c, totals[c]);
          const std::int64_t next = index + 1 < end ? first.block.cols : 0;
          for (std::int64_t b = 0; b < blocks; ++b) apply(tiling.tile(b, index), next);
        }
      });
}

constexpr auto kNoApply = [](const PlaneTile&, std::int64_t) {};

// Calls f(tile) for all tiles.
template <class F>
void for_each_tile(const Tiling& tiling, const F& f) {
  const std::int64_t tiles = tiling.tiles(), tasks = tiling.blocks() * tiles;
  parallel_for(tasks, threads_for(tasks, tiling.size()),
               [&](std::int64_t i) { f(tiling.tile(i / tiles, i % tiles)); });
}

}  // namespace

template <class T>
void ShortPlanes<T>::moments(const T* x, VisitMoments<T> visit) const {
  const Tiling tiling(n_, c_, s_, sizeof(T));
  const bool prefetches = exceeds_cache(tiling.size() * static_cast<std::int64_t>(sizeof(T)));
  reduce_then_apply<Moments>(
      tiling,
      [&](const PlaneTile& tile, Moments* partials) { sum_moments(x, tile, prefetches, partials); },
      [&](std::int64_t c, const Moments& m) {
        visit(c, checked_moments(x + c * s_, tiling.channel(), m, 0));
      },
      kNoApply);
}

template <class T>
void ShortPlanes<T>::forward(const ForwardOperands<T>& operands,
                             const ChannelAffine<T>* affine) const {
  for_each_tile(Tiling(n_, c_, s_, sizeof(T)), [&](const PlaneTile& tile) {
    write_forward(operands, tile, tile.prefetch_distance, affine);
  });
}

template <class T>
void ShortPlanes<T>::normalize(const ForwardOperands<T>& operands, double eps,
                               AffineFromMoments<T> affine) const {
  const Tiling tiling(n_, c_, s_, sizeof(T));
  auto* const coefficients = scratch<ChannelAffine<T>, Scratch::affine>(c_);
  reduce_then_apply<Moments>(
      tiling,
      [&](const PlaneTile& tile, Moments* partials) {
        sum_moments(operands.x, tile, operands.non_temporal, partials);
      },
      [&](std::int64_t c, const Moments& m) {
        affine(c, checked_moments(operands.x + c * s_, tiling.channel(), m, eps), coefficients + c);
      },
      [&](const PlaneTile& tile, std::int64_t distance) {
        write_forward(operands, tile, distance, coefficients);
      });
}

template <class T>
void ShortPlanes<T>::gradient_sums(const BackwardOperands<T>& operands,
                                   const ChannelAffine<T>* affine, ChannelSums<T>* sums) const {
  const Tiling tiling(n_, c_, s_, sizeof(T));
  reduce_then_apply<GradientSums>(
      tiling,
      [&](const PlaneTile& tile, GradientSums* partials) {
        sum_gradients(operands, tile, affine, partials);
      },
      [&](std::int64_t c, const GradientSums& total) {
        sums[c] = checked_sums(operands.at(c * s_), tiling.channel(), affine[c], total);
      },
      kNoApply);
}

template <class T>
void ShortPlanes<T>::backward(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                              const ChannelGradient<T>* gradient) const {
  for_each_tile(Tiling(n_, c_, s_, sizeof(T)), [&](const PlaneTile& tile) {
    write_gradients(operands, tile, tile.prefetch_distance, affine, gradient);
  });
}

template <class T>
void ShortPlanes<T>::gradients(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                               GradientFromSums<T> gradient) const {
  const Tiling tiling(n_, c_, s_, sizeof(T));
  auto* const coefficients = scratch<ChannelGradient<T>, Scratch::gradient>(c_);
  reduce_then_apply<GradientSums>(
      tiling,
      [&](const PlaneTile& tile, GradientSums* partials) {
        sum_gradients(operands, tile, affine, partials);
      },
      [&](std::int64_t c, const GradientSums& total) {
        const ChannelSums<T> sums =
            checked_sums(operands.at(c * s_), tiling.channel(), affine[c], total);
        gradient(c, &sums, coefficients + c);
      },
      [&](const PlaneTile& tile, std::int64_t distance) {
        write_gradients(operands, tile, distance, affine, coefficients);
      });
}

#define EVENKEEL_INSTANTIATE(T) template class ShortPlanes<T>;
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
