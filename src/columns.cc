// Channel passes over the columns of a matrix.
//
// The matrix is cut into blocks of rows and columns; each block adds up its part of every column in
// double, the parts are merged in the order of the rows, then each block is written. Three streams
// for a matrix larger than the cache (x twice, y once): a column cannot be read alone.
#include <algorithm>

#include "src/channels.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

// Columns of a block: some tiles of the kernels.
constexpr std::int64_t kBlockCols = 2048;

struct Blocks {
  std::int64_t rows, cols;
  // At least 1024 rows, so that the parts (16 bytes a column) are small beside the data.
  std::int64_t block_rows = std::max<std::int64_t>(1024, 65536 / cols);
  std::int64_t down = ceil_div(rows, block_rows);
  std::int64_t across = ceil_div(cols, kBlockCols);

  std::int64_t count() const { return down * across; }
  int threads() const { return threads_for(count(), rows * cols); }

  // Calls f(row, n_rows, col, n_cols, down) for a block: its place, and its place among the blocks
  // of its columns.
  template <class F>
  void visit(std::int64_t block, const F& f) const {
    const std::int64_t row = block / across * block_rows, col = block % across * kBlockCols;
    f(row, std::min(block_rows, rows - row), col, std::min(kBlockCols, cols - col), block / across);
  }
  template <class F>
  void for_each(const F& f) const {
    parallel_for(count(), threads(), [&](std::int64_t block, int) { visit(block, f); });
  }
};

// Two sums a column and row of blocks: (mean, M2) or the gradient sums.
struct Parts {
  std::int64_t cols;
  double* first;
  double* second;

  explicit Parts(const Blocks& blocks) : cols(blocks.cols) {
    const std::int64_t size = blocks.down * cols;
    first = scratch<double>(2 * size);
    second = first + size;
    std::fill_n(first, 2 * size, 0.0);
  }
};

}  // namespace

template <class T>
void ColumnChannels<T>::moments(const T* x, VisitMoments visit) const {
  const auto& kernel = kernels::columns<T>();
  const Blocks blocks{rows, cols};
  const Parts parts(blocks);
  blocks.for_each([&](std::int64_t row, std::int64_t n, std::int64_t col, std::int64_t width,
                      std::int64_t down) {
    const std::int64_t to = down * cols + col;
    kernel.add_moments(x + row * cols + col, n, width, cols, 0, parts.first + to,
                       parts.second + to);
  });
  parallel_for(cols, threads_for(cols, blocks.down * cols), [&](std::int64_t c, int) {
    Moments total;
    for (std::int64_t b = 0; b < blocks.down; ++b) {
      const auto n = std::min(blocks.block_rows, rows - b * blocks.block_rows);
      total.merge({static_cast<double>(n), parts.first[b * cols + c], parts.second[b * cols + c]});
    }
    visit(c, total);
  });
}

template <class T>
void ColumnChannels<T>::affine(const T* x, T* y, AffineOf<T> affine) const {
  const auto& kernel = kernels::columns<T>();
  auto* center = scratch<Stat<T>, 1>(3 * cols);
  auto* scale = center + cols;
  auto* shift = scale + cols;
  for (std::int64_t c = 0; c < cols; ++c) {
    const auto a = affine(c);
    center[c] = a.center;
    scale[c] = a.scale;
    shift[c] = a.shift;
  }
  Blocks{rows, cols}.for_each([&](std::int64_t row, std::int64_t n, std::int64_t col,
                                  std::int64_t width, std::int64_t /*down*/) {
    const std::int64_t at = row * cols + col;
    kernel.affine(x + at, y + at, n, width, cols, {center + col, scale + col, shift + col});
  });
}

template <class T>
void ColumnChannels<T>::normalize(const T* x, T* y, AffineFromMoments<T> affine) const {
  auto* coefficients = scratch<Affine<Stat<T>>>(cols);
  moments(x, [&](std::int64_t c, const Moments& m) { coefficients[c] = affine(c, m); });
  this->affine(x, y, [&](std::int64_t c) { return coefficients[c]; });
}

template <class T>
void ColumnChannels<T>::gradients(const T* dy, const T* x, T* dx, CenterOf<T> center,
                                  GradientFromSums<T> gradient) const {
  const auto& kernel = kernels::columns<T>();
  const Blocks blocks{rows, cols};
  const Parts parts(blocks);
  auto* centers = scratch<Stat<T>, 1>(4 * cols);  // slot 0 holds the parts if T is double
  auto* dy_scale = centers + cols;
  auto* x_scale = dy_scale + cols;
  auto* shift = x_scale + cols;
  for (std::int64_t c = 0; c < cols; ++c) centers[c] = center(c);
  blocks.for_each([&](std::int64_t row, std::int64_t n, std::int64_t col, std::int64_t width,
                      std::int64_t down) {
    const std::int64_t at = row * cols + col, to = down * cols + col;
    kernel.add_gradient_sums(dy + at, x + at, n, width, cols, centers + col, parts.first + to,
                             parts.second + to);
  });
  for (std::int64_t c = 0; c < cols; ++c) {
    GradientSums sums;
    for (std::int64_t b = 0; b < blocks.down; ++b) {
      sums.dy += parts.first[b * cols + c];
      sums.dy_x += parts.second[b * cols + c];
    }
    const auto g = gradient(c, sums);
    dy_scale[c] = g.dy_scale;
    x_scale[c] = g.x_scale;
    shift[c] = g.shift;
  }
  if (!dx) return;
  blocks.for_each([&](std::int64_t row, std::int64_t n, std::int64_t col, std::int64_t width,
                      std::int64_t /*down*/) {
    const std::int64_t at = row * cols + col;
    kernel.gradient(dy + at, x + at, dx + at, n, width, cols,
                    {centers + col, dy_scale + col, x_scale + col, shift + col});
  });
}

template struct ColumnChannels<float>;
template struct ColumnChannels<double>;

}  // namespace evenkeel
