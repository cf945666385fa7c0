// Channel passes over planes.
//
// A channel is cut into pieces of at most 4096 values; channels that are one short plane each are
// taken together, in pieces of many. With enough groups for the threads, one thread takes a group,
// or as many as a piece has, through both passes while it is in cache; while it sums a piece it
// prefetches the next piece, and while it writes a group, the next group. With few groups, threads
// share the pieces. Either way the partial sums of a channel are merged in order: the same result.
#include "src/kernels/planes.h"

#include <algorithm>

#include "src/base/cache.h"
#include "src/base/parallel.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/kernels/extended.h"
#include "src/kernels/range.h"
#include "src/passes/channels.h"
#include "src/passes/checked.h"
#include "src/passes/short_planes.h"

namespace evenkeel {
namespace {

// Values of a piece, and of a block of accumulation: 16 KB of floats.
constexpr std::int64_t kPiece = 4096;

// The channels' planes of s values as pieces: some whole planes of one channel, a stretch of a
// plane or, where a channel is one short plane, the planes of some neighboring channels.
struct Pieces {
  std::int64_t n, c, s;
  std::int64_t per_plane = ceil_div(s, kPiece);                 // stretches of a plane
  std::int64_t planes = std::max<std::int64_t>(1, kPiece / s);  // in a piece
  std::int64_t per_channel = per_plane * ceil_div(n, planes);
  std::int64_t together = 1;  // channels of a piece

  // For results and coefficients of each channel.
  static Pieces of_channels(std::int64_t n, std::int64_t c, std::int64_t s) {
    Pieces pieces{n, c, s};
    if (n == 1 && s < kShortestPlane) {
      pieces.together =
          std::clamp<std::int64_t>(kernels::kMaxRowValues / s, 1, kernels::kMaxPlaneChannels);
    }
    return pieces;
  }
  // The planes of all samples, in the order of memory.
  static Pieces in_memory(std::int64_t n, std::int64_t c, std::int64_t s) {
    return n == 1 ? of_channels(1, c, s) : Pieces{1, n * c, s};
  }

  kernels::Piece piece(std::int64_t index) const {
    return {std::min(planes, n - index / per_plane * planes), std::min(kPiece, s - begin(index)),
            c * s};
  }
  std::int64_t offset(std::int64_t channel, std::int64_t index) const {
    return (index / per_plane * planes * c + channel) * s + begin(index);
  }
  // The piece of neighboring channels.
  PlaneTile tile(std::int64_t channel, std::int64_t channels, std::int64_t bytes) const {
    return {channel, channel * s, {1, channels, s, 0}, kPrefetchBytes / bytes};
  }
  // All of a channel's values, from its first plane on.
  kernels::Piece whole_channel() const { return {n, s, c * s}; }
  // The distance from a piece to the one that is summed after it.
  std::int64_t to_next(std::int64_t channel, std::int64_t index) const {
    const bool last = index + 1 == per_channel;
    return offset(channel + (last ? 1 : 0), last ? 0 : index + 1) - offset(channel, index);
  }

  int threads() const { return threads_for(c * per_channel, n * c * s); }

  // Calls f(channel, channels, index) for the pieces of a range of channels.
  template <class F>
  void for_each(std::int64_t begin_channel, std::int64_t end_channel, const F& f) const {
    for (std::int64_t first = begin_channel; first < end_channel; first += together) {
      const std::int64_t channels = std::min(together, end_channel - first);
      for (std::int64_t p = 0; p < per_channel; ++p) f(first, channels, p);
    }
  }
  // The same for those of all channels, shared by threads.
  template <class F>
  void for_each_parallel(const F& f) const {
    parallel_for(ceil_div(c, together) * per_channel, threads(), [&](std::int64_t i) {
      const std::int64_t first = i / per_channel * together;
      f(first, std::min(together, c - first), i % per_channel);
    });
  }

