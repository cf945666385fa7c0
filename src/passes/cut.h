// How matrices are cut for the passes over their columns: by their shape alone, so that no result
// depends on the number of threads, and finely enough for 64 of them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "src/base/parallel.h"
#include "src/kernels/columns.h"

namespace evenkeel {

// Some columns of some rows: from `row` and `col` on, `offset` values into the matrix.
struct Tile {
  std::int64_t row, col, offset;
  kernels::Block block;
};

// A grid of tiles over a matrix. Tiles of a block of rows follow each other.
struct Grid {
  std::int64_t rows, cols, block_rows, tiles, line;

  std::int64_t blocks() const { return ceil_div(rows, block_rows); }
  std::int64_t size() const { return blocks() * tiles; }
  // Of `index` and of the next `count` - 1 tiles, which are beside it, as one.
  Tile tile(std::int64_t index, std::int64_t count = 1) const {
    const std::int64_t row = index / tiles * block_rows, t = index % tiles;
    const std::int64_t col = begin(t), width = begin(t + count) - col;
    return {row, col, row * cols + col, {std::min(block_rows, rows - row), width, cols}};
  }
  // How many tiles beside `index`, itself included, may be taken as one: those of its block of
  // rows, before `end`, of kMaxBlockCols columns at most.
  std::int64_t beside(std::int64_t index, std::int64_t end) const {
    const std::int64_t t = index % tiles;
    std::int64_t count = std::min(end - index, tiles - t);
    while (count > 1 && begin(t + count) - begin(t) > kernels::kMaxBlockCols) --count;
    return count;
  }

 private:
  // Tiles begin at whole lines, as nearly equal as these allow.
  std::int64_t begin(std::int64_t t) const {
    return std::min(cols, ceil_div(cols, line) * t / tiles * line);
  }
};

// A matrix of rows of channels. A narrow one is folded: so many rows are taken as one, whose
// columns are the channels several times over.
struct Cut {
  std::int64_t channels, folds;
  Grid summed;   // each tile gives partial statistics of its columns
  Grid written;  // each value by itself: of any size that suits the cache

  Cut(std::int64_t rows, std::int64_t n_channels, std::int64_t bytes) : channels(n_channels) {
    const std::int64_t line = kLineBytes / bytes;
    folds = best_folds(rows, channels, kTileLines * line * 5 / 4, line);
    rows /= folds;
    const std::int64_t cols = folds * channels, lines = ceil_div(cols, line);
    const std::int64_t tiles = std::max<std::int64_t>(1, (lines + kTileLines / 2) / kTileLines);
    const std::int64_t most =
        std::clamp(ceil_div(rows * tiles, kTiles), kLeastBlockRows, kMostBlockRows);
    summed = {rows, cols, ceil_div(rows, ceil_div(rows, most)), tiles, line};
    const std::int64_t wide = ceil_div(cols, kernels::kMaxBlockCols);
    written = {rows, cols, std::max<std::int64_t>(1, kItem / ceil_div(cols, wide)), wide, line};
  }

  std::int64_t size() const { return summed.rows * summed.cols; }
  // Values of each channel in a block of rows.
  double values(std::int64_t rows) const { return static_cast<double>(rows * folds); }

 private:
  static constexpr std::int64_t kLineBytes = 64;
  // Lines of a tile's row.
  static constexpr std::int64_t kTileLines = 8;
  // Rows of a summed tile: with 64, its statistics, 16 bytes a column, are a sixteenth of its
  // floats. Tall matrices have larger tiles, of which there are then about kTiles: ten or more for
  // each of 64 threads.
  static constexpr std::int64_t kLeastBlockRows = 64, kMostBlockRows = 1024, kTiles = 640;
  // Values that are written at a time.
  static constexpr std::int64_t kItem = 32768;

  // The most that leave `most` columns or fewer, if possible of whole lines.
  static std::int64_t best_folds(std::int64_t rows, std::int64_t channels, std::int64_t most,
                                 std::int64_t line) {
    std::int64_t best = 1;
    for (std::int64_t k = most / channels; k > 1; --k) {
      if (rows % k != 0) continue;
      if (k * channels % line == 0) return k;
      best = std::max(best, k);
    }
    return best;
  }
};

}  // namespace evenkeel
