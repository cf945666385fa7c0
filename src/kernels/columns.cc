// Kernels for columns. Rows are the outer loop, some of them together; coefficients and sums wait
// in L1, in the order of lanes: of columns that are taken Interleaved, the even ones before the odd
// ones.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/columns.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>

#include "src/kernels/activation-inl.h"
#include "src/kernels/columns.h"
#include "src/kernels/dispatch.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::AffineColumns;
using kernels::Block;
using kernels::GradientColumns;
using kernels::kMaxBlockCols;

// Rows accumulated in P before they are added up in double.
inline constexpr std::int64_t kRowsInP = 64;
// One row of so many goes into a pivot: the bound on the loss of accuracy is that of block_moments.
inline constexpr std::int64_t kRowsPerPivot = 64;

template <class Lanes, class D, class P>
HWY_INLINE AffineVectors<hn::Vec<D>> vectors_of(Lanes lanes, D d, const AffineColumns<P>& a,
                                                std::int64_t i) {
  return {lanes.load(d, a.center + i), lanes.load(d, a.scale + i), lanes.load(d, a.offset + i)};
}
template <class Lanes, class D, class P>
HWY_INLINE GradientVectors<hn::Vec<D>> vectors_of(Lanes lanes, D d, const GradientColumns<P>& g,
                                                  std::int64_t i) {
  return {lanes.load(d, g.dy_scale + i), lanes.load(d, g.x_scale + i), lanes.load(d, g.offset + i)};
}

// Coefficients in the order of lanes, copied to `room` if that is not the one of columns.
template <class T>
struct Room {
  HWY_ALIGN Wide<T> arrays[3][kInterleaves<T> ? kMaxBlockCols : 1];
};
template <class T, class Coefficients>
HWY_INLINE Coefficients in_lanes(const Coefficients& of_columns, [[maybe_unused]] std::int64_t cols,
                                 [[maybe_unused]] Room<T>& room) {
  if constexpr (kInterleaves<T>) {
    const hn::ScalableTag<Wide<T>> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto copy = [=](const Wide<T>* from, Wide<T>* to) HWY_ATTR {
      for_each_vector<true>(d, cols, [=](auto of, std::int64_t i) HWY_ATTR {
        if constexpr (is_interleaved<decltype(of)>) {
          hn::Vec<decltype(d)> even, odd;
          hn::LoadInterleaved2(d, from + i, even, odd);
          hn::Store(even, d, to + i);
          hn::Store(odd, d, to + i + lanes);
        } else {
          of.store(of.load(d, from + i), d, to + i);
        }
      });
      return to;
    };
    const auto [first, second, third] = of_columns;
    return {copy(first, room.arrays[0]), copy(second, room.arrays[1]), copy(third, room.arrays[2])};
  } else {
    return of_columns;
  }
}
// Statistics that are in the order of lanes, in that of columns.
template <class T>
HWY_INLINE void to_columns([[maybe_unused]] double* values, [[maybe_unused]] std::int64_t cols) {
  if constexpr (kInterleaves<T>) {
    constexpr auto lanes = static_cast<std::int64_t>(hn::MaxLanes(hn::ScalableTag<Wide<T>>()));
    for (std::int64_t i = 0; i + 2 * lanes <= cols; i += 2 * lanes) {
      double in_lanes[2 * lanes];
      std::copy_n(values + i, 2 * lanes, in_lanes);
      for (std::int64_t k = 0; k < lanes; ++k) {
        values[i + 2 * k] = in_lanes[k];
        values[i + 2 * k + 1] = in_lanes[lanes + k];
      }
    }
  }
}

