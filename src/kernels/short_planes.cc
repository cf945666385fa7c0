// Kernels for short planes. Rows are the outer loop, in the order of memory; a plane's coefficients
// are in registers, its sums wait in L1.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/short_planes.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>
#include <cstring>

#include "src/kernels/activation-inl.h"
#include "src/kernels/dispatch.h"
#include "src/kernels/short_planes.h"
#include "src/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {
namespace {

using kernels::kMaxPivotRows;
using kernels::kMaxPlaneChannels;
using kernels::kMaxRowValues;
using kernels::PlaneBlock;

// Additions that a lane goes through in P before the sums are added up in double: as many as those
// of a column.
inline constexpr std::int64_t kAdditionsInP = 64;

// Two sums per channel, s and t: body(lanes, at, constants_of(channel), s, t) adds what the vector
// at `at` in memory contributes; set(channel, s, t) takes the totals.
template <class T, class ConstantsOf, class Body, class Set>
HWY_INLINE void sum_planes(const PlaneBlock& block, const ConstantsOf& constants_of,
                           const Body& body, const Set& set) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN P s_sum[kMaxPlaneChannels * hn::MaxLanes(d)];
  HWY_ALIGN P t_sum[kMaxPlaneChannels * hn::MaxLanes(d)];
  double s_total[kMaxPlaneChannels], t_total[kMaxPlaneChannels];
  std::fill_n(s_total, block.channels, 0.0);
  std::fill_n(t_total, block.channels, 0.0);
  const std::int64_t per_plane = (block.inner + lanes - 1) / lanes;
  const std::int64_t additions = (per_plane + 1) / 2 + 1;  // of a plane, to one of two accumulators
  const std::int64_t in_p = std::max<std::int64_t>(1, kAdditionsInP / additions);
  for (std::int64_t begin = 0; begin < block.rows; begin += in_p) {
    std::fill_n(s_sum, block.channels * lanes, P{0});
    std::fill_n(t_sum, block.channels * lanes, P{0});
    for (std::int64_t row = begin; row < std::min(block.rows, begin + in_p); ++row) {
      for (std::int64_t c = 0; c < block.channels; ++c) {
        const auto k = constants_of(c);
        const std::int64_t at = row * block.stride + c * block.inner, end = at + block.inner;
        P* const s_of = s_sum + c * lanes;
        P* const t_of = t_sum + c * lanes;
        // A second pair of accumulators hides the latency of addition.
        auto s0 = hn::Load(d, s_of), t0 = hn::Load(d, t_of);
        auto s1 = hn::Zero(d), t1 = hn::Zero(d);
        std::int64_t i = at;
        for (; i + 2 * lanes <= end; i += 2 * lanes) {
          if constexpr (kInterleaves<T>) {
            body(EvenOrOdd<0>{}, i, k, s0, t0);
            body(EvenOrOdd<1>{}, i, k, s1, t1);
          } else {
            body(Whole{}, i, k, s0, t0);
            body(Whole{}, i + lanes, k, s1, t1);
          }
        }
        for (; i < end; i += lanes) {
          body(Partial{static_cast<std::size_t>(std::min(lanes, end - i))}, i, k, s0, t0);
        }
        hn::Store(hn::Add(s0, s1), d, s_of);
        hn::Store(hn::Add(t0, t1), d, t_of);
      }
    }
    const auto total = [=](const P* sums) HWY_ATTR {
      return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Load(d, sums))));
    };
    for (std::int64_t c = 0; c < block.channels; ++c) {
      s_total[c] += total(s_sum + c * lanes);
      t_total[c] += total(t_sum + c * lanes);
    }
  }
  for (std::int64_t c = 0; c < block.channels; ++c) set(c, s_total[c], t_total[c]);
}

