// LayerNorm's backward, two passes over a few rows (the second from cache). With g = dy * weight:
// the sums of g and g * (x - mean) of each row; then
//   dx      = rstd * (g - mean(g) - x^ * mean(g * x^)) + dsum
//   dweight = sum dy * x^               dbias = sum dy
// The parameters' gradients are in the second pass, since their stores would hold up the reading
// of the first: on 8192 x 4096 the reading took 6.7 ms without them, and 11.4 with them.
#if defined(EVENKEEL_SRC_KERNELS_ROWS_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_ROWS_BACKWARD_INL_H_
#undef EVENKEEL_SRC_KERNELS_ROWS_BACKWARD_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_ROWS_BACKWARD_INL_H_
#endif

#include <algorithm>

#include "src/kernels/kernels.h"
#include "src/kernels/row_sums-inl.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

// Rows that are finished together, for which dweight and dbias are loaded and stored once. From
// memory fewer streams are faster.
template <bool streams>
inline constexpr int kTogether = streams ? 2 : 4;

// dx = rstd * g + x_scale * x^ + shift, of each row: x_scale is -rstd * mean(g * x^) and shift
// -rstd * mean(g).
template <class P, int count>
struct RowGradients {
  P x_scale[count], shift[count];
};

template <bool has_weight, bool is_narrow, int count, class T, class P = Stat<T>>
HWY_INLINE RowGradients<P, count> row_gradients(const kernels::RowsBackward<T>& args,
                                                std::int64_t row, std::int64_t cols,
                                                std::int64_t ahead) {
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  const T* const x = args.x + row * cols;
  const T* const dy = args.dy + row * cols;
  const P* const weight = args.weight;
  const auto add = [=](auto lanes, std::int64_t i, std::int64_t r, V center, V& s, V& t) HWY_ATTR {
    const std::int64_t j = r * cols + i;
    prefetch_to_l2(dy + j, ahead);
    prefetch_to_l2(x + j, ahead);
    const auto deviation = hn::Sub(lanes.load(d, x + j), center);
    auto g = lanes.load(d, dy + j);
    if constexpr (has_weight) g = hn::Mul(g, lanes.load(d, weight + i));
    s = hn::Add(s, g);
    t = hn::MulAdd(g, lanes.zero_rest(d, deviation), t);
  };
  double sum_g[count], sum_g_x[count];  // the latter with x - mean
  if constexpr (is_narrow) {
    V s[count], t[count];
    for (int r = 0; r < count; ++r) {
      const V center = hn::Set(d, args.mean[row + r]);
      V sum = hn::Zero(d), products = sum;
      for_each_vector(d, cols, [&](auto lanes, std::int64_t i) HWY_ATTR {
        add(lanes, i, r, center, sum, products);
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
    for (int r = 0; r < count; ++r) {
      const V center = hn::Set(d, args.mean[row + r]);
      sum_g[r] = sum_g_x[r] = 0;
      for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
        PairOfSums<decltype(d)> sums(d);
        sums.add(d, std::min(kBlock, cols - begin),
                 [&](auto lanes, std::int64_t i, V& s, V& t)
                     HWY_ATTR { add(lanes, begin + i, r, center, s, t); });
        sum_g[r] += sums.s(d);
        sum_g_x[r] += sums.t(d);
      }
    }
  }
  RowGradients<P, count> gradients;
  const auto features = static_cast<double>(cols);
  for (int r = 0; r < count; ++r) {
    const double rstd = args.rstd[row + r];
    gradients.x_scale[r] = static_cast<P>(-rstd * (rstd * (sum_g_x[r] / features)));
    gradients.shift[r] = static_cast<P>(-rstd * (sum_g[r] / features));
  }
  return gradients;
}

// What `count` rows add to dweight and dbias, and their dx.
template <bool has_weight, bool wants_parameters, bool streams, int count, class T>
HWY_INLINE void finish_backward(const kernels::RowsBackward<T>& args, const Stat<T>* x_scale,
                                const Stat<T>* shift, std::int64_t row, std::int64_t cols,
                                std::int64_t ahead) {
  using P = Stat<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t at = row * cols;
  const T* const x = args.x + at;
  const T* const dy = args.dy + at;
  const T* const dsum = args.dsum ? args.dsum + at : nullptr;
  const P* const weight = args.weight;
  P* const dweight = args.dweight;
  P* const dbias = args.dbias;
  V center[count], scale[count], v_x_scale[count], v_shift[count];
  for (int r = 0; r < count; ++r) {
    center[r] = hn::Set(d, args.mean[row + r]);
    scale[r] = hn::Set(d, args.rstd[row + r]);
    v_x_scale[r] = hn::Set(d, x_scale[r]);
    v_shift[r] = hn::Set(d, shift[r]);
  }
  const Output<T> dx{args.dx ? args.dx + at : nullptr, streams};
  const T* const aligned = dx.data ? dx.data : x;
  for_each_vector_aligned(d, aligned, cols, [=](auto lanes, std::int64_t i) HWY_ATTR {
    auto add_weight = hn::Zero(d), add_bias = add_weight, v_weight = add_weight;
    if constexpr (has_weight) v_weight = lanes.load(d, weight + i);
    if constexpr (wants_parameters) {
      add_weight = lanes.load(d, dweight + i);
      add_bias = lanes.load(d, dbias + i);
    }
#pragma GCC unroll 4  // else the constants of the rows stay in memory
    for (int r = 0; r < count; ++r) {
      const std::int64_t j = r * cols + i;
      prefetch_to_l2(x + j, ahead);
      prefetch_to_l2(dy + j, ahead);
      const auto v_dy = lanes.load(d, dy + j);
      const auto x_hat = hn::Mul(hn::Sub(lanes.load(d, x + j), center[r]), scale[r]);
      if constexpr (wants_parameters) {
        add_weight = hn::MulAdd(v_dy, x_hat, add_weight);
        add_bias = hn::Add(add_bias, v_dy);
      }
      if (!dx.data) continue;
      auto g = v_dy;
      if constexpr (has_weight) g = hn::Mul(g, v_weight);
      auto v = hn::MulAdd(g, scale[r], hn::MulAdd(x_hat, v_x_scale[r], v_shift[r]));
      if (dsum) {
        prefetch_to_l2(dsum + j, ahead);
        v = hn::Add(v, lanes.load(d, dsum + j));
      }
      dx.put(lanes, v, d, j);
    }
    if constexpr (wants_parameters) {
      lanes.store(add_weight, d, dweight + i);
      lanes.store(add_bias, d, dbias + i);
    }
  });
}

// The order of a row's sums, and that of the rows in dweight and dbias, do not depend on count.
template <bool has_weight, bool wants_parameters, bool streams, bool is_narrow, int count, class T>
HWY_INLINE void backward_few(const kernels::RowsBackward<T>& args, std::int64_t row,
                             std::int64_t cols) {
  const std::int64_t ahead = distance(streams, count * cols);
  RowGradients<Stat<T>, count> gradients = {};
  if (args.dx) {
    gradients = row_gradients<has_weight, is_narrow, count>(args, row, cols, ahead);
  }
  const auto finish = [&](auto together) HWY_ATTR {
    constexpr int n = decltype(together)::value;
    for (int r = 0; r < count; r += n) {
      finish_backward<has_weight, wants_parameters, streams, n>(
          args, gradients.x_scale + r, gradients.shift + r, row + r, cols, ahead);
    }
  };
  // Rows that start at different places of a line cannot be streamed together.
  if (!streams || cols % kLine<T> == 0) {
    finish(Count<std::min(count, kTogether<streams>)>());
  } else {
    finish(Count<1>());
  }
}

template <class T>
void rows_backward(kernels::RowsBackward<T> args, std::int64_t rows, std::int64_t cols) {
  const auto run = [&](auto weight, auto parameters, auto streams) HWY_ATTR {
    std::int64_t r = 0;
    const auto take = [&](auto is_narrow, auto count) HWY_ATTR {
      for (; r + count <= rows; r += count) {
        backward_few<weight.value, parameters.value, streams.value, is_narrow.value, count.value>(
            args, r, cols);
      }
    };
    if (cols <= kNarrow<T>) {
      take(std::true_type(), Count<kLanes<Stat<T>>>());
      take(std::true_type(), Count<1>());
    }
    take(std::false_type(), Count<kTogether<streams.value>>());
    take(std::false_type(), Count<1>());
  };
  with_flag(args.weight != nullptr, [&](auto weight) HWY_ATTR {
    with_flag(args.dweight != nullptr, [&](auto parameters) HWY_ATTR {
      with_flag(args.streams, [&](auto streams) HWY_ATTR { run(weight, parameters, streams); });
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
