#include "tests/core/shares/kernels.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

#include "src/base/types.h"
#include "src/kernels/columns.h"
#include "src/kernels/extended.h"
#include "src/kernels/planes.h"
#include "src/kernels/rows.h"
#include "src/kernels/short_planes.h"
#include "src/kernels/windows.h"

namespace evenkeel {
namespace testing {
namespace {

std::array<Counts, kPasses> counts;

void count(Pass pass, std::int64_t values) {
  Counts& of_pass = counts[static_cast<std::size_t>(pass)];
  if (omp_in_parallel() == 0) of_pass.serial += values;
  // Each thread has a place of its own.
  of_pass.of_thread[static_cast<std::size_t>(omp_get_thread_num())] += values;
}

}  // namespace

std::int64_t Counts::total() const {
  return std::accumulate(of_thread.begin(), of_thread.end(), std::int64_t{0});
}
std::int64_t Counts::largest() const { return std::ranges::max(of_thread); }

void start_counting(int threads) {
  omp_set_num_threads(threads);
  for (Counts& of_pass : counts) {
    of_pass = {std::vector<std::int64_t>(static_cast<std::size_t>(threads)), 0};
  }
}
const Counts& counted(Pass pass) { return counts[static_cast<std::size_t>(pass)]; }

}  // namespace testing

namespace kernels {

using testing::count;
using testing::Pass;

template <class T>
const Planes<T>& planes() {
  static constexpr Planes<T> kTable = {
      .moments =
          [](const T*, const Piece& piece, std::int64_t) {
            count(Pass::sum, piece.count * piece.length);
            const auto n = static_cast<double>(piece.count * piece.length);
            return Moments{n, 0, n};  // such that nothing is computed again
          },
      .forward = [](const ForwardOperands<T>&, const Piece& piece,
                    const Affine<Wide<T>>&) { count(Pass::write, piece.count * piece.length); },
      .gradient_sums =
          [](const BackwardOperands<T>&, const Piece& piece, const Affine<Wide<T>>&) {
            count(Pass::sum, piece.count * piece.length);
            const auto n = static_cast<double>(piece.count * piece.length);
            return GradientSums{n, n};
          },
      .backward =
          [](const BackwardOperands<T>&, const Piece& piece, const Affine<Wide<T>>&,
             const GradientAffine<Wide<T>>&) { count(Pass::write, piece.count * piece.length); }};
  return kTable;
}

// Both statistics of each column, as if each row added `first` and `second` to them.
void set(StatisticColumns out, const Block& block, double first, double second) {
  std::fill_n(out.first, block.cols, first * static_cast<double>(block.rows));
  std::fill_n(out.second, block.cols, second * static_cast<double>(block.rows));
}
void merge(StatisticColumns of_parts, Parts parts, StatisticColumns total) {
  count(Pass::merge, parts.parts * parts.cols);
  std::copy_n(of_parts.first, parts.cols, total.first);
  std::copy_n(of_parts.second, parts.cols, total.second);
}

template <class T>
const Columns<T>& columns() {
  using P = Wide<T>;
  static constexpr Columns<T> kTable = {
      .moments =
          [](const T*, Block block, std::int64_t, StatisticColumns out) {
            count(Pass::sum, block.rows * block.cols);
            set(out, block, 0, 1);
          },
      .merge_moments = merge,
      .merge_sums = merge,
      .forward = [](ForwardOperands<T>, Block block,
                    AffineColumns<P>) { count(Pass::write, block.rows * block.cols); },
      .gradient_sums =
          [](BackwardOperands<T>, Block block, AffineColumns<P>, double* dy, double* dy_x) {
            count(Pass::sum, block.rows * block.cols);
            set({dy, dy_x}, block, 1, 1);
          },
      .backward = [](BackwardOperands<T>, Block block, AffineColumns<P>,
                     GradientColumns<P>) { count(Pass::write, block.rows * block.cols); }};
  return kTable;
}

template <class T>
const ShortPlanes<T>& short_planes() {
  using P = Wide<T>;
  static constexpr auto values = [](const PlaneBlock& block) {
    return block.rows * block.channels * block.inner;
  };
  static constexpr ShortPlanes<T> kTable = {
      .moments =
          [](const T*, PlaneBlock block, std::int64_t, Moments* out) {
            count(Pass::sum, values(block));
            const auto n = static_cast<double>(block.rows * block.inner);
            std::fill_n(out, block.channels, Moments{n, 0, n});
          },
      .forward = [](ForwardOperands<T>, PlaneBlock block,
                    const Affine<P>*) { count(Pass::write, values(block)); },
      .gradient_sums =
          [](BackwardOperands<T>, PlaneBlock block, const Affine<P>*, GradientSums* out) {
            count(Pass::sum, values(block));
            const auto n = static_cast<double>(block.rows * block.inner);
            std::fill_n(out, block.channels, GradientSums{n, n});
          },
      .backward = [](BackwardOperands<T>, PlaneBlock block, const Affine<P>*,
                     const GradientAffine<P>*) { count(Pass::write, values(block)); }};
  return kTable;
}

template <class T>
const RowsForwardTable<T>& rows_forward() {
  static constexpr RowsForwardTable<T> kTable = {
      .forward = [](RowsForward<T>, std::int64_t rows,
                    std::int64_t cols) { count(Pass::write, rows * cols); },
      .add = [](const T*, const T*, T*, std::int64_t) {},
      .sum_of_squares =
          [](const T*, std::int64_t values) {
            count(Pass::sum, values);
            return static_cast<double>(values);
          },
      .write = [](RowsForward<T>, const T*, double, double,
                  std::int64_t values) { count(Pass::write, values); }};
  return kTable;
}
template <class T>
const RowsBackwardTable<T>& rows_backward() {
  static constexpr RowsBackwardTable<T> kTable = {
      .backward = [](RowsBackward<T>, std::int64_t rows,
                     std::int64_t cols) { count(Pass::write, rows * cols); },
      .add_up =
          [](const Wide<T>*, std::int64_t parts, std::int64_t, std::int64_t size, Wide<T>*) {
            count(Pass::merge, parts * size);
            return true;
          },
      .sums =
          [](RowsBackward<T>, std::int64_t values) {
            count(Pass::sum, values);
            return GradientSums();
          },
      .fits = [](RowsBackward<T>, GradientSums, std::int64_t) { return true; },
      .finish = [](RowsBackward<T>, GradientSums, std::int64_t,
                   std::int64_t values) { count(Pass::write, values); }};
  return kTable;
}

template <class T, class Block>
constexpr Windows<T, Block> windows() {
  return {.forward =
              [](const T*, T*, Block block, Window, Wide<T>*, bool) {
                const Positions values = block.positions();
                count(Pass::write, values.channels * values.positions);
                return LargestInWindows();
              },
          .backward =
              [](const T*, const T*, T*, Block block, Window, Wide<T>*, bool) {
                const Positions values = block.positions();
                count(Pass::write, values.channels * values.positions);
                return LargestInWindows();
              },
          .largest = [](const T*, Block) { return Wide<T>{1}; }};
}
template <class T>
const WindowsAcross<T>& windows_across() {
  static constexpr auto kTable = windows<T, Across>();
  return kTable;
}
template <class T>
const WindowsAlong<T>& windows_along() {
  static constexpr auto kTable = windows<T, Along>();
  return kTable;
}

// Nothing is taken again.
template <class T>
GroupMoments<Extended<T>> ExtendedRange<T>::moments(const T*, const Piece&) {
  std::abort();
}
template <class T>
void ExtendedRange<T>::forward(const ForwardOperands<T>&, const Piece&, const ExactAffine<E>&) {
  std::abort();
}
template <class T>
BasicGradientSums<Extended<T>> ExtendedRange<T>::gradient_sums(const BackwardOperands<T>&,
                                                               const Piece&,
                                                               const ExactAffine<E>&) {
  std::abort();
}
template <class T>
void ExtendedRange<T>::backward(const BackwardOperands<T>&, const Piece&, const ExactAffine<E>&,
                                const GradientAffine<E>&) {
  std::abort();
}
template <class T>
bool ExtendedRange<T>::any_not_finite(const T*, const Piece&) {
  std::abort();
}
template <class T>
bool ExtendedRange<T>::all_equal(const T*, const Piece&) {
  std::abort();
}
template <class T>
bool ExtendedRange<T>::loses_products(const BackwardOperands<T>&, const Piece&, E) {
  std::abort();
}
template <class T>
void ExtendedRange<T>::row_forward(const RowsForward<T>&, const T*, std::int64_t, std::int64_t) {
  std::abort();
}
template <class T>
void ExtendedRange<T>::row_parameters(const RowsBackward<T>&, std::int64_t, std::int64_t, Wide<T>*,
                                      Wide<T>*) {
  std::abort();
}
template <class T>
void ExtendedRange<T>::window_forward(const T*, T*, const Positions&, const Window&) {
  std::abort();
}
template <class T>
void ExtendedRange<T>::window_backward(const T*, const T*, T*, const Positions&, const Window&) {
  std::abort();
}

#define EVENKEEL_COUNTING(T)                            \
  template const Planes<T>& planes();                   \
  template const Columns<T>& columns();                 \
  template const ShortPlanes<T>& short_planes();        \
  template const RowsForwardTable<T>& rows_forward();   \
  template const RowsBackwardTable<T>& rows_backward(); \
  template const WindowsAcross<T>& windows_across();    \
  template const WindowsAlong<T>& windows_along();      \
  template struct ExtendedRange<T>;
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_COUNTING)
#undef EVENKEEL_COUNTING

}  // namespace kernels
}  // namespace evenkeel