 private:
  std::int64_t begin(std::int64_t index) const { return index % per_plane * kPiece; }  // in a plane
};

// For each group: sum(channel, channels, index, partials) for the pieces of its `summed` channels,
// which sets a partial result for each channel of the piece. Those of a channel are merged in order
// to one total; then finish(group, totals); then apply(channel, channels, index, distance) for the
// pieces of its `written` channels. `distance` is that to the groups that the calling thread sums
// next, or 0.
template <class Partial, class Sum, class Finish, class Apply>
void reduce_then_apply(std::int64_t groups, const Pieces& summed, const Pieces& written,
                       const Sum& sum, const Finish& finish, const Apply& apply) {
  const std::int64_t sums = summed.c / groups, writes = written.c / groups;  // channels of a group
  // totals[i] of channel first + i, from partial results in the order of pieces.
  const auto merge = [&](const Partial* partials, std::int64_t channels, Partial* totals) {
    for (std::int64_t i = 0; i < channels; ++i) {
      totals[i] = Partial();
      for (std::int64_t p = 0; p < summed.per_channel; ++p) {
        totals[i].merge(partials[i * summed.per_channel + p]);
      }
    }
  };
  const std::int64_t partial_results = summed.c * summed.per_channel;
  const int threads = summed.threads();
  if (groups >= std::int64_t{4} * threads) {
    const std::int64_t most = sums == 1 ? summed.together : 1;  // groups at a time
    parallel_ranges(groups, threads, [&](std::int64_t begin, std::int64_t end) {
      auto* const partials =
          scratch<Partial, Scratch::tile_partials>(most * sums * (summed.per_channel + 1));
      Partial* const totals = partials + most * sums * summed.per_channel;
      for (std::int64_t group = begin; group < end; group += most) {
        const std::int64_t next = std::min(end, group + most), first = group * sums;
        summed.for_each(first, next * sums,
                        [&](std::int64_t c, std::int64_t channels, std::int64_t p) {
                          sum(c, channels, p, partials + (c - first) * summed.per_channel + p);
                        });
        merge(partials, (next - group) * sums, totals);
        for (std::int64_t g = group; g < next; ++g) finish(g, totals + (g - group) * sums);
        const std::int64_t distance = next < end ? (next - group) * writes * written.s : 0;
        written.for_each(group * writes, next * writes,
                         [&](std::int64_t c, std::int64_t channels, std::int64_t p) {
                           apply(c, channels, p, distance);
                         });
      }
    });
    return;
  }
  auto* const partials = scratch<Partial, Scratch::partials>(partial_results);
  summed.for_each_parallel([&](std::int64_t c, std::int64_t channels, std::int64_t p) {
    sum(c, channels, p, partials + c * summed.per_channel + p);
  });
  parallel_for(groups, threads, [&](std::int64_t group) {
    auto* const totals = scratch<Partial, Scratch::tile_partials>(sums);
    merge(partials + group * sums * summed.per_channel, sums, totals);
    finish(group, totals);
  });
  written.for_each_parallel(
      [&](std::int64_t c, std::int64_t channels, std::int64_t p) { apply(c, channels, p, 0); });
}

// The planes of a group's channels are contiguous: its moments are those of one longer plane.
Pieces summed_pieces(std::int64_t n, std::int64_t c, std::int64_t s, std::int64_t group) {
  return group == 1 ? Pieces::of_channels(n, c, s) : Pieces{n, c / group, group * s};
}

// Of a piece. prefetches: whether the next piece is prefetched, since x is not in cache.
template <class T>
auto moments_of_pieces(const Pieces& pieces, const T* x, bool prefetches) {
  return [&pieces, x, prefetches, &kernel = kernels::planes<T>()](
             std::int64_t c, std::int64_t channels, std::int64_t p, Moments* out) {
    if (pieces.together > 1) {
      return sum_moments(x, pieces.tile(c, channels, sizeof(T)), prefetches, out);
    }
    *out = kernel.moments(x + pieces.offset(c, p), pieces.piece(p),
                          prefetches ? pieces.to_next(c, p) : 0);
  };
}
template <class T>
auto gradient_sums_of_pieces(const Pieces& pieces, const BackwardOperands<T>& operands,
                             const ChannelAffine<T>* affine) {
  return [&pieces, &operands, affine, &kernel = kernels::planes<T>()](
             std::int64_t c, std::int64_t channels, std::int64_t p, GradientSums* out) {
    if (pieces.together > 1) {
      return sum_gradients(operands, pieces.tile(c, channels, sizeof(T)), affine, out);
    }
    *out = kernel.gradient_sums(operands.at(pieces.offset(c, p), pieces.to_next(c, p)),
                                pieces.piece(p), kernels::rounded<Wide<T>>(affine[c]));
  };
}

template <class T>
void write_piece(const ForwardOperands<T>& operands, const kernels::Piece& piece,
                 const ChannelAffine<T>& affine) {
  using P = Wide<T>;
  if (kernels::fits<P>(affine)) {
    kernels::planes<T>().forward(operands, piece, kernels::rounded<P>(affine));
  } else {
    kernels::ExtendedRange<T>::forward(operands, piece, affine);
  }
}
template <class T>
void write_piece(const BackwardOperands<T>& operands, const kernels::Piece& piece,
                 const ChannelAffine<T>& affine, const ChannelGradient<T>& gradient) {
  using P = Wide<T>;
  if (kernels::fits<P>(gradient, affine)) {
    kernels::planes<T>().backward(operands, piece, kernels::rounded<P>(affine),
                                  kernels::rounded<P>(gradient, affine.center));
  } else {
    kernels::ExtendedRange<T>::backward(operands, piece, affine, gradient);
  }
}

constexpr auto kNoApply = [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {};

// Writes the piece of one or more channels, with the coefficients of all `count` channels. (Pieces
// of several samples' planes have a channel for each of these.)
template <class T>
auto forward_of_pieces(const Pieces& pieces, const ForwardOperands<T>& operands, std::int64_t count,
                       const ChannelAffine<T>* affine) {
  return [&pieces, &operands, count, affine](std::int64_t c, std::int64_t channels, std::int64_t p,
                                             std::int64_t distance) {
    if (pieces.together > 1) {
      return write_forward(operands, pieces.tile(c, channels, sizeof(T)), distance, affine);
    }
    write_piece(operands.at(pieces.offset(c, p), distance), pieces.piece(p), affine[c % count]);
  };
}
template <class T>
auto gradients_of_pieces(const Pieces& pieces, const BackwardOperands<T>& operands,
                         std::int64_t count, const ChannelAffine<T>* affine,
                         const ChannelGradient<T>* gradient) {
  return [&pieces, &operands, count, affine, gradient](std::int64_t c, std::int64_t channels,
                                                       std::int64_t p, std::int64_t distance) {
    if (pieces.together > 1) {
      return write_gradients(operands, pieces.tile(c, channels, sizeof(T)), distance, affine,
                             gradient);
    }
    write_piece(operands.at(pieces.offset(c, p), distance), pieces.piece(p), affine[c % count],
                gradient[c % count]);
  };
}

}  // namespace

template <class T>
void Planes<T>::moments(const T* x, VisitMoments<T> visit) const {
  const Pieces summed = summed_pieces(n_, c_, s_, group_);
  const bool prefetches = exceeds_cache(n_ * c_ * s_ * static_cast<std::int64_t>(sizeof(T)));
  reduce_then_apply<Moments>(
      summed.c, summed, summed, moments_of_pieces(summed, x, prefetches),
      [&](std::int64_t group, const Moments* m) {
        visit(group, checked_moments(x + group * summed.s, summed.whole_channel(), *m, 0));
      },
      kNoApply);
}

template <class T>
void Planes<T>::forward(const ForwardOperands<T>& operands, const ChannelAffine<T>* affine) const {
  const Pieces planes = Pieces::in_memory(n_, c_, s_);
  const auto write = forward_of_pieces(planes, operands, c_, affine);
  planes.for_each_parallel(
      [&](std::int64_t c, std::int64_t channels, std::int64_t p) { write(c, channels, p, 0); });
}

template <class T>
void Planes<T>::normalize(const ForwardOperands<T>& operands, double eps,
                          AffineFromMoments<T> affine) const {
  const Pieces summed = summed_pieces(n_, c_, s_, group_);
  const auto written = Pieces::of_channels(n_, c_, s_);
  auto* const coefficients = scratch<ChannelAffine<T>, Scratch::affine>(c_);
  reduce_then_apply<Moments>(
      summed.c, summed, written, moments_of_pieces(summed, operands.x, operands.non_temporal),
      [&](std::int64_t group, const Moments* m) {
        affine(group,
               checked_moments(operands.x + group * summed.s, summed.whole_channel(), *m, eps),
               coefficients + group * group_);
      },
      forward_of_pieces(written, operands, c_, coefficients));
}

template <class T>
void Planes<T>::gradient_sums(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                              ChannelSums<T>* sums) const {
  const auto pieces = Pieces::of_channels(n_, c_, s_);
  reduce_then_apply<GradientSums>(
      c_, pieces, pieces, gradient_sums_of_pieces(pieces, operands, affine),
      [&](std::int64_t c, const GradientSums* total) {
        sums[c] = checked_sums(operands.at(c * s_), pieces.whole_channel(), affine[c], *total);
      },
      kNoApply);
}

template <class T>
void Planes<T>::backward(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                         const ChannelGradient<T>* gradient) const {
  const Pieces planes = Pieces::in_memory(n_, c_, s_);
  const auto write = gradients_of_pieces(planes, operands, c_, affine, gradient);
  planes.for_each_parallel(
      [&](std::int64_t c, std::int64_t channels, std::int64_t p) { write(c, channels, p, 0); });
}

template <class T>
void Planes<T>::gradients(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                          GradientFromSums<T> gradient) const {
  const auto pieces = Pieces::of_channels(n_, c_, s_);
  auto* const coefficients = scratch<ChannelGradient<T>, Scratch::gradient>(c_);
  reduce_then_apply<GradientSums>(
      c_ / group_, pieces, pieces, gradient_sums_of_pieces(pieces, operands, affine),
      [&](std::int64_t group, const GradientSums* totals) {
        const std::int64_t first = group * group_;
        auto* const sums = scratch<ChannelSums<T>, Scratch::checked_sums>(group_);
        for (std::int64_t k = 0; k < group_; ++k) {
          sums[k] = checked_sums(operands.at((first + k) * s_), pieces.whole_channel(),
                                 affine[first + k], totals[k]);
        }
        gradient(group, sums, coefficients + first);
      },
      gradients_of_pieces(pieces, operands, c_, affine, coefficients));
}

#define EVENKEEL_INSTANTIATE(T) template class Planes<T>;
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
