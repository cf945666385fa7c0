// What the kernels for windows of channels share.
#if defined(EVENKEEL_SRC_KERNELS_WINDOWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EVENKEEL_SRC_KERNELS_WINDOWS_INL_H_
#undef EVENKEEL_SRC_KERNELS_WINDOWS_INL_H_
#else
#define EVENKEEL_SRC_KERNELS_WINDOWS_INL_H_
#endif

#include "src/kernels/power-inl.h"
#include "src/kernels/simd-inl.h"
#include "src/kernels/windows.h"

HWY_BEFORE_NAMESPACE();
namespace evenkeel {
namespace HWY_NAMESPACE {

// The number of points of a window: a constant for the usual five, so that their sum has no loop.
template <std::int64_t fixed>
struct Points {
  std::int64_t any;
  constexpr operator std::int64_t() const { return fixed > 0 ? fixed : any; }
};

template <class F>
HWY_INLINE kernels::LargestInWindows with_points(const kernels::Window& window, const F& f) {
  if (window.points() == 5) return f(Points<5>{5});
  return f(Points<0>{window.points()});
}

// The largest magnitude of `rows` rows of `cols` values, `stride` apart.
template <class T>
HWY_INLINE Wide<T> largest_of_rows(const T* x, std::int64_t rows, std::int64_t cols,
                                   std::int64_t stride) {
  const hn::ScalableTag<Wide<T>> d;
  auto largest = hn::Zero(d);
  for (std::int64_t r = 0; r < rows; ++r, x += stride) {
    for_each_vector(d, cols, [&largest, d, x](auto lanes, std::int64_t i) HWY_ATTR {
      largest = hn::Max(hn::Abs(lanes.load(d, x + i)), largest);
    });
  }
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

// The largest of the values that are added, lane by lane. NaN does not count (on Arm it may).
template <class D>
struct Largest {
  using V = hn::Vec<D>;
  V lanes;
  explicit HWY_INLINE Largest(D d) : lanes(hn::Zero(d)) {}
  HWY_INLINE void add(V v) { lanes = hn::Max(v, lanes); }
  HWY_INLINE double value(D d) const {
    return static_cast<double>(hn::GetLane(hn::MaxOfLanes(d, lanes)));
  }
};

// `count` rows of values, `stride` apart, in a buffer.
template <class P>
struct BufferRows {
  P* data;
  std::int64_t count, stride;

  // The row of a channel, which that of channel + count takes over.
  HWY_INLINE P* slot(std::int64_t channel) const { return data + channel % count * stride; }
  // The sum over `channels` channels from `first` on.
  template <class Lanes, class D, class Count>
  HWY_INLINE hn::Vec<D> sum(Lanes lanes, D d, std::int64_t first, Count channels,
                            std::int64_t i) const {
    std::int64_t row = first % count;
    auto value = lanes.load(d, data + row * stride + i);
    for (std::int64_t r = 1; r < channels; ++r) {
      row = row + 1 == count ? 0 : row + 1;
      value = hn::Add(value, lanes.load(d, data + row * stride + i));
    }
    return value;
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace evenkeel
HWY_AFTER_NAMESPACE();

#endif
