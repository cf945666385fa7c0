// How matrices are cut for the passes over their columns, finely enough for 64 threads.
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

// A grid of tiles over a matrix, by its shape alone: results do not depend on the number of
// threads. Tiles of a block of rows follow each other.
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
  Grid summed;  // each tile gives partial statistics of its columns

  Cut(std::int64_t rows, std::int64_t n_channels, std::int64_t bytes) : channels(n_channels) {
    const std::int64_t line = kLineBytes / bytes;
    folds = best_folds(rows, channels, kNarrowLines * line, line);
    rows /= folds;
    const std::int64_t cols = folds * channels, lines = ceil_div(cols, line);
    const std::int64_t tiles = lines > kNarrowLines ? ceil_div(lines, kTileLines) : 1;
    const std::int64_t most =
        std::clamp(ceil_div(rows * tiles, kTiles), kLeastBlockRows, kMostBlockRows);
    summed = {rows, cols, ceil_div(rows, ceil_div(rows, most)), tiles, line};
  }

  std::int64_t rows() const { return summed.rows; }
  std::int64_t cols() const { return summed.cols; }
  std::int64_t size() const { return rows() * cols(); }
  // Values of each channel in some rows.
  double values(std::int64_t n) const { return static_cast<double>(n * folds); }

  // Values are written by themselves, so threads share the rows; or, if these are few and very
  // wide, the rows of each segment of columns.
  std::int64_t segments() const { return rows() < kFewRows ? ceil_div(cols(), kSegment) : 1; }
  // Rows that a thread writes at a time: 128 KB of floats, and enough rows that the coefficients of
  // a tile are worth loading into L1.
  std::int64_t strip() const { return std::max(kStrip / cols(), kLeastBlockRows); }
  // Calls f(tile) for some columns of some rows, in tiles whose coefficients stay in L1.
  template <class F>
  void for_each_tile(std::int64_t row, std::int64_t n, std::int64_t segment, const F& f) const {
    const std::int64_t width = segments() == 1 ? cols() : kSegment;
    const std::int64_t begin = segment * width, end = std::min(cols(), begin + width);
    const std::int64_t tiles = ceil_div(end - begin, kernels::kMaxBlockCols);
    const std::int64_t lines = ceil_div(end - begin, summed.line);
    const auto start = [&](std::int64_t t) {
      return std::min(end, begin + lines * t / tiles * summed.line);
    };
    for (std::int64_t t = 0; t < tiles; ++t) {
      const std::int64_t col = start(t);
      f(Tile{row, col, row * cols() + col, {n, start(t + 1) - col, cols()}});
    }
  }

 private:
  static constexpr std::int64_t kLineBytes = 64;
  // Lines of a tile's row, and of a row that is one tile.
  static constexpr std::int64_t kTileLines = 4, kNarrowLines = 10;
  // Rows of a summed tile: with 64, its statistics, 16 bytes a column, are a sixteenth of its
  // floats. Tall matrices have larger tiles, of which there are then about kTiles: sixteen for each
  // of 64 threads.
  static constexpr std::int64_t kLeastBlockRows = 64, kMostBlockRows = 1024, kTiles = 1024;
  // With so many rows or more, each of 64 threads has ten.
  static constexpr std::int64_t kFewRows = 640;
  static constexpr std::int64_t kSegment = 4096;
  static constexpr std::int64_t kStrip = 32768;

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
