// Channel passes over planes.
//
// A channel is cut into segments of about 64 K values. With enough channels for the threads, one
// thread takes a channel through both passes while it is in cache; with few channels, threads share
// the segments. Either way the segments of a channel are merged in order: same result.
#include <algorithm>

#include "src/channels.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

constexpr std::int64_t kSegment = 65536;

// A channel's n runs of s values as segments: groups of whole runs, or parts of one run.
struct Segments {
  std::int64_t n, c, s;
  std::int64_t parts = std::max<std::int64_t>(1, ceil_div(s, kSegment));  // of a run
  std::int64_t runs = std::max<std::int64_t>(1, kSegment / s);            // in a segment

  std::int64_t per_channel() const { return parts * ceil_div(n, runs); }

  // Calls f(offset, count) for each contiguous piece of a channel's segment.
  template <class F>
  void for_each_piece(std::int64_t channel, std::int64_t segment, const F& f) const {
    const std::int64_t begin = segment % parts * kSegment;
    const std::int64_t count = std::min(kSegment, s - begin);
    const std::int64_t first = segment / parts * runs;
    for (std::int64_t i = first; i < std::min(n, first + runs); ++i) {
      f((i * c + channel) * s + begin, count);
    }
  }
};

// For each channel: total = sum of part(channel, segment) over its segments, in order; then
// finish(channel, total); then apply(channel, segment) for each segment.
template <class Part, class PartOf, class Add, class Finish, class Apply>
void reduce_then_apply(const Segments& segments, const PartOf& part, const Add& add,
                       const Finish& finish, const Apply& apply) {
  const std::int64_t channels = segments.c, per_channel = segments.per_channel();
  const std::int64_t elements = segments.n * channels * segments.s;
  const int threads = threads_for(channels * per_channel, elements);
  if (per_channel == 1 || channels >= std::int64_t{4} * threads) {
    parallel_for(channels, threads, [&](std::int64_t c, int) {
      Part total;
      for (std::int64_t g = 0; g < per_channel; ++g) add(total, part(c, g));
      finish(c, total);
      for (std::int64_t g = 0; g < per_channel; ++g) apply(c, g);
    });
    return;
  }
  Part* parts = scratch<Part>(channels * per_channel);
  parallel_for(channels * per_channel, threads,
               [&](std::int64_t i, int) { parts[i] = part(i / per_channel, i % per_channel); });
  for (std::int64_t c = 0; c < channels; ++c) {
    Part total;
    for (std::int64_t g = 0; g < per_channel; ++g) add(total, parts[c * per_channel + g]);
    finish(c, total);
  }
  parallel_for(channels * per_channel, threads,
               [&](std::int64_t i, int) { apply(i / per_channel, i % per_channel); });
}

template <class T, class Finish, class Apply>
void moments_then_apply(const PlaneChannels<T>& planes, const T* x, const Finish& finish,
                        const Apply& apply) {
  const auto& kernel = kernels::runs<T>();
  const Segments segments{planes.n, planes.c, planes.s};
  const auto part = [&](std::int64_t c, std::int64_t g) {
    Moments m;
    segments.for_each_piece(
        c, g, [&](std::int64_t at, std::int64_t count) { m.merge(kernel.moments(x + at, count)); });
    return m;
  };
  const auto add = [](Moments& total, const Moments& m) { total.merge(m); };
  reduce_then_apply<Moments>(segments, part, add, finish, apply);
}

}  // namespace

template <class T>
void PlaneChannels<T>::moments(const T* x, VisitMoments visit) const {
  moments_then_apply(*this, x, visit, [](std::int64_t, std::int64_t) {});
}

template <class T>
void PlaneChannels<T>::affine(const T* x, T* y, AffineOf<T> affine) const {
  const auto& kernel = kernels::runs<T>();
  const Segments segments{n, c, s};
  const std::int64_t per_channel = segments.per_channel();
  parallel_for(c * per_channel, threads_for(c * per_channel, n * c * s), [&](std::int64_t i, int) {
    const std::int64_t channel = i / per_channel;
    const auto coefficients = affine(channel);
    segments.for_each_piece(channel, i % per_channel, [&](std::int64_t at, std::int64_t count) {
      kernel.affine(x + at, y + at, count, coefficients);
    });
  });
}

template <class T>
void PlaneChannels<T>::normalize(const T* x, T* y, AffineFromMoments<T> affine) const {
  const auto& kernel = kernels::runs<T>();
  const Segments segments{n, c, s};
  auto* coefficients = scratch<Affine<Stat<T>>>(c);
  moments_then_apply(
      *this, x,
      [&](std::int64_t channel, const Moments& m) { coefficients[channel] = affine(channel, m); },
      [&](std::int64_t channel, std::int64_t segment) {
        segments.for_each_piece(channel, segment, [&](std::int64_t at, std::int64_t count) {
          kernel.affine(x + at, y + at, count, coefficients[channel]);
        });
      });
}

template <class T>
void PlaneChannels<T>::gradients(const T* dy, const T* x, T* dx, CenterOf<T> center,
                                 GradientFromSums<T> gradient) const {
  const auto& kernel = kernels::runs<T>();
  const Segments segments{n, c, s};
  auto* coefficients = scratch<GradientAffine<Stat<T>>>(c);
  const auto part = [&](std::int64_t channel, std::int64_t segment) {
    GradientSums sums;
    segments.for_each_piece(channel, segment, [&](std::int64_t at, std::int64_t count) {
      const auto piece = kernel.gradient_sums(dy + at, x + at, count, center(channel));
      sums.dy += piece.dy;
      sums.dy_x += piece.dy_x;
    });
    return sums;
  };
  const auto add = [](GradientSums& total, const GradientSums& sums) {
    total.dy += sums.dy;
    total.dy_x += sums.dy_x;
  };
  const auto finish = [&](std::int64_t channel, const GradientSums& sums) {
    coefficients[channel] = gradient(channel, sums);
  };
  const auto apply = [&](std::int64_t channel, std::int64_t segment) {
    if (!dx) return;
    segments.for_each_piece(channel, segment, [&](std::int64_t at, std::int64_t count) {
      kernel.gradient(dy + at, x + at, dx + at, count, coefficients[channel]);
    });
  };
  reduce_then_apply<GradientSums>(segments, part, add, finish, apply);
}

template struct PlaneChannels<float>;
template struct PlaneChannels<double>;

}  // namespace evenkeel