// The mean of the first values of a plane, a 64th of those of the channel or more. From differences
// to the first value, so that equal values have exactly their mean.
template <class T>
HWY_INLINE Wide<T> pivot_of(const T* plane, const PlaneBlock& block) {
  const hn::ScalableTag<Wide<T>> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t least = (block.rows * block.inner + kMaxPivotRows - 1) / kMaxPivotRows;
  const std::int64_t count = std::min(block.inner, (least + lanes - 1) / lanes * lanes);
  const auto first_value = static_cast<Wide<T>>(plane[0]);
  const auto first = hn::Set(d, first_value);
  auto differences = hn::Zero(d);
  for_each_vector(d, count, [=, &differences](auto part, std::int64_t i) HWY_ATTR {
    const auto difference = part.zero_rest(d, hn::Sub(part.load(d, plane + i), first));
    differences = hn::Add(differences, difference);
  });
  return first_value + hn::GetLane(hn::SumOfLanes(d, differences)) / static_cast<Wide<T>>(count);
}

template <class T>
void moments(const T* x, PlaneBlock block, std::int64_t prefetch_distance, Moments* out) {
  using P = Wide<T>;
  const hn::ScalableTag<P> d;
  using V = hn::Vec<decltype(d)>;
  P pivots[kMaxPlaneChannels];
  for (std::int64_t c = 0; c < block.channels; ++c) {
    pivots[c] = pivot_of(x + c * block.inner, block);
  }
  const auto n = static_cast<double>(block.rows * block.inner);
  sum_planes<T>(
      block, [=, &pivots](std::int64_t c) HWY_ATTR { return hn::Set(d, pivots[c]); },
      [=](auto lanes, std::int64_t at, V pivot, V& s, V& t) HWY_ATTR {
        prefetch_to_l2(x + at, prefetch_distance);
        const auto deviation = lanes.zero_rest(d, hn::Sub(lanes.load(d, x + at), pivot));
        s = hn::Add(s, deviation);
        t = hn::MulAdd(deviation, deviation, t);
      },
      [=, &pivots](std::int64_t c, double sum, double squares) {
        out[c] = moments_of_sums(n, static_cast<double>(pivots[c]), sum, squares);
      });
}

template <class T>
void gradient_sums(BackwardOperands<T> whole, PlaneBlock block, const Affine<Wide<T>>* affine,
                   GradientSums* out) {
  const hn::ScalableTag<Wide<T>> d;
  using V = hn::Vec<decltype(d)>;
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    sum_planes<T>(
        block, [=](std::int64_t c) HWY_ATTR { return vectors_of(d, affine[c]); },
        [=](auto lanes, std::int64_t at, const AffineVectors<V>& a, V& dy, V& dy_x)
            HWY_ATTR { add_gradient(epilogue, lanes, d, operands, at, a, dy, dy_x); },
        [=](std::int64_t c, double dy, double dy_x) {
          out[c] = {dy, dy_x};
        });
  });
}

// put(lanes, i, value(lanes, i)) for the vectors of a plane. The last vector overlaps the one
// before it, since partial stores are slow. Its value is taken first: an output may be an input.
template <bool interleaved, class D, class Value, class Put>
HWY_INLINE void for_each_overlapping(D d, std::int64_t count, const Value& value, const Put& put) {
  using Lanes = std::conditional_t<interleaved, Interleaved, Whole>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d)),
             step = interleaved ? 2 * lanes : lanes;
  const auto at = [=](auto of, std::int64_t i) EVENKEEL_INLINE_LAMBDA {
    return value_of(of, [=](auto part) EVENKEEL_INLINE_LAMBDA { return value(part, i); });
  };
  if (count < step) {
    for (std::int64_t i = 0; i < count; i += lanes) {
      const Partial part{static_cast<std::size_t>(std::min(lanes, count - i))};
      put(part, i, at(part, i));
    }
    return;
  }
  const auto last = at(Lanes{}, count - step);
  for (std::int64_t i = 0; i + step < count; i += step) put(Lanes{}, i, at(Lanes{}, i));
  put(Lanes{}, count - step, last);
}

// Where a row of planes is written: to its place or, since their ends are not those of lines of the
// cache, to L1, from where it is copied past the cache.
template <class T>
class RowOutput {
 public:
  HWY_INLINE RowOutput(T* data, bool non_temporal)
      : data_(data), staged_(kStreams<T> && non_temporal && data) {}

