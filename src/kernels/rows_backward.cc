// The backward over rows, in two passes over a few rows, the second from cache. With
// g = dy * weight: the sums of g and g * (x - mean) of each row; then
//   dx      = rstd * (g - mean(g) - x^ * mean(g * x^)) + dsum
//   dweight = sum dy * x^               dbias = sum dy
// The parameters' gradients are in the second pass, since their stores would hold up the reading
// of the first: on 8192 x 4096 the reading took 6.7 ms without them, and 11.4 with them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/rows_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>
#include <cmath>

#include "src/kernels/dispatch.h"
#include "src/kernels/extended.h"
#include "src/kernels/row_sums-inl.h"
#include "src/kernels/rows.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

// Rows that are finished together, for which dweight and dbias are loaded and stored once. From
// memory fewer of them are faster.
template <bool non_temporal>
inline constexpr int kTogether = non_temporal ? 2 : 4;

// Whether neighboring rows cannot be written past the cache together: because they start at
// different places of a line; or because their addresses agree in the last 12 bits and a vector is
// less than a line. A processor gathers non-temporal stores into lines, and those to two such rows
// push each other out half filled: with AVX2, 8192 x 4096 took 5.7 times as long.
template <class T>
HWY_INLINE bool rows_collide(std::int64_t cols) {
  const std::int64_t bytes = cols * static_cast<std::int64_t>(sizeof(T));
  return cols % kLine<T> != 0 || (kLanes<Wide<T>> < kLine<T> && bytes % 4096 == 0);
}

// dx = rstd * g + x_scale * x^ + offset, of each row: x_scale is -rstd * mean(g * x^) and offset
// -rstd * mean(g), or 0 if the rows are not centered.
template <class P, int count>
struct RowGradients {
  P x_scale[count], offset[count];
  bool fit;  // whether the sums of all rows can be trusted and the coefficients fit P
};

// x^ of some rows, from their saved statistics.
template <int count, class T>
HWY_INLINE RowAffine<Wide<T>, count> affine_of(const kernels::RowsBackward<T>& args,
                                               std::int64_t row) {
  const double zeros[count] = {};
  RowAffine<Wide<T>, count> affine;
  affine.set(args.mean ? args.mean + row : zeros, args.rstd + row);
  return affine;
}

// The same as the quick test of row_gradients, which some harmless rows do not pass: those of which
// dy or x - mean is 0 everywhere, for example.
template <class T>
HWY_NOINLINE bool rows_fit(const kernels::RowsBackward<T>& args, std::int64_t row, int count,
                           std::int64_t cols, const double* sum_g, const double* sum_g_x,
                           const Wide<T>* x_scale) {
  using P = Wide<T>;
  const auto n = static_cast<double>(cols);
  for (int r = 0; r < count; ++r) {
    const double rstd = args.rstd[row + r];
    if (!kernels::trusted_sums<P>(sum_g[r], sum_g_x[r], n, rstd) &&
        (!std::isfinite(sum_g[r]) || !std::isfinite(sum_g_x[r]) ||
         kernels::ExtendedRange<T>::row_loses_products(args, row + r, cols))) {
      return false;
    }
    // An x_scale that underflowed is one of sums that matter little beside rstd * g.
    if (std::abs(static_cast<double>(x_scale[r])) > kernels::Range<P>::most ||
        !kernels::fits_offset<P>(rstd * sum_g[r] / n)) {
      return false;
    }
  }
  return true;
}

// Adds what vector i of a row contributes to sum g and sum g * (x - center).
template <class T, class Lanes, class D, class V = hn::Vec<D>>
HWY_INLINE void add_to_sums(Lanes lanes, D d, const T* dy, const T* x, const Wide<T>* weight,
                            V center, std::int64_t i, std::int64_t prefetch_distance, V& s, V& t) {
  prefetch_to_l2(dy + i, prefetch_distance);
  prefetch_to_l2(x + i, prefetch_distance);
  const auto deviation = hn::Sub(lanes.load(d, x + i), center);
  const auto g = hn::Mul(lanes.load(d, dy + i), lanes.load(d, weight + i));
  s = hn::Add(s, g);
  t = hn::MulAdd(g, lanes.zero_rest(d, deviation), t);
}

// Of a block.
template <class T>
HWY_INLINE GradientSums block_sums(const T* dy, const T* x, const Wide<T>* weight, Wide<T> center,
                                   std::int64_t count, std::int64_t prefetch_distance) {
  const hn::ScalableTag<Wide<T>> d;
  using V = hn::Vec<decltype(d)>;
  const V v_center = hn::Set(d, center);
  PairOfSums<decltype(d)> sums(d);
  sums.add(d, count, [=](auto lanes, std::int64_t i, V& s, V& t) HWY_ATTR {
    add_to_sums(lanes, d, dy, x, weight, v_center, i, prefetch_distance, s, t);
  });
  return {sums.s(d), sums.t(d)};
}