// The mean of the first rows / 64 rows, rounded up, of each column.
template <class T>
HWY_INLINE void pivots(const T* x, Block block, Wide<T>* mean) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  const std::int64_t rows = (block.rows + kRowsPerPivot - 1) / kRowsPerPivot;
  const auto share = hn::Set(d, P{1} / static_cast<P>(rows));
  for_each_vector<kInterleaves<T>>(d, block.cols, [=](auto of, std::int64_t i) HWY_ATTR {
    for_each_part(of, [=](auto lanes) HWY_ATTR {
      const auto first = lanes.load(d, x + i);
      // Differences, so that equal values have exactly their mean.
      auto differences = hn::Zero(d);
      for (std::int64_t r = 1; r < rows; ++r) {
        differences = hn::Add(differences, hn::Sub(lanes.load(d, x + r * block.stride + i), first));
      }
      lanes.store(rows == 1 ? first : hn::MulAdd(differences, share, first), d, mean + i);
    });
  });
}

// Sums of whole vectors, the last one's too, since parts of vectors take longer.
template <class Lanes>
HWY_INLINE auto padded(Lanes lanes) {
  if constexpr (std::is_same_v<Lanes, Partial>) {
    return Whole{};
  } else {
    return lanes;
  }
}

// Two sums per column, in the order of lanes, s and t: add(lanes, at, i, s, t) adds what column i
// contributes, `at` being its place in memory. So many rows are added while the sums are in
// registers. These rows lie apart, so that they are streams of their own for the hardware's
// prefetcher: a network's tensors, in L3 or in memory, took 1.1 to 1.6 times as long in neighboring
// rows.
template <std::int64_t together, class T, class Add>
HWY_INLINE void sum_columns(Block block, double* s_out, double* t_out, const Add& add) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  HWY_ALIGN P s_sum[kMaxBlockCols];
  HWY_ALIGN P t_sum[kMaxBlockCols];
  std::fill_n(s_out, block.cols, 0.0);
  std::fill_n(t_out, block.cols, 0.0);
  const auto lanes_of_d = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t summed = (block.cols + lanes_of_d - 1) / lanes_of_d * lanes_of_d;
  for (std::int64_t begin = 0; begin < block.rows; begin += kRowsInP) {
    std::fill_n(s_sum, summed, P{0});
    std::fill_n(t_sum, summed, P{0});
    const std::int64_t end = std::min(block.rows, begin + kRowsInP);
    const std::int64_t apart = (end - begin + together - 1) / together;
    for (std::int64_t first = begin; first < begin + apart; ++first) {
      for_each_vector<kInterleaves<T>>(
          d, block.cols, [=, &s_sum, &t_sum, &add](auto of, std::int64_t i) HWY_ATTR {
            for_each_part(of, [=, &s_sum, &t_sum, &add](auto lanes) HWY_ATTR {
              auto s = padded(lanes).load(d, s_sum + i);
              auto t = padded(lanes).load(d, t_sum + i);
#pragma GCC unroll 1
              for (std::int64_t r = first; r < end; r += apart)
                add(lanes, r * block.stride + i, i, s, t);
              padded(lanes).store(s, d, s_sum + i);
              padded(lanes).store(t, d, t_sum + i);
            });
          });
    }
    for (std::int64_t c = 0; c < block.cols; ++c) {
      s_out[c] += static_cast<double>(s_sum[c]);
      t_out[c] += static_cast<double>(t_sum[c]);
    }
  }
}

// Sum d and sum d^2 of each column, with d = x - pivot.
template <class T>
HWY_INLINE void sums(const T* x, Block block, std::int64_t prefetch_distance, const Wide<T>* pivot,
                     double* sum, double* squares) {
  const hn::ScalableTag<Wide<T>> d;
  using V = hn::Vec<decltype(d)>;
  // Loading and storing two sums for each value would be most of the work: with four rows the
  // forward is 1.0 to 1.1 times as fast.
  sum_columns<4, T>(
      block, sum, squares, [=](auto lanes, std::int64_t at, std::int64_t i, V& s, V& t) HWY_ATTR {
        prefetch_to_l2(x + at, prefetch_distance);
        const auto deviation = hn::Sub(lanes.load(d, x + at), lanes.load(d, pivot + i));
        s = hn::Add(s, deviation);
        t = hn::MulAdd(deviation, deviation, t);
      });
}