  HWY_INLINE T* begin(std::int64_t offset) {
    if (staged_) return reinterpret_cast<T*>(stage_);
    return data_ ? data_ + offset : nullptr;
  }
  HWY_INLINE void end(std::int64_t offset, std::int64_t count) const {
    if (!staged_) return;
    const hn::ScalableTag<std::uint8_t> d;
    auto* const to = reinterpret_cast<std::uint8_t*>(data_ + offset);
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t first = std::min(misaligned(to, 64), bytes);
    const std::int64_t last = first + (bytes - first) / 64 * 64;
    std::memcpy(to, stage_, static_cast<std::size_t>(first));
    for (std::int64_t i = first; i < last; i += static_cast<std::int64_t>(hn::Lanes(d))) {
      hn::Stream(hn::LoadU(d, stage_ + i), d, to + i);
    }
    std::memcpy(to + last, stage_ + last, static_cast<std::size_t>(bytes - last));
  }

 private:
  T* data_;
  bool staged_;
  // Not an array of T, whose constructor would clear it.
  alignas(64) unsigned char stage_[kMaxRowValues * sizeof(T)];
};

template <class T>
void forward(ForwardOperands<T> whole, PlaneBlock block, const Affine<Wide<T>>* affine) {
  const hn::ScalableTag<Wide<T>> d;
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    RowOutput<T> y(operands.y, operands.non_temporal);
    for (std::int64_t row = 0; row < block.rows; ++row) {
      T* const y_row = y.begin(row * block.stride);
      for (std::int64_t c = 0; c < block.channels; ++c) {
        const auto a = vectors_of(d, affine[c]);
        const std::int64_t at = row * block.stride + c * block.inner;
        T* const to = y_row + c * block.inner;
        for_each_overlapping<kInterleaves<T>>(
            d, block.inner,
            [=](auto lanes, std::int64_t i) EVENKEEL_INLINE_LAMBDA {
              return normalized(epilogue, lanes, d, operands, at + i, a);
            },
            [=](auto lanes, std::int64_t i, const auto& v)
                EVENKEEL_INLINE_LAMBDA { lanes.store(v, d, to + i); });
      }
      y.end(row * block.stride, block.channels * block.inner);
    }
  });
}

template <class T>
void backward(BackwardOperands<T> whole, PlaneBlock block, const Affine<Wide<T>>* affine,
              const GradientAffine<Wide<T>>* gradient) {
  const hn::ScalableTag<Wide<T>> d;
  with_epilogue(d, whole, [&](auto epilogue, const auto& operands) HWY_ATTR {
    RowOutput<T> dx(operands.dx, operands.non_temporal);
    RowOutput<T> dresidual(operands.dresidual, operands.non_temporal);
    for (std::int64_t row = 0; row < block.rows; ++row) {
      const std::int64_t row_at = row * block.stride;
      T* const dx_row = dx.begin(row_at);
      T* const dresidual_row = dresidual.begin(row_at);
      for (std::int64_t c = 0; c < block.channels; ++c) {
        const auto a = vectors_of(d, affine[c]);
        const auto g = vectors_of(d, gradient[c]);
        const std::int64_t of_plane = c * block.inner, at = row_at + of_plane;
        for_each_overlapping<kInterleaves<T>>(
            d, block.inner,
            [=](auto lanes, std::int64_t i) EVENKEEL_INLINE_LAMBDA {
              return input_gradients(epilogue, lanes, d, operands, at + i, a, g);
            },
            [=](auto lanes, std::int64_t i, const auto& of) EVENKEEL_INLINE_LAMBDA {
              if (operands.wants_dx()) lanes.store(of.dx, d, dx_row + of_plane + i);
              if (operands.wants_dresidual())
                lanes.store(of.dresidual, d, dresidual_row + of_plane + i);
            });
      }
      dx.end(row_at, block.channels * block.inner);
      dresidual.end(row_at, block.channels * block.inner);
    }
  });
}

template <class T>
const kernels::ShortPlanes<T>* table() {
  static constexpr kernels::ShortPlanes<T> kTable = {moments<T>, forward<T>, gradient_sums<T>,
                                                     backward<T>};
  return &kTable;
}
EVENKEEL_KERNEL_TABLES(short_planes, ShortPlanes)

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
EVENKEEL_EXPORT_KERNELS(short_planes, ShortPlanes)
#endif