// From the sums of the rows, with x - center.
template <int count, class T, class P = Wide<T>>
HWY_INLINE RowGradients<P, count> gradients_of(const kernels::RowsBackward<T>& args,
                                               const P* centers, std::int64_t row,
                                               std::int64_t cols, const double* sum_g,
                                               const double* sum_g_x) {
  RowGradients<P, count> gradients;
  gradients.fit = true;
  using Range = kernels::Range<P>;
  const hn::CappedTag<double, count> dd;
  const auto n = hn::Set(dd, static_cast<double>(cols)), most = hn::Set(dd, Range::most);
  const auto least_sum = hn::Mul(n, hn::Set(dd, Range::least_product));
  for (int r = 0; r < count; r += static_cast<int>(hn::Lanes(dd))) {
    const auto rstd = hn::LoadU(dd, args.rstd + row + r);
    const auto g_x = hn::LoadU(dd, sum_g_x + r);
    auto mean_g = hn::Zero(dd), mean_g_x = hn::Div(g_x, n);
    if (args.mean) {
      mean_g = hn::Div(hn::LoadU(dd, sum_g + r), n);
      const auto mean = hn::LoadU(dd, args.mean + row + r);
      mean_g_x = hn::MulAdd(hn::Sub(load_wide(dd, centers + r), mean), mean_g, mean_g_x);
    }
    const auto offset = hn::Neg(hn::Mul(rstd, mean_g));
    const auto x_scale = hn::Neg(hn::Mul(rstd, hn::Mul(rstd, mean_g_x)));
    store_narrow(x_scale, dd, gradients.x_scale + r);
    store_narrow(offset, dd, gradients.offset + r);
    const auto size = hn::Abs(x_scale);
    const auto fit =
        hn::And(hn::And(hn::Ge(size, hn::Set(dd, Range::least_scale)), hn::Le(size, most)),
                hn::And(hn::Ge(hn::Abs(g_x), least_sum), hn::Le(hn::Abs(offset), most)));
    gradients.fit = gradients.fit && hn::AllTrue(dd, fit);
  }
  return gradients;
}

template <bool is_narrow, int count, class T, class P = Wide<T>>
HWY_INLINE RowGradients<P, count> row_gradients(const kernels::RowsBackward<T>& args,
                                                const P* centers, std::int64_t row,
                                                std::int64_t cols, std::int64_t prefetch_distance) {
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  const T* x = args.x + row * cols;
  const T* dy = args.dy + row * cols;
  double sum_g[count], sum_g_x[count];  // the latter with x - center
  if constexpr (is_narrow) {
    V s[count], t[count];
    for (int r = 0; r < count; ++r, x += cols, dy += cols) {
      const V center = hn::Set(d, centers[r]);
      const P* const weight = args.weight + parameters_at(args, row + r, cols);
      V sum = hn::Zero(d), products = sum;
      for_each_vector(d, cols, [&, x, dy](auto lanes, std::int64_t i) HWY_ATTR {
        add_to_sums(lanes, d, dy, x, weight, center, i, prefetch_distance, sum, products);
      });
      s[r] = sum;
      t[r] = products;
    }
    HWY_ALIGN P sums[2][kLanes<P>];
    hn::Store(sums_of_lanes<count>(d, s), d, sums[0]);
    hn::Store(sums_of_lanes<count>(d, t), d, sums[1]);
    std::copy_n(sums[0], count, sum_g);
    std::copy_n(sums[1], count, sum_g_x);
  } else {
    for (int r = 0; r < count; ++r, x += cols, dy += cols) {
      const P* const weight = args.weight + parameters_at(args, row + r, cols);
      GradientSums sums;
      for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
        sums.merge(block_sums(dy + begin, x + begin, weight + begin, centers[r],
                              std::min(kBlock, cols - begin), prefetch_distance));
      }
      sum_g[r] = sums.dy;
      sum_g_x[r] = sums.dy_x;
    }
  }
  auto gradients = gradients_of<count>(args, centers, row, cols, sum_g, sum_g_x);
  if (HWY_UNLIKELY(!gradients.fit)) {
    gradients.fit = rows_fit(args, row, count, cols, sum_g, sum_g_x, gradients.x_scale);
  }
  return gradients;
}

