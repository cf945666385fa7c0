// Kernels for one set of coefficients per column of a row-major block: channels-last, and plain
// features.
//
// Rows are the outer loop, so that memory is read in order; sums of a tile of columns wait in L1.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/columns.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include "src/kernels/kernels.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

// Columns whose two sums, in float, take 4 KB of L1.
inline constexpr std::int64_t kTile = 512;
// Rows accumulated in T before they are merged in double. Moments are shifted by the block's first
// row, a mean of 1 of 64 values: the bound on the loss of accuracy is that of block_moments.
inline constexpr std::int64_t kBlockRows = 64;

// Calls body(row, rows, col, cols) for the blocks of a matrix.
template <class Body>
HWY_INLINE void for_each_block(std::int64_t rows, std::int64_t cols, const Body& body) {
  for (std::int64_t row = 0; row < rows; row += kBlockRows) {
    for (std::int64_t col = 0; col < cols; col += kTile) {
      body(row, std::min(kBlockRows, rows - row), col, std::min(kTile, cols - col));
    }
  }
}

template <class T>
void add_moments(const T* x, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                 double count, double* mean, double* m2) {
  const hn::ScalableTag<T> d;
  HWY_ALIGN T sum[kTile];
  HWY_ALIGN T squares[kTile];
  for_each_block(
      rows, cols,
      [&](std::int64_t row, std::int64_t n, std::int64_t col, std::int64_t width) HWY_ATTR {
        const T* first = x + row * stride + col;
        std::fill_n(sum, width, T{0});
        std::fill_n(squares, width, T{0});
        for (std::int64_t r = 1; r < n; ++r) {
          for_each_vector(d, width, [&](auto lanes, std::int64_t i) HWY_ATTR {
            const auto deviation =
                hn::Sub(lanes.load(d, first + r * stride + i), lanes.load(d, first + i));
            lanes.store(hn::Add(lanes.load(d, sum + i), deviation), d, sum + i);
            lanes.store(hn::MulAdd(deviation, deviation, lanes.load(d, squares + i)), d,
                        squares + i);
          });
        }
        // Chan's merge, for all columns with the same two counts.
        const double before = count + static_cast<double>(row);
        const auto added = static_cast<double>(n);
        const double share = added / (before + added);
        for (std::int64_t c = 0; c < width; ++c) {
          const double offset = static_cast<double>(sum[c]) / added;
          const double block_m2 =
              static_cast<double>(squares[c]) - static_cast<double>(sum[c]) * offset;
          const double block_mean = static_cast<double>(first[c]) + offset;
          // Nothing came before: the mean itself is no difference, and its square may overflow.
          const double delta = before == 0 ? 0 : block_mean - mean[col + c];
          mean[col + c] = before == 0 ? block_mean : mean[col + c] + delta * share;
          m2[col + c] += std::max(block_m2, 0.0) + delta * delta * before * share;
        }
      });
}

template <class T>
void affine(const T* x, T* y, std::int64_t rows, std::int64_t cols, std::int64_t stride,
            const kernels::AffineColumns<Stat<T>>& a) {
  const hn::ScalableTag<T> d;
  for (std::int64_t r = 0; r < rows; ++r) {
    const T* row_x = x + r * stride;
    T* row_y = y + r * stride;
    for_each_vector(d, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      const auto deviation = hn::Sub(lanes.load(d, row_x + i), lanes.load(d, a.center + i));
      lanes.store(hn::MulAdd(deviation, lanes.load(d, a.scale + i), lanes.load(d, a.shift + i)), d,
                  row_y + i);
    });
  }
}

template <class T>
void add_gradient_sums(const T* dy, const T* x, std::int64_t rows, std::int64_t cols,
                       std::int64_t stride, const Stat<T>* center, double* dy_sum,
                       double* dy_x_sum) {
  const hn::ScalableTag<T> d;
  HWY_ALIGN T sum[kTile];
  HWY_ALIGN T sum_x[kTile];
  for_each_block(
      rows, cols,
      [&](std::int64_t row, std::int64_t n, std::int64_t col, std::int64_t width) HWY_ATTR {
        std::fill_n(sum, width, T{0});
        std::fill_n(sum_x, width, T{0});
        for (std::int64_t r = 0; r < n; ++r) {
          const std::int64_t at = (row + r) * stride + col;
          for_each_vector(d, width, [&](auto lanes, std::int64_t i) HWY_ATTR {
            const auto g = lanes.load(d, dy + at + i);
            const auto deviation =
                hn::Sub(lanes.load(d, x + at + i), lanes.load(d, center + col + i));
            lanes.store(hn::Add(lanes.load(d, sum + i), g), d, sum + i);
            lanes.store(hn::MulAdd(g, deviation, lanes.load(d, sum_x + i)), d, sum_x + i);
          });
        }
        for (std::int64_t c = 0; c < width; ++c) {
          dy_sum[col + c] += static_cast<double>(sum[c]);
          dy_x_sum[col + c] += static_cast<double>(sum_x[c]);
        }
      });
}

template <class T>
void gradient(const T* dy, const T* x, T* dx, std::int64_t rows, std::int64_t cols,
              std::int64_t stride, const kernels::GradientColumns<Stat<T>>& g) {
  const hn::ScalableTag<T> d;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t at = r * stride;
    for_each_vector(d, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
      const auto deviation = hn::Sub(lanes.load(d, x + at + i), lanes.load(d, g.center + i));
      const auto from_x =
          hn::MulAdd(deviation, lanes.load(d, g.x_scale + i), lanes.load(d, g.shift + i));
      lanes.store(hn::MulAdd(lanes.load(d, dy + at + i), lanes.load(d, g.dy_scale + i), from_x), d,
                  dx + at + i);
    });
  }
}

template <class T>
const kernels::Columns<T>* table() {
  static constexpr kernels::Columns<T> kTable = {add_moments<T>, affine<T>, add_gradient_sums<T>,
                                                 gradient<T>};
  return &kTable;
}
const kernels::Columns<float>* float_columns() { return table<float>(); }
const kernels::Columns<double>* double_columns() { return table<double>(); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace evenkeel::kernels {

HWY_EXPORT(float_columns);
HWY_EXPORT(double_columns);

template <>
const Columns<float>& columns<float>() {
  select_target_from_environment();
  return *HWY_DYNAMIC_DISPATCH(float_columns)();
}
template <>
const Columns<double>& columns<double>() {
  select_target_from_environment();
  return *HWY_DYNAMIC_DISPATCH(double_columns)();
}

}  // namespace evenkeel::kernels
#endif
