// How a matrix is cut for the passes over its columns.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "src/base/parallel.h"
#include "src/kernels/columns.h"

namespace evenkeel {

// A block of rows of some whole channels.
struct Tile {
  std::int64_t channel, channels;  // the first channel, and how many
  std::int64_t folds, inner;       // a channel is folds * inner columns, j = (fold, channel, inner)
  std::int64_t offset;             // in memory
  kernels::Block block;
  std::int64_t prefetch_distance;  // to a row some way on

  double values_per_channel() const { return static_cast<double>(block.rows * folds * inner); }
};

// A matrix is cut into blocks of rows and tiles of columns.
struct Tiling {
  std::int64_t rows, channels, inner, bytes;  // bytes of a value
  // Narrow matrices are folded: with this many rows taken as one, a row fills whole vectors.
  std::int64_t folds = 1;
  std::int64_t tile_channels;
  std::int64_t block_rows;
  // Whether a tile with all its rows stays in L2, so that it is taken through both passes at once.
  bool both_passes_by_tile;

  // passes: 1, or 2 if each value is read for a sum and again to be written. `group` channels share
  // their statistics.
  Tiling(std::int64_t n_rows, std::int64_t n_channels, std::int64_t n_inner, std::int64_t n_bytes,
         int passes, std::int64_t group)
      : rows(n_rows), channels(n_channels), inner(n_inner), bytes(n_bytes) {
    // Channels whose columns make whole lines.
    const std::int64_t line = kLineBytes / bytes, unit = std::lcm(line, inner) / inner;
    const auto fitting = [&](std::int64_t cols) {
      const std::int64_t n = std::max<std::int64_t>(1, cols / inner);
      return std::min(channels, n >= unit ? n / unit * unit : n);
    };
    const std::int64_t cached_cols = kTileBytes / (rows * bytes);
    const std::int64_t in_l2 = fitting(std::min(cached_cols, kernels::kMaxBlockCols));
    both_passes_by_tile =
        passes == 2 && in_l2 >= group && (inner > 1 || cached_cols >= kShortestRow * line);
    if (inner == 1 && !both_passes_by_tile) folds = best_folds(line);
    rows /= folds;
    tile_channels = both_passes_by_tile ? in_l2 / group * group : fitting(kernels::kMaxBlockCols);
    // Of equal size, so that threads have equal shares.
    const std::int64_t least = std::max(kLeastBlockRows, kLeastBlockValues / (folds * inner));
    block_rows = ceil_div(rows, std::max(ceil_div(rows, kBlockRows),
                                         std::clamp<std::int64_t>(rows / least, 1, kBlocks)));
  }

  std::int64_t size() const { return rows * folds * channels * inner; }
  std::int64_t cols() const { return folds * channels * inner; }
  std::int64_t blocks() const { return ceil_div(rows, block_rows); }
  std::int64_t tiles() const { return ceil_div(channels, tile_channels); }

  Tile tile(std::int64_t block, std::int64_t index) const {
    const std::int64_t row = block * block_rows, channel = index * tile_channels;
    const std::int64_t width = std::min(tile_channels, channels - channel);
    return {channel,
            width,
            folds,
            inner,
            row * cols() + channel * inner,
            {std::min(block_rows, rows - row), folds * width * inner, cols()},
            (kPrefetchBytes / (folds * width * inner * bytes) + 1) * cols()};
  }

 private:
  // Most rows of a block, and least but for short matrices: the partial sums, 24 bytes a channel,
  // are small beside the data.
  static constexpr std::int64_t kBlockRows = 1024;
  static constexpr std::int64_t kLeastBlockRows = 256;
  // Least values of a channel in a block: its partial sums and its coefficients cost as much as
  // streaming some hundred values. With half as many, 2048 channels-last planes of 7 x 7 took 1.2
  // times as long.
  static constexpr std::int64_t kLeastBlockValues = 512;
  // Blocks that a matrix is cut into if it has the rows, for as many threads.
  static constexpr std::int64_t kBlocks = 16;
  // A tile up to this size is still in L2 when it is read again.
  static constexpr std::int64_t kTileBytes = std::int64_t{512} * 1024;
  static constexpr std::int64_t kLineBytes = 64;
  // Below so many lines the rows of a tile are too short to be read well: 2048 channels-last planes
  // of 7 x 7 took 1.8 times as long in tiles of 3 lines as in two passes over whole rows.
  static constexpr std::int64_t kShortestRow = 8;
  // How far on rows are prefetched: alone, the hardware's prefetcher reaches half of the bandwidth
  // of memory when values are summed.
  static constexpr std::int64_t kPrefetchBytes = std::int64_t{32} * 1024;

  // The most that leave kMaxBlockCols columns or fewer, if possible of whole lines.
  std::int64_t best_folds(std::int64_t line) const {
    std::int64_t best = 1;
    for (std::int64_t k = kernels::kMaxBlockCols / channels; k > 1; --k) {
      if (rows % k != 0) continue;
      if (k * channels % line == 0) return k;
      best = std::max(best, k);
    }
    return best;
  }
};

}  // namespace evenkeel