// The coefficients of some of the rows.
template <class P>
struct AffineOf {
  const P *center, *scale, *rest;
};
template <class P>
struct GradientsOf {
  const P *x_scale, *offset;
};

// What `count` rows, which have the same parameters, add to dweight and dbias, and their dx.
template <bool non_temporal, int count, class T>
HWY_INLINE void finish_backward(const kernels::RowsBackward<T>& args,
                                const GradientsOf<Wide<T>>& gradients,
                                const AffineOf<Wide<T>>& affine, std::int64_t row,
                                std::int64_t cols, std::int64_t prefetch_distance) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t at = row * cols;
  const T* const x = args.x + at;
  const T* const dy = args.dy + at;
  const T* const dsum = args.dsum ? args.dsum + at : nullptr;
  const std::int64_t parameters = parameters_at(args, row, cols);
  const P* const weight = args.weight + parameters;
  P* const dweight = args.dweight ? args.dweight + parameters : nullptr;
  P* const dbias = args.dbias ? args.dbias + parameters : nullptr;
  V center[count], scale[count], rest[count], x_scale[count], offset[count];
  for (int r = 0; r < count; ++r) {
    center[r] = hn::Set(d, affine.center[r]);
    scale[r] = hn::Set(d, affine.scale[r]);
    rest[r] = hn::Set(d, affine.rest[r]);
    x_scale[r] = hn::Set(d, gradients.x_scale[r]);
    offset[r] = hn::Set(d, gradients.offset[r]);
  }
  const Output<T> dx{args.dx ? args.dx + at : nullptr, non_temporal};
  const T* const aligned = dx.data ? dx.data : x;
  for_each_vector_aligned<non_temporal>(d, aligned, cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
    const auto v_weight = lanes.load(d, weight + i);
    auto add_weight = hn::Zero(d), add_bias = add_weight;
    if (dweight) add_weight = lanes.load(d, dweight + i);
    if (dbias) add_bias = lanes.load(d, dbias + i);
#pragma GCC unroll 4  // else the constants of the rows stay in memory
    for (int r = 0; r < count; ++r) {
      const std::int64_t j = r * cols + i;
      prefetch_to_l2(x + j, prefetch_distance);
      prefetch_to_l2(dy + j, prefetch_distance);
      const auto v_dy = lanes.load(d, dy + j);
      const auto x_hat = hn::MulAdd(hn::Sub(lanes.load(d, x + j), center[r]), scale[r], rest[r]);
      add_weight = hn::MulAdd(v_dy, x_hat, add_weight);
      add_bias = hn::Add(add_bias, v_dy);
      if (!dx.data) continue;
      const auto g = hn::Mul(v_dy, v_weight);
      auto v = hn::MulAdd(g, scale[r], hn::MulAdd(x_hat, x_scale[r], offset[r]));
      if (dsum) {
        prefetch_to_l2(dsum + j, prefetch_distance);
        v = hn::Add(v, lanes.load(d, dsum + j));
      }
      dx.put(lanes, v, d, j);
    }
    if (dweight) lanes.store(add_weight, d, dweight + i);
    if (dbias) lanes.store(add_bias, d, dbias + i);
  });
}

template <bool is_narrow, class T>
HWY_NOINLINE void backward_one_by_one(const kernels::RowsBackward<T>& args, std::int64_t row,
                                      std::int64_t count, std::int64_t cols);

// The order of a row's sums, and that of the rows in dweight and dbias, do not depend on count.
template <bool non_temporal, bool is_narrow, int count, class T>
HWY_INLINE void backward_few(const kernels::RowsBackward<T>& args, std::int64_t row,
                             std::int64_t cols) {
  using P = Wide<T>;
  const std::int64_t prefetch_distance = distance(non_temporal, count * cols);
  const RowAffine<P, count> affine = affine_of<count>(args, row);
  RowGradients<P, count> gradients = {};
  bool all_fit = affine.fits;
  if (args.dx && all_fit) {
    gradients = row_gradients<is_narrow, count>(args, affine.center, row, cols, prefetch_distance);
    all_fit = gradients.fit;
  }
  if (HWY_UNLIKELY(!all_fit)) {
    if constexpr (count == 1) {
      kernels::ExtendedRange<T>::row_backward(args, row, cols);
    } else {
      backward_one_by_one<is_narrow>(args, row, count, cols);
    }
    return;
  }
  const auto finish = [&](auto together) HWY_ATTR {
    constexpr int n = decltype(together)::value;
    for (int r = 0; r < count; r += n) {
      finish_backward<non_temporal, n>(args, {gradients.x_scale + r, gradients.offset + r},
                                       {affine.center + r, affine.scale + r, affine.rest + r},
                                       row + r, cols, prefetch_distance);
    }
  };
  if (args.groups == 1 && !(non_temporal && rows_collide<T>(cols))) {
    finish(Count<std::min(count, kTogether<non_temporal>)>());
  } else {
    finish(Count<1>());
  }
}

