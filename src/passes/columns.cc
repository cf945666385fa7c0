// Channel passes over the columns of matrices.
//
// A matrix is cut into blocks of rows and tiles of columns. A tile whose rows all fit in L2 is
// taken through both passes at once, so that the forward reads x once. Otherwise all blocks are
// summed, the partial sums of a channel are merged in the order of the rows, and then all blocks
// are written. The last ones, which are still in cache, are written first. The forward then reads x
// twice, since a column cannot be read alone.
#include <algorithm>

#include "src/base/cache.h"
#include "src/base/parallel.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/passes/channels.h"
#include "src/passes/checked.h"
#include "src/passes/tile.h"
#include "src/passes/tiling.h"

namespace evenkeel {
namespace {

// Threads for `tasks` tasks of a matrix, at most `most`.
int threads_of(const Tiling& tiling, std::int64_t tasks, int most) {
  return std::min(most, threads_for(tasks, tiling.size()));
}

// Calls f(matrix, most threads) for each matrix. With many matrices, or small ones, each has one
// thread; else all threads share each matrix, which is then still in cache for the second pass.
template <class F>
void for_each_matrix(const Tiling& tiling, std::int64_t matrices, const F& f) {
  const int most = max_threads();
  const bool is_small = tiling.size() < 2 * kElementsPerThread;
  if (matrices > 1 && (is_small || matrices >= std::int64_t{4} * most)) {
    parallel_for(matrices, threads_for(matrices, matrices * tiling.size()),
                 [&](std::int64_t matrix) { f(matrix, 1); });
    return;
  }
  for (std::int64_t matrix = 0; matrix < matrices; ++matrix) f(matrix, most);
}

// Of one matrix: sum_tile(tile, partials) sets the partial sums of the tile's channels, those of a
// channel are merged in order; then finish(group, totals), with the totals of the group's channels;
// then apply(tile, distance) for each tile, `distance` being that to what the calling thread reads
// next, or 0.
template <class Partial, class SumTile, class Finish, class Apply>
void reduce_then_apply(const Tiling& tiling, std::int64_t group, int most_threads,
                       const SumTile& sum_tile, const Finish& finish, const Apply& apply) {
  const std::int64_t blocks = tiling.blocks(), tiles = tiling.tiles();
  if (tiling.both_passes_by_tile) {
    const int threads = threads_of(tiling, tiles, most_threads);
    parallel_ranges(tiles, threads, [&](std::int64_t begin, std::int64_t end) {
      auto* const partials = scratch<Partial, Scratch::tile_partials>(2 * tiling.tile_channels);
      Partial* const totals = partials + tiling.tile_channels;
      for (std::int64_t index = begin; index < end; ++index) {
        const Tile first = tiling.tile(0, index);
        std::fill_n(totals, first.channels, Partial());
        for (std::int64_t b = 0; b < blocks; ++b) {
          sum_tile(tiling.tile(b, index), partials);
          for (std::int64_t c = 0; c < first.channels; ++c) totals[c].merge(partials[c]);
        }
        for (std::int64_t c = 0; c < first.channels; c += group) {
          finish((first.channel + c) / group, totals + c);
        }
        const std::int64_t next = index + 1 < end ? first.block.cols : 0;
        for (std::int64_t b = 0; b < blocks; ++b) apply(tiling.tile(b, index), next);
      }
    });
    return;
  }
  const std::int64_t tasks = blocks * tiles, channels = tiling.channels;
  const int threads = threads_of(tiling, tasks, most_threads);
  auto* const partials = scratch<Partial, Scratch::partials>(blocks * channels);
  parallel_for(tasks, threads, [&](std::int64_t i) {
    const Tile tile = tiling.tile(i / tiles, i % tiles);
    sum_tile(tile, partials + i / tiles * channels + tile.channel);
  });
  const std::int64_t groups = channels / group;
  const int merging = std::min(most_threads, threads_for(groups, blocks * channels));
  parallel_for(groups, merging, [&](std::int64_t g) {
    auto* const totals = scratch<Partial, Scratch::tile_partials>(group);
    std::fill_n(totals, group, Partial());
    for (std::int64_t b = 0; b < blocks; ++b) {
      const Partial* const of_block = partials + b * channels + g * group;
      for (std::int64_t c = 0; c < group; ++c) totals[c].merge(of_block[c]);
    }
    finish(g, totals);
  });
  parallel_for(tasks, threads, [&](std::int64_t i) {
    const std::int64_t from_last = tasks - 1 - i;
    const Tile tile = tiling.tile(from_last / tiles, from_last % tiles);
    // Whole rows are one stretch of memory, which the processor prefetches by itself: with
    // prefetching the backward took up to 1.1 times as long. Parts of rows took up to 1.7 times as
    // long without it.
    apply(tile, tiles == 1 ? 0 : tile.prefetch_distance);
  });
}

constexpr auto kNoApply = [](const Tile&, std::int64_t) {};

// Of the channels of a group, for `finish`.
Moments merged(const Moments* of_channels, std::int64_t group) {
  Moments total = of_channels[0];
  for (std::int64_t c = 1; c < group; ++c) total.merge(of_channels[c]);
  return total;
}

// Calls f(tile) for all tiles of a matrix, in the order of memory.
template <class F>
void for_each_tile(const Tiling& tiling, int most_threads, const F& f) {
  const std::int64_t tiles = tiling.tiles(), tasks = tiling.blocks() * tiles;
  parallel_for(tasks, threads_of(tiling, tasks, most_threads),
               [&](std::int64_t i) { f(tiling.tile(i / tiles, i % tiles)); });
}

}  // namespace

template <class T>
kernels::Piece Columns<T>::piece_of(std::int64_t channels) const {
  return {rows_, channels * inner_, channels_ * inner_};
}

template <class T>
void Columns<T>::moments(const T* x, VisitMoments<T> visit) const {
  const Tiling tiling(rows_, channels_, inner_, sizeof(T), 2, group_);
  const std::int64_t groups = channels_ / group_;
  const bool prefetches =
      exceeds_cache(matrices_ * tiling.size() * static_cast<std::int64_t>(sizeof(T)));
  for_each_matrix(tiling, matrices_, [&](std::int64_t matrix, int threads) {
    const T* const of_matrix = x + matrix * tiling.size();
    reduce_then_apply<Moments>(
        tiling, group_, threads,
        [&](const Tile& tile, Moments* partials) {
          sum_moments(of_matrix, tile, prefetches, partials);
        },
        [&](std::int64_t g, const Moments* m) {
          visit(matrix * groups + g, checked_moments(of_matrix + g * group_ * inner_,
                                                     piece_of(group_), merged(m, group_), 0));
        },
        kNoApply);
  });
}

template <class T>
void Columns<T>::forward(const ForwardOperands<T>& operands, const ChannelAffine<T>* affine) const {
  const Tiling tiling(rows_, channels_, inner_, sizeof(T), 1, group_);
  for_each_matrix(tiling, matrices_, [&](std::int64_t matrix, int threads) {
    const ForwardOperands<T> of_matrix = operands.at(matrix * tiling.size());
    for_each_tile(tiling, threads, [&](const Tile& tile) {
      write_forward(of_matrix, tile, tile.prefetch_distance, affine + matrix * channels_);
    });
  });
}

template <class T>
void Columns<T>::normalize(const ForwardOperands<T>& operands, double eps,
                           AffineFromMoments<T> affine) const {
  const Tiling tiling(rows_, channels_, inner_, sizeof(T), 2, group_);
  const std::int64_t groups = channels_ / group_;
  auto* const coefficients = scratch<ChannelAffine<T>, Scratch::affine>(matrices_ * channels_);
  for_each_matrix(tiling, matrices_, [&](std::int64_t matrix, int threads) {
    const ForwardOperands<T> of_matrix = operands.at(matrix * tiling.size());
    ChannelAffine<T>* const affine_of_matrix = coefficients + matrix * channels_;
    reduce_then_apply<Moments>(
        tiling, group_, threads,
        [&](const Tile& tile, Moments* partials) {
          sum_moments(of_matrix.x, tile, operands.non_temporal, partials);
        },
        [&](std::int64_t g, const Moments* m) {
          affine(matrix * groups + g,
                 checked_moments(of_matrix.x + g * group_ * inner_, piece_of(group_),
                                 merged(m, group_), eps),
                 affine_of_matrix + g * group_);
        },
        [&](const Tile& tile, std::int64_t distance) {
          write_forward(of_matrix, tile, distance, affine_of_matrix);
        });
  });
}

template <class T>
void Columns<T>::gradient_sums(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                               ChannelSums<T>* sums) const {
  const Tiling tiling(rows_, channels_, inner_, sizeof(T), 2, 1);
  for_each_matrix(tiling, matrices_, [&](std::int64_t matrix, int threads) {
    const BackwardOperands<T> of_matrix = operands.at(matrix * tiling.size());
    const std::int64_t first = matrix * channels_;
    reduce_then_apply<GradientSums>(
        tiling, 1, threads,
        [&](const Tile& tile, GradientSums* partials) {
          sum_gradients(of_matrix, tile, affine + first, partials);
        },
        [&](std::int64_t c, const GradientSums* total) {
          sums[first + c] =
              checked_sums(of_matrix.at(c * inner_), piece_of(1), affine[first + c], *total);
        },
        kNoApply);
  });
}

template <class T>
void Columns<T>::backward(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                          const ChannelGradient<T>* gradient) const {
  const Tiling tiling(rows_, channels_, inner_, sizeof(T), 1, group_);
  for_each_matrix(tiling, matrices_, [&](std::int64_t matrix, int threads) {
    const BackwardOperands<T> of_matrix = operands.at(matrix * tiling.size());
    const std::int64_t first = matrix * channels_;
    for_each_tile(tiling, threads, [&](const Tile& tile) {
      write_gradients(of_matrix, tile, tile.prefetch_distance, affine + first, gradient + first);
    });
  });
}

template <class T>
void Columns<T>::gradients(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                           GradientFromSums<T> gradient) const {
  const Tiling tiling(rows_, channels_, inner_, sizeof(T), 2, group_);
  const std::int64_t groups = channels_ / group_;
  auto* const coefficients = scratch<ChannelGradient<T>, Scratch::gradient>(matrices_ * channels_);
  for_each_matrix(tiling, matrices_, [&](std::int64_t matrix, int threads) {
    const BackwardOperands<T> of_matrix = operands.at(matrix * tiling.size());
    const std::int64_t first = matrix * channels_;
    reduce_then_apply<GradientSums>(
        tiling, group_, threads,
        [&](const Tile& tile, GradientSums* partials) {
          sum_gradients(of_matrix, tile, affine + first, partials);
        },
        [&](std::int64_t g, const GradientSums* totals) {
          auto* const sums = scratch<ChannelSums<T>, Scratch::checked_sums>(group_);
          for (std::int64_t k = 0; k < group_; ++k) {
            const std::int64_t c = g * group_ + k;
            sums[k] =
                checked_sums(of_matrix.at(c * inner_), piece_of(1), affine[first + c], totals[k]);
          }
          gradient(matrix * groups + g, sums, coefficients + first + g * group_);
        },
        [&](const Tile& tile, std::int64_t distance) {
          write_gradients(of_matrix, tile, distance, affine + first, coefficients + first);
        });
  });
}

#define EVENKEEL_INSTANTIATE(T) template class Columns<T>;
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
