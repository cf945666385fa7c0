// Channel passes over the columns of a matrix.
//
// The matrix is cut into blocks of rows and tiles of columns. A tile whose rows fit in L2 is taken
// through both passes at once: two streams for a forward. Otherwise all blocks are summed, the
// parts of a channel are merged in the order of the rows, and then all blocks are written, the
// last, which are still in cache, first: three streams, since a column cannot be read alone.
#include <algorithm>
#include <array>
#include <numeric>

#include "src/channels.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

using kernels::kMaxBlockCols;

// Most rows of a block, and least but for short matrices: the parts, 24 bytes a channel, are small
// beside the data.
constexpr std::int64_t kBlockRows = 1024;
constexpr std::int64_t kLeastBlockRows = 256;
// Least values of a channel in a block: its part and its coefficients cost as much as streaming
// some hundred values. With half as many, 2048 channels-last planes of 7 x 7 took 1.2 times as
// long.
constexpr std::int64_t kLeastBlockValues = 512;
// Blocks that a matrix is cut into if it has the rows, for as many threads.
constexpr std::int64_t kBlocks = 16;
// A tile up to this size is still in L2 when it is read again.
constexpr std::int64_t kTileBytes = std::int64_t{512} * 1024;
constexpr std::int64_t kLineBytes = 64;
// Below so many lines a tile is read in pieces too short: 2048 channels-last planes of 7 x 7 took
// 1.8 times as long in tiles of 3 lines as in two passes over whole rows.
constexpr std::int64_t kShortestPiece = 8;
// How far ahead rows are prefetched: alone, the hardware's prefetcher reaches half of the bandwidth
// of memory when values are summed.
constexpr std::int64_t kPrefetchBytes = std::int64_t{32} * 1024;

// A block of a tile: some rows of some whole channels.
struct Tile {
  std::int64_t channel, channels;  // the first channel, and how many
  std::int64_t folds, inner;       // a channel is folds * inner columns, j = (fold, channel, inner)
  std::int64_t offset;             // in memory
  kernels::Block block;
  std::int64_t rows_ahead;  // the distance to the row that is to be prefetched

  double values_per_channel() const { return static_cast<double>(block.rows * folds * inner); }
};

// How a matrix is cut.
struct Tiling {
  std::int64_t rows, channels, inner, bytes;  // bytes of a value
  // Narrow matrices are folded: with this many rows taken as one, a row fills whole vectors.
  std::int64_t folds = 1;
  std::int64_t tile_channels;
  std::int64_t block_rows;
  bool both_passes_by_tile;

  Tiling(std::int64_t n_rows, std::int64_t n_channels, std::int64_t n_inner, std::int64_t n_bytes,
         int passes)
      : rows(n_rows), channels(n_channels), inner(n_inner), bytes(n_bytes) {
    // Channels whose columns make whole lines.
    const std::int64_t line = kLineBytes / bytes, unit = std::lcm(line, inner) / inner;
    const auto fitting = [&](std::int64_t cols) {
      const std::int64_t n = std::max<std::int64_t>(1, cols / inner);
      return std::min(channels, n >= unit ? n / unit * unit : n);
    };
    const std::int64_t cached_cols = kTileBytes / (rows * bytes);
    both_passes_by_tile = passes == 2 && (inner > 1 || cached_cols >= kShortestPiece * line);
    if (inner == 1 && !both_passes_by_tile) folds = best_folds(line);
    rows /= folds;
    tile_channels =
        fitting(both_passes_by_tile ? std::min(cached_cols, kMaxBlockCols) : kMaxBlockCols);
    // Of equal size, so that threads have equal shares.
    const std::int64_t least = std::max(kLeastBlockRows, kLeastBlockValues / (folds * inner));
    block_rows = ceil_div(rows, std::max(ceil_div(rows, kBlockRows),
                                         std::clamp<std::int64_t>(rows / least, 1, kBlocks)));
  }