template <class T>
void moments(const T* x, Block block, std::int64_t prefetch_distance,
             kernels::StatisticColumns out) {
  HWY_ALIGN Wide<T> pivot[kMaxBlockCols];
  HWY_ALIGN double sum[kMaxBlockCols];
  HWY_ALIGN double squares[kMaxBlockCols];
  pivots(x, block, pivot);
  sums(x, block, prefetch_distance, pivot, sum, squares);
  // moments_of_sums, of operands.h, for a vector of columns.
  for (std::int64_t i = 0; i < block.cols; ++i) out.first[i] = static_cast<double>(pivot[i]);
  const hn::ScalableTag<double> d;
  const auto zero = hn::Zero(d), count = hn::Set(d, static_cast<double>(block.rows));
  for_each_vector(d, block.cols, [=, &sum, &squares](auto lanes, std::int64_t i) HWY_ATTR {
    const auto s = lanes.load(d, sum + i);
    const auto offset = hn::Div(s, count);
    const auto m2 = hn::Sub(lanes.load(d, squares + i), hn::Mul(s, offset));
    lanes.store(hn::Add(lanes.load(d, out.first + i), offset), d, out.first + i);
    lanes.store(hn::IfThenElse(hn::Lt(m2, zero), zero, m2), d, out.second + i);
  });
  to_columns<T>(out.first, block.cols);
  to_columns<T>(out.second, block.cols);
}

// Sets the total to the first part, then calls add(part, before, n) for each of the others: of n
// values after `before` others. Parts are the outer loop, so the totals wait in L1.
template <class Add>
HWY_INLINE void merge_parts(const kernels::StatisticColumns& of_parts, const kernels::Parts& parts,
                            const kernels::StatisticColumns& total, const Add& add) {
  std::copy_n(of_parts.first, parts.cols, total.first);
  std::copy_n(of_parts.second, parts.cols, total.second);
  for (std::int64_t p = 1; p < parts.parts; ++p) {
    add(of_parts.from(p * parts.stride), static_cast<double>(p) * parts.count,
        p + 1 < parts.parts ? parts.count : parts.last_count);
  }
}

// Moments::merge for vectors of columns. Squares that leave the range of double are found by the
// test of the total.
void merge_moments(kernels::StatisticColumns of_parts, kernels::Parts parts,
                   kernels::StatisticColumns total) {
  const hn::ScalableTag<double> d;
  merge_parts(of_parts, parts, total,
              [=](kernels::StatisticColumns part, double before, double n) HWY_ATTR {
                const auto share = hn::Set(d, n / (before + n));
                const auto cross = hn::Set(d, before * (n / (before + n)));
                for_each_vector(d, parts.cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
                  const auto mean = lanes.load(d, total.first + i);
                  const auto delta = hn::Sub(lanes.load(d, part.first + i), mean);
                  const auto m2 =
                      hn::Add(lanes.load(d, total.second + i), lanes.load(d, part.second + i));
                  lanes.store(hn::MulAdd(delta, share, mean), d, total.first + i);
                  lanes.store(hn::MulAdd(hn::Mul(delta, delta), cross, m2), d, total.second + i);
                });
              });
}

void merge_sums(kernels::StatisticColumns of_parts, kernels::Parts parts,
                kernels::StatisticColumns total) {
  const hn::ScalableTag<double> d;
  merge_parts(of_parts, parts, total,
              [=](kernels::StatisticColumns part, double /*before*/, double /*n*/) HWY_ATTR {
                for_each_vector(d, parts.cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
                  const auto add = [=](double* to, const double* from) HWY_ATTR {
                    lanes.store(hn::Add(lanes.load(d, to + i), lanes.load(d, from + i)), d, to + i);
                  };
                  add(total.first, part.first);
                  add(total.second, part.second);
                });
              });
}