// Rows that are too few, or of which one or more do not fit the kernel.
template <bool is_narrow, class T>
HWY_NOINLINE void backward_one_by_one(const kernels::RowsBackward<T>& args, std::int64_t row,
                                      std::int64_t count, std::int64_t cols) {
  for (std::int64_t r = 0; r < count; ++r) backward_few<false, is_narrow, 1>(args, row + r, cols);
}

template <class T>
void rows_backward(kernels::RowsBackward<T> args, std::int64_t rows, std::int64_t cols) {
  with_flag(args.non_temporal, [&](auto non_temporal) HWY_ATTR {
    std::int64_t r = 0;
    const auto take = [&](auto is_narrow, auto count) HWY_ATTR {
      for (; r + count <= rows; r += count) {
        backward_few<non_temporal.value, is_narrow.value, count.value>(args, r, cols);
      }
    };
    if (cols <= kNarrow<T>) {
      take(std::true_type(), Count<kLanes<Wide<T>>>());
      backward_one_by_one<true>(args, r, rows - r, cols);
    } else {
      take(std::false_type(), Count<kTogether<non_temporal.value>>());
      backward_one_by_one<false>(args, r, rows - r, cols);
    }
  });
}

// Of a piece of a row. Without dx nothing but the statistics is needed.
template <class T>
GradientSums piece_sums(kernels::RowsBackward<T> args, std::int64_t count) {
  const auto affine = affine_of<1>(args, 0);
  return block_sums(args.dy, args.x, args.weight, affine.center[0], count,
                    distance(args.non_temporal, count));
}
template <class T>
bool row_fits(kernels::RowsBackward<T> args, GradientSums sums, std::int64_t cols) {
  const auto affine = affine_of<1>(args, 0);
  if (!affine.fits || !args.dx) return affine.fits;
  const auto gradients = gradients_of<1>(args, affine.center, 0, cols, &sums.dy, &sums.dy_x);
  return gradients.fit || rows_fit(args, 0, 1, cols, &sums.dy, &sums.dy_x, gradients.x_scale);
}
template <class T>
void finish_piece(kernels::RowsBackward<T> args, GradientSums sums, std::int64_t cols,
                  std::int64_t count) {
  const auto affine = affine_of<1>(args, 0);
  const auto gradients = gradients_of<1>(args, affine.center, 0, cols, &sums.dy, &sums.dy_x);
  with_flag(args.non_temporal, [&](auto non_temporal) HWY_ATTR {
    finish_backward<non_temporal.value, 1>(args, {gradients.x_scale, gradients.offset},
                                           {affine.center, affine.scale, affine.rest}, 0, count, 0);
  });
}

template <class P>
bool add_up(const P* parts, std::int64_t count, std::int64_t stride, std::int64_t size, P* total) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t whole = size / lanes * lanes;
  HWY_ALIGN double sums[kernels::kMaxAddUp] = {};
  for (std::int64_t n = 0; n < count; ++n, parts += stride) {
    for (std::int64_t i = 0; i < whole; i += lanes) {
      hn::Store(hn::Add(hn::Load(d, sums + i), load_wide(d, parts + i)), d, sums + i);
    }
    for (std::int64_t i = whole; i < size; ++i) sums[i] += static_cast<double>(parts[i]);
  }
  const hn::ScalableTag<P> dp;
  for (std::int64_t i = 0; i < size; ++i) total[i] = static_cast<P>(sums[i]);
  // The difference of a number and itself is 0, but for NaN and infinity.
  auto differences = hn::Zero(dp);
  for_each_vector(dp, size, [&](auto lanes_of, std::int64_t i) HWY_ATTR {
    const auto v = lanes_of.load(dp, total + i);
    differences = hn::Add(differences, hn::Sub(v, v));
  });
  return hn::GetLane(hn::SumOfLanes(dp, differences)) == 0;
}

template <class T>
const kernels::RowsBackwardTable<T>* table() {
  static constexpr kernels::RowsBackwardTable<T> kTable = {
      rows_backward<T>, add_up<Wide<T>>, piece_sums<T>, row_fits<T>, finish_piece<T>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(rows_backward, RowsBackwardTable)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(rows_backward, RowsBackwardTable)
#endif