  std::int64_t cols() const { return folds * channels * inner; }
  std::int64_t blocks() const { return ceil_div(rows, block_rows); }
  std::int64_t tiles() const { return ceil_div(channels, tile_channels); }
  int threads(std::int64_t tasks) const { return threads_for(tasks, rows * cols()); }

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
  // The most that leave kMaxBlockCols columns or fewer, if possible of whole lines.
  std::int64_t best_folds(std::int64_t line) const {
    std::int64_t best = 1;
    for (std::int64_t k = kMaxBlockCols / channels; k > 1; --k) {
      if (rows % k != 0) continue;
      if (k * channels % line == 0) return k;
      best = std::max(best, k);
    }
    return best;
  }
};

// sum_tile(tile, parts) sets the parts of the tile's channels; the parts of a channel are merged
// in order; then finish(channel, total); then apply(tile, ahead) for each tile, `ahead` being the
// distance to what the calling thread reads next, or 0.
template <class Part, class SumTile, class Finish, class Apply>
void reduce_then_apply(const Tiling& tiling, const SumTile& sum_tile, const Finish& finish,
                       const Apply& apply) {
  const std::int64_t blocks = tiling.blocks(), tiles = tiling.tiles();
  if (tiling.both_passes_by_tile) {
    parallel_ranges(tiles, tiling.threads(tiles), [&](std::int64_t begin, std::int64_t end, int) {
      Part* const parts = scratch<Part, 2>(2 * tiling.tile_channels);
      Part* const totals = parts + tiling.tile_channels;
      for (std::int64_t index = begin; index < end; ++index) {
        const Tile first = tiling.tile(0, index);
        std::fill_n(totals, first.channels, Part());
        for (std::int64_t b = 0; b < blocks; ++b) {
          sum_tile(tiling.tile(b, index), parts);
          for (std::int64_t c = 0; c < first.channels; ++c) totals[c].merge(parts[c]);
        }
        for (std::int64_t c = 0; c < first.channels; ++c) finish(first.channel + c, totals[c]);
        const std::int64_t next = index + 1 < end ? first.block.cols : 0;
        for (std::int64_t b = 0; b < blocks; ++b) apply(tiling.tile(b, index), next);
      }
    });
    return;
  }
  const std::int64_t tasks = blocks * tiles, channels = tiling.channels;
  Part* const parts = scratch<Part>(blocks * channels);
  parallel_for(tasks, tiling.threads(tasks), [&](std::int64_t i, int) {
    const Tile tile = tiling.tile(i / tiles, i % tiles);
    sum_tile(tile, parts + i / tiles * channels + tile.channel);
  });
  parallel_for(channels, threads_for(channels, blocks * channels), [&](std::int64_t c, int) {
    Part total;
    for (std::int64_t b = 0; b < blocks; ++b) total.merge(parts[b * channels + c]);
    finish(c, total);
  });
  parallel_for(tasks, tiling.threads(tasks), [&](std::int64_t i, int) {
    const std::int64_t from_last = tasks - 1 - i;
    const Tile tile = tiling.tile(from_last / tiles, from_last % tiles);
    // Whole rows are one stream, which the processor prefetches by itself: with prefetching the
    // backward took up to 1.1 times as long. Of parts of rows, without it, up to 1.7 times.
    apply(tile, tiles == 1 ? 0 : tile.rows_ahead);
  });
}

// Sets the columns of the channels of a tile, in several arrays, kMaxBlockCols apart, to
// values_of(channel), one value an array.
template <int arrays, class P, class ValuesOf>
void spread(const Tile& tile, P* to, const ValuesOf& values_of) {
  const std::int64_t fold = tile.channels * tile.inner;
  for (std::int64_t c = 0; c < tile.channels; ++c) {
    const std::array<P, arrays> values = values_of(c);
    for (std::size_t i = 0; i < arrays; ++i) {
      P* const first = to + static_cast<std::int64_t>(i) * kMaxBlockCols + c * tile.inner;
      first[0] = values[i];
      for (std::int64_t j = 1; j < tile.inner; ++j) first[j] = values[i];
    }
  }
  for (std::int64_t i = 0; i < arrays; ++i, to += kMaxBlockCols) {
    for (std::int64_t f = 1; f < tile.folds; ++f) std::copy_n(to, fold, to + f * fold);
  }
}