// An output, which may be null, of a block. It goes past the cache if all its rows start at a line.
template <class T>
HWY_INLINE Output<T> output(T* data, const Block& block, bool non_temporal) {
  return {data,
          non_temporal && data && misaligned(data, kLine<T>) == 0 && block.stride % kLine<T> == 0};
}

// The rows of a block in the order that the forward takes them: by turns from the first and from
// the second half, which are two streams for the hardware's prefetcher: 1.0 to 1.2 times as fast.
// What is stored past the cache is stored in the order of memory. (The backward reads and writes
// three streams or more, and gains nothing.)
struct RowOrder {
  std::int64_t half;  // 0: in order

  RowOrder(const Block& block, bool non_temporal) : half(non_temporal ? 0 : (block.rows + 1) / 2) {}
  std::int64_t operator[](std::int64_t k) const { return half == 0 ? k : k / 2 + (k % 2) * half; }
};

template <class T>
void forward(ForwardOperands<T> whole, Block block, AffineColumns<Wide<T>> affine) {
  const hn::ScalableTag<Wide<T>> d;
  Room<T> room;
  const auto a = in_lanes(affine, block.cols, room);
  const RowOrder rows(block, whole.non_temporal);
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    const auto y = output(operands.y, block, operands.non_temporal);
    for (std::int64_t k = 0; k < block.rows; ++k) {
      const std::int64_t row = rows[k] * block.stride;
      for_each_vector<kInterleaves<T>>(d, block.cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
        const auto value = value_of(lanes, [=](auto part) HWY_ATTR {
          return normalized(epilogue, part, d, operands, row + i, vectors_of(part, d, a, i));
        });
        y.put(lanes, value, d, row + i);
      });
    }
  });
}

template <class T>
void gradient_sums(BackwardOperands<T> whole, Block block, AffineColumns<Wide<T>> affine,
                   double* dy_sum, double* dy_x_sum) {
  const hn::ScalableTag<Wide<T>> d;
  Room<T> room;
  const auto a = in_lanes(affine, block.cols, room);
  using V = hn::Vec<decltype(d)>;
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    // Two rows of two tensors: four streams.
    sum_columns<2, T>(block, dy_sum, dy_x_sum,
                      [=](auto lanes, std::int64_t at, std::int64_t i, V& dy, V& dy_x) HWY_ATTR {
                        add_gradient(epilogue, lanes, d, operands, at, vectors_of(lanes, d, a, i),
                                     dy, dy_x);
                      });
  });
  to_columns<T>(dy_sum, block.cols);
  to_columns<T>(dy_x_sum, block.cols);
}

template <class T>
void backward(BackwardOperands<T> whole, Block block, AffineColumns<Wide<T>> affine,
              GradientColumns<Wide<T>> gradient) {
  const hn::ScalableTag<Wide<T>> d;
  Room<T> room_a, room_g;
  const auto a = in_lanes(affine, block.cols, room_a);
  const auto g = in_lanes(gradient, block.cols, room_g);
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    const auto dx = output(operands.dx, block, operands.non_temporal);
    const auto dresidual = output(operands.dresidual, block, operands.non_temporal);
    for (std::int64_t r = 0; r < block.rows; ++r) {
      for_each_vector<kInterleaves<T>>(d, block.cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
        const std::int64_t at = r * block.stride + i;
        const auto of = value_of(lanes, [=](auto part) HWY_ATTR {
          return input_gradients(epilogue, part, d, operands, at, vectors_of(part, d, a, i),
                                 vectors_of(part, d, g, i));
        });
        if (operands.wants_dresidual()) dresidual.put(lanes, of.dresidual, d, at);
        if (operands.wants_dx()) dx.put(lanes, of.dx, d, at);
      });
    }
  });
}

template <class T>
const kernels::Columns<T>* table() {
  static constexpr kernels::Columns<T> kTable = {moments<T>, merge_moments,    merge_sums,
                                                 forward<T>, gradient_sums<T>, backward<T>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(columns, Columns)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(columns, Columns)
#endif
