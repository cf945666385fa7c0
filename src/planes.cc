// Channel passes over planes.
//
// A channel is cut into pieces of at most 4096 values. With enough channels for the threads, one
// thread takes a channel through both passes while it is in cache; while it sums a piece it
// prefetches the next piece, and while it writes a channel, the next channel. With few channels,
// threads share the pieces. Either way the pieces of a channel are merged in order: same result.
#include <algorithm>

#include "src/channels.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

// Values of a piece, and of a block of accumulation: 16 KB of floats.
constexpr std::int64_t kPiece = 4096;

// The channels' runs of s values as pieces: groups of whole runs, or parts of one run.
struct Pieces {
  std::int64_t n, c, s;
  std::int64_t parts = ceil_div(s, kPiece);                   // of a run
  std::int64_t runs = std::max<std::int64_t>(1, kPiece / s);  // in a piece
  std::int64_t per_channel = parts * ceil_div(n, runs);

  kernels::Piece piece(std::int64_t index) const {
    return {std::min(runs, n - index / parts * runs), std::min(kPiece, s - begin(index)), c * s};
  }
  std::int64_t offset(std::int64_t channel, std::int64_t index) const {
    return (index / parts * runs * c + channel) * s + begin(index);
  }
  // The distance from a piece to the one that is summed after it.
  std::int64_t to_next(std::int64_t channel, std::int64_t index) const {
    const bool last = index + 1 == per_channel;
    return offset(channel + (last ? 1 : 0), last ? 0 : index + 1) - offset(channel, index);
  }

 private:
  std::int64_t begin(std::int64_t index) const { return index % parts * kPiece; }  // in the run
};

// For each channel: the parts of its pieces are merged in order, finish(channel, total), then
// apply(channel, piece, ahead) for each piece; `ahead` is the distance to the next channel, if the
// calling thread is to sum it next, or 0.
template <class PartOf, class Finish, class Apply>
void reduce_then_apply(const Pieces& pieces, const PartOf& part_of, const Finish& finish,
                       const Apply& apply) {
  using Part = decltype(part_of(0, 0));
  const std::int64_t channels = pieces.c, per_channel = pieces.per_channel;
  const std::int64_t tasks = channels * per_channel, elements = pieces.n * channels * pieces.s;
  const int threads = threads_for(tasks, elements);
  if (channels >= std::int64_t{4} * threads) {
    parallel_ranges(channels, threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t c = begin; c < end; ++c) {
        Part total;
        for (std::int64_t p = 0; p < per_channel; ++p) total.merge(part_of(c, p));
        finish(c, total);
        const std::int64_t ahead = c + 1 < end ? pieces.s : 0;
        for (std::int64_t p = 0; p < per_channel; ++p) apply(c, p, ahead);
      }
    });
    return;
  }
  Part* parts = scratch<Part>(tasks);
  parallel_for(tasks, threads,
               [&](std::int64_t i, int) { parts[i] = part_of(i / per_channel, i % per_channel); });
  for (std::int64_t c = 0; c < channels; ++c) {
    Part total;
    for (std::int64_t p = 0; p < per_channel; ++p) total.merge(parts[c * per_channel + p]);
    finish(c, total);
  }
  parallel_for(tasks, threads,
               [&](std::int64_t i, int) { apply(i / per_channel, i % per_channel, 0); });
}

// prefetches: whether the next piece is, since x is not in cache.
template <class T>
auto moments_of_pieces(const Pieces& pieces, const T* x, bool prefetches) {
  return [&pieces, x, prefetches, &kernel = kernels::runs<T>()](std::int64_t c, std::int64_t p) {
    return kernel.moments(x + pieces.offset(c, p), pieces.piece(p),
                          prefetches ? pieces.to_next(c, p) : 0);
  };
}

}  // namespace

template <class T>
void PlaneChannels<T>::moments(const T* x, VisitMoments visit) const {
  const Pieces pieces{n, c, s};
  const bool prefetches = exceeds_cache(n * c * s * static_cast<std::int64_t>(sizeof(T)));
  reduce_then_apply(pieces, moments_of_pieces(pieces, x, prefetches), visit,
                    [](std::int64_t, std::int64_t, std::int64_t) {});
}

template <class T>
void PlaneChannels<T>::forward(const ForwardPass<T>& pass, AffineOf<T> affine) const {
  const auto& kernel = kernels::runs<T>();
  auto* coefficients = scratch<Affine<Stat<T>>>(c);
  for (std::int64_t channel = 0; channel < c; ++channel) coefficients[channel] = affine(channel);
  // In the order of memory: run by run.
  const std::int64_t parts = ceil_div(s, kPiece), tasks = n * c * parts;
  parallel_for(tasks, threads_for(tasks, n * c * s), [&](std::int64_t i, int) {
    const std::int64_t run = i / parts, begin = i % parts * kPiece;
    kernel.forward(pass.at(run * s + begin), {1, std::min(kPiece, s - begin), 0},
                   coefficients[run % c]);
  });
}

template <class T>
void PlaneChannels<T>::normalize(const ForwardPass<T>& pass, AffineFromMoments<T> affine) const {
  const auto& kernel = kernels::runs<T>();
  const Pieces pieces{n, c, s};
  auto* coefficients = scratch<Affine<Stat<T>>>(c);
  reduce_then_apply(
      pieces, moments_of_pieces(pieces, pass.x, pass.streams),
      [&](std::int64_t channel, const Moments& m) { coefficients[channel] = affine(channel, m); },
      [&](std::int64_t channel, std::int64_t p, std::int64_t ahead) {
        kernel.forward(pass.at(pieces.offset(channel, p), ahead), pieces.piece(p),
                       coefficients[channel]);
      });
}

template <class T>
void PlaneChannels<T>::gradients(const BackwardPass<T>& pass, AffineOf<T> affine,
                                 GradientFromSums<T> gradient) const {
  const auto& kernel = kernels::runs<T>();
  const Pieces pieces{n, c, s};
  auto* coefficients = scratch<GradientAffine<Stat<T>>>(c);
  reduce_then_apply(
      pieces,
      [&](std::int64_t channel, std::int64_t p) {
        if (!pass.wants_sums) return GradientSums();
        return kernel.gradient_sums(pass.at(pieces.offset(channel, p), pieces.to_next(channel, p)),
                                    pieces.piece(p), affine(channel));
      },
      [&](std::int64_t channel, const GradientSums& sums) {
        coefficients[channel] = gradient(channel, sums);
      },
      [&](std::int64_t channel, std::int64_t p, std::int64_t ahead) {
        if (!pass.dx && !pass.dresidual) return;
        kernel.backward(pass.at(pieces.offset(channel, p), ahead), pieces.piece(p), affine(channel),
                        coefficients[channel]);
      });
}

template struct PlaneChannels<float>;
template struct PlaneChannels<double>;
template struct PlaneChannels<BFloat16>;
template struct PlaneChannels<Float16>;

}  // namespace evenkeel