// Calls add(channel, column) for the first column of each run of `inner` columns.
template <class Add>
void for_each_run(const Tile& tile, const Add& add) {
  std::int64_t column = 0;
  for (std::int64_t f = 0; f < tile.folds; ++f) {
    for (std::int64_t c = 0; c < tile.channels; ++c, column += tile.inner) add(c, column);
  }
}

// Four sums side by side: neither their rounding errors nor the latency of addition add up.
double sum_of(const double* values, std::int64_t count) {
  double sums[4] = {};
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int j = 0; j < 4; ++j) sums[j] += values[i + j];
  }
  for (; i < count; ++i) sums[0] += values[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Per-column arrays of a tile: scratch memory of the calling thread.
template <class P, int slot>
P* tile_columns(int arrays) {
  return scratch<P, slot>(arrays * kMaxBlockCols);
}

template <class T>
void sum_moments(const T* x, const Tile& tile, bool prefetches, Moments* parts) {
  using P = Stat<T>;
  const auto& kernel = kernels::columns<T>();
  P* const pilot = tile_columns<P, 2>(3);
  P* const column_shift = pilot + kMaxBlockCols;
  P* const shift = column_shift + kMaxBlockCols;
  double* const sum = tile_columns<double, 5>(2);
  double* const squares = sum + kMaxBlockCols;

  kernel.pilot(x + tile.offset, tile.block, pilot);
  // One shift for all columns of a channel: their mean, by differences as in the pilot.
  std::fill_n(shift, tile.channels, P{0});
  for_each_run(tile, [&](std::int64_t c, std::int64_t column) {
    const P first = pilot[c * tile.inner];
    for (std::int64_t i = 0; i < tile.inner; ++i) shift[c] += pilot[column + i] - first;
  });
  for (std::int64_t c = 0; c < tile.channels; ++c) {
    shift[c] = pilot[c * tile.inner] + shift[c] / static_cast<P>(tile.folds * tile.inner);
  }
  spread<1>(tile, column_shift, [&](std::int64_t c) { return std::array{shift[c]}; });
  kernel.sums(x + tile.offset, tile.block, prefetches ? tile.rows_ahead : 0, column_shift, sum,
              squares);

  struct Sums {
    double s, t;
  };
  Sums* const sums = scratch<Sums, 2>(tile.channels);
  std::fill_n(sums, tile.channels, Sums{0, 0});
  for_each_run(tile, [&](std::int64_t c, std::int64_t column) {
    sums[c].s += sum_of(sum + column, tile.inner);
    sums[c].t += sum_of(squares + column, tile.inner);
  });
  for (std::int64_t c = 0; c < tile.channels; ++c) {
    parts[c] = moments_of_sums(tile.values_per_channel(), static_cast<double>(shift[c]), sums[c].s,
                               sums[c].t);
  }
}

template <class T>
kernels::AffineColumns<Stat<T>> spread_affine(const Tile& tile, const AffineOf<T>& affine) {
  auto* const to = tile_columns<Stat<T>, 3>(3);
  spread<3>(tile, to, [&](std::int64_t c) {
    const auto a = affine(tile.channel + c);
    return std::array{a.center, a.scale, a.shift};
  });
  return {to, to + kMaxBlockCols, to + 2 * kMaxBlockCols};
}

template <class T>
kernels::GradientColumns<Stat<T>> spread_gradient(const Tile& tile,
                                                  const GradientAffine<Stat<T>>* coefficients) {
  auto* const to = tile_columns<Stat<T>, 4>(3);
  spread<3>(tile, to, [&](std::int64_t c) {
    const auto& g = coefficients[tile.channel + c];
    return std::array{g.dy_scale, g.x_scale, g.shift};
  });
  return {to, to + kMaxBlockCols, to + 2 * kMaxBlockCols};
}

template <class T>
void sum_gradients(const BackwardPass<T>& pass, const Tile& tile, const AffineOf<T>& affine,
                   GradientSums* parts) {
  std::fill_n(parts, tile.channels, GradientSums());
  if (!pass.wants_sums) return;
  double* const dy_sum = tile_columns<double, 5>(2);
  double* const dy_x_sum = dy_sum + kMaxBlockCols;
  kernels::columns<T>().gradient_sums(pass.at(tile.offset, tile.rows_ahead), tile.block,
                                      spread_affine<T>(tile, affine), dy_sum, dy_x_sum);
  for_each_run(tile, [&](std::int64_t c, std::int64_t column) {
    parts[c].merge({sum_of(dy_sum + column, tile.inner), sum_of(dy_x_sum + column, tile.inner)});
  });
}

}  // namespace

