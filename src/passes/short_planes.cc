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
    // If possible, channels whose planes in a row make whole lines.
    const std::int64_t line = kLineBytes / bytes, unit = std::lcm(line, inner) / inner;
    const std::int64_t cols = std::min(kTileBytes / (rows * bytes), kernels::kMaxRowValues);
    const std::int64_t fitting =
        std::clamp<std::int64_t>(cols / inner, 1, kernels::kMaxPlaneChannels);
    tile_channels = fitting >= unit ? fitting / unit * unit : fitting;
  }

  std::int64_t size() const { return rows * channels * inner; }
  std::int64_t blocks() const { return ceil_div(rows, kBlockRows); }
  // All values of a channel, from its first plane on.
  kernels::Piece channel() const { return {rows, inner, channels * inner}; }

  // Block `block` of the rows of some channels.
  PlaneTile tile(std::int64_t block, std::int64_t channel, std::int64_t width) const {
    const std::int64_t row = block * kBlockRows, stride = channels * inner;
    return {channel,
            row * stride + channel * inner,
            {std::min(kBlockRows, rows - row), width, inner, stride},
            (kPrefetchBytes / (width * inner * bytes) + 1) * stride};
  }

 private:
  static constexpr std::int64_t kLineBytes = 64;
  // A tile up to this size is still in L2 when it is read again.
  static constexpr std::int64_t kTileBytes = std::int64_t{512} * 1024;
  static constexpr std::int64_t kBlockRows = kernels::kMaxPivotRows;
};

// Calls f(first channel, channels, is_last) for the tiles of all channels, is_last if the calling
// thread takes none after it. Each thread has its equal share of the channels, which do not depend
// on each other. Tiles meet at multiples of their size, so that all but a thread's first and last
// have whole lines.
template <class F>
void for_each_tile(const Tiling& tiling, const F& f) {
  const std::int64_t channels = tiling.channels, most = tiling.tile_channels;
  parallel_ranges(channels, threads_for(channels, tiling.size()),
                  [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t c = begin; c < end;) {
                      const std::int64_t next = std::min(end, (c / most + 1) * most);
                      f(c, next - c, next == end);
                      c = next;
                    }
                  });
}

// For each tile: sum_tile(tile, partials) sets the partial sums of its channels in a block of rows,
// those of a channel are merged in order; then finish(channel, total); then apply(tile, distance)
// for each block, `distance` being that to what the calling thread reads next, or 0.
template <class Partial, class SumTile, class Finish, class Apply>
void reduce_then_apply(const Tiling& tiling, const SumTile& sum_tile, const Finish& finish,
                       const Apply& apply) {
  const std::int64_t blocks = tiling.blocks();
  for_each_tile(tiling, [&](std::int64_t first, std::int64_t channels, bool is_last) {
    auto* const partials = scratch<Partial, Scratch::tile_partials>(2 * channels);
    Partial* const totals = partials + channels;
    sum_tile(tiling.tile(0, first, channels), totals);
    for (std::int64_t b = 1; b < blocks; ++b) {
      sum_tile(tiling.tile(b, first, channels), partials);
      for (std::int64_t c = 0; c < channels; ++c) totals[c].merge(partials[c]);
    }
    for (std::int64_t c = 0; c < channels; ++c) finish(first + c, totals[c]);
    const std::int64_t next = is_last ? 0 : channels * tiling.inner;
    for (std::int64_t b = 0; b < blocks; ++b) apply(tiling.tile(b, first, channels), next);
  });
}

constexpr auto kNoApply = [](const PlaneTile&, std::int64_t) {};

// Calls f(tile) for all blocks of all tiles.
template <class F>
void for_each_block(const Tiling& tiling, const F& f) {
  for_each_tile(tiling, [&](std::int64_t first, std::int64_t channels, bool /*is_last*/) {
    for (std::int64_t b = 0; b < tiling.blocks(); ++b) f(tiling.tile(b, first, channels));
  });
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
  for_each_block(Tiling(n_, c_, s_, sizeof(T)), [&](const PlaneTile& tile) {
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
  for_each_block(Tiling(n_, c_, s_, sizeof(T)), [&](const PlaneTile& tile) {
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