template <class T>
void ColumnChannels<T>::moments(const T* x, VisitMoments visit) const {
  const bool prefetches =
      exceeds_cache(rows * channels * inner * static_cast<std::int64_t>(sizeof(T)));
  reduce_then_apply<Moments>(
      Tiling(rows, channels, inner, sizeof(T), 2),
      [&](const Tile& tile, Moments* parts) { sum_moments(x, tile, prefetches, parts); }, visit,
      [](const Tile&, std::int64_t) {});
}

template <class T>
void ColumnChannels<T>::forward(const ForwardPass<T>& pass, AffineOf<T> affine) const {
  const auto& kernel = kernels::columns<T>();
  const Tiling tiling(rows, channels, inner, sizeof(T), 1);
  const std::int64_t tiles = tiling.tiles(), tasks = tiling.blocks() * tiles;
  parallel_for(tasks, tiling.threads(tasks), [&](std::int64_t i, int) {
    const Tile tile = tiling.tile(i / tiles, i % tiles);
    kernel.forward(pass.at(tile.offset, tile.rows_ahead), tile.block,
                   spread_affine<T>(tile, affine));
  });
}

template <class T>
void ColumnChannels<T>::normalize(const ForwardPass<T>& pass, AffineFromMoments<T> affine) const {
  const auto& kernel = kernels::columns<T>();
  auto* const coefficients = scratch<Affine<Stat<T>>>(channels);
  reduce_then_apply<Moments>(
      Tiling(rows, channels, inner, sizeof(T), 2),
      [&](const Tile& tile, Moments* parts) { sum_moments(pass.x, tile, pass.streams, parts); },
      [&](std::int64_t c, const Moments& m) { coefficients[c] = affine(c, m); },
      [&](const Tile& tile, std::int64_t ahead) {
        const auto of = [&](std::int64_t c) { return coefficients[c]; };
        kernel.forward(pass.at(tile.offset, ahead), tile.block, spread_affine<T>(tile, of));
      });
}

template <class T>
void ColumnChannels<T>::gradients(const BackwardPass<T>& pass, AffineOf<T> affine,
                                  GradientFromSums<T> gradient) const {
  const auto& kernel = kernels::columns<T>();
  auto* const coefficients = scratch<GradientAffine<Stat<T>>>(channels);
  reduce_then_apply<GradientSums>(
      Tiling(rows, channels, inner, sizeof(T), 2),
      [&](const Tile& tile, GradientSums* parts) { sum_gradients(pass, tile, affine, parts); },
      [&](std::int64_t c, const GradientSums& sums) { coefficients[c] = gradient(c, sums); },
      [&](const Tile& tile, std::int64_t ahead) {
        if (!pass.dx && !pass.dresidual) return;
        kernel.backward(pass.at(tile.offset, ahead), tile.block, spread_affine<T>(tile, affine),
                        spread_gradient<T>(tile, coefficients));
      });
}

template struct ColumnChannels<float>;
template struct ColumnChannels<double>;
template struct ColumnChannels<BFloat16>;
template struct ColumnChannels<Float16>;

}  // namespace evenkeel
