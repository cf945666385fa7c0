// Channel passes over planes.
//
// A channel is cut into pieces of at most 4096 values. With enough groups for the threads, one
// thread takes a group through both passes while it is in cache; while it sums a piece it
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

namespace evenkeel {
namespace {

// Values of a piece, and of a block of accumulation: 16 KB of floats.
constexpr std::int64_t kPiece = 4096;

// The channels' planes of s values as pieces: some whole planes, or a stretch of one plane.
struct Pieces {
  std::int64_t n, c, s;
  std::int64_t per_plane = ceil_div(s, kPiece);                 // stretches of a plane
  std::int64_t planes = std::max<std::int64_t>(1, kPiece / s);  // in a piece
  std::int64_t per_channel = per_plane * ceil_div(n, planes);

  kernels::Piece piece(std::int64_t index) const {
    return {std::min(planes, n - index / per_plane * planes), std::min(kPiece, s - begin(index)),
            c * s};
  }
  std::int64_t offset(std::int64_t channel, std::int64_t index) const {
    return (index / per_plane * planes * c + channel) * s + begin(index);
  }
  // All of a channel's values, from its first plane on.
  kernels::Piece whole_channel() const { return {n, s, c * s}; }
  // The distance from a piece to the one that is summed after it.
  std::int64_t to_next(std::int64_t channel, std::int64_t index) const {
    const bool last = index + 1 == per_channel;
    return offset(channel + (last ? 1 : 0), last ? 0 : index + 1) - offset(channel, index);
  }

 private:
  std::int64_t begin(std::int64_t index) const { return index % per_plane * kPiece; }  // in a plane
};

// For each group: sum(channel, piece) for the pieces of its `summed` channels, merged in order to
// one total per channel; finish(group, totals); then apply(channel, piece, distance) for the pieces
// of its `written` channels. `distance` is that to the next group, if the calling thread is to sum
// it next, or 0.
template <class Partial, class Sum, class Finish, class Apply>
void reduce_then_apply(std::int64_t groups, const Pieces& summed, const Pieces& written,
                       const Sum& sum, const Finish& finish, const Apply& apply) {
  const std::int64_t sums = summed.c / groups, writes = written.c / groups;  // channels of a group
  const auto merge_and_finish = [&](std::int64_t group, const auto& partial) {
    auto* const totals = scratch<Partial, Scratch::tile_partials>(sums);
    std::fill_n(totals, sums, Partial());
    for (std::int64_t c = 0; c < sums; ++c) {
      for (std::int64_t p = 0; p < summed.per_channel; ++p) {
        totals[c].merge(partial(group * sums + c, p));
      }
    }
    finish(group, totals);
  };
  const std::int64_t tasks = summed.c * summed.per_channel;
  const int threads = threads_for(tasks, summed.n * summed.c * summed.s);
  if (groups >= std::int64_t{4} * threads) {
    parallel_ranges(groups, threads, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t group = begin; group < end; ++group) {
        merge_and_finish(group, sum);
        const std::int64_t distance = group + 1 < end ? writes * written.s : 0;
        for (std::int64_t c = group * writes; c < (group + 1) * writes; ++c) {
          for (std::int64_t p = 0; p < written.per_channel; ++p) apply(c, p, distance);
        }
      }
    });
    return;
  }
  auto* const partials = scratch<Partial, Scratch::partials>(tasks);
  parallel_for(tasks, threads, [&](std::int64_t i) {
    partials[i] = sum(i / summed.per_channel, i % summed.per_channel);
  });
  parallel_for(groups, threads, [&](std::int64_t group) {
    merge_and_finish(group, [&](std::int64_t c, std::int64_t p) {
      return partials[c * summed.per_channel + p];
    });
  });
  parallel_for(written.c * written.per_channel, threads,
               [&](std::int64_t i) { apply(i / written.per_channel, i % written.per_channel, 0); });
}

// Of a piece. prefetches: whether the next piece is prefetched, since x is not in cache.
template <class T>
auto moments_of_pieces(const Pieces& pieces, const T* x, bool prefetches) {
  return [&pieces, x, prefetches, &kernel = kernels::planes<T>()](std::int64_t c, std::int64_t p) {
    return kernel.moments(x + pieces.offset(c, p), pieces.piece(p),
                          prefetches ? pieces.to_next(c, p) : 0);
  };
}
template <class T>
auto gradient_sums_of_pieces(const Pieces& pieces, const BackwardOperands<T>& operands,
                             const ChannelAffine<T>* affine) {
  return
      [&pieces, &operands, affine, &kernel = kernels::planes<T>()](std::int64_t c, std::int64_t p) {
        return kernel.gradient_sums(operands.at(pieces.offset(c, p), pieces.to_next(c, p)),
                                    pieces.piece(p), kernels::rounded<Wide<T>>(affine[c]));
      };
}

template <class T>
void write_forward(const ForwardOperands<T>& operands, const kernels::Piece& piece,
                   const ChannelAffine<T>& affine) {
  using P = Wide<T>;
  if (kernels::fits<P>(affine)) {
    kernels::planes<T>().forward(operands, piece, kernels::rounded<P>(affine));
  } else {
    kernels::ExtendedRange<T>::forward(operands, piece, affine);
  }
}
template <class T>
void write_backward(const BackwardOperands<T>& operands, const kernels::Piece& piece,
                    const ChannelAffine<T>& affine, const ChannelGradient<T>& gradient) {
  using P = Wide<T>;
  if (kernels::fits<P>(gradient, affine)) {
    kernels::planes<T>().backward(operands, piece, kernels::rounded<P>(affine),
                                  kernels::rounded<P>(gradient, affine.center));
  } else {
    kernels::ExtendedRange<T>::backward(operands, piece, affine, gradient);
  }
}

constexpr auto kNoApply = [](std::int64_t, std::int64_t, std::int64_t) {};

// Calls f(channel, offset, piece) for all planes in the order of memory.
template <class F>
void for_each_plane(std::int64_t n, std::int64_t c, std::int64_t s, const F& f) {
  const std::int64_t per_plane = ceil_div(s, kPiece), tasks = n * c * per_plane;
  parallel_for(tasks, threads_for(tasks, n * c * s), [&](std::int64_t i) {
    const std::int64_t plane = i / per_plane, begin = i % per_plane * kPiece;
    f(plane % c, plane * s + begin, kernels::Piece{1, std::min(kPiece, s - begin), 0});
  });
}

}  // namespace

// The planes of a group's channels are contiguous: its moments are those of one longer plane.
template <class T>
void Planes<T>::moments(const T* x, VisitMoments<T> visit) const {
  const Pieces summed{n_, c_ / group_, group_ * s_};
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
  for_each_plane(n_, c_, s_, [&](std::int64_t c, std::int64_t offset, const kernels::Piece& piece) {
    write_forward(operands.at(offset), piece, affine[c]);
  });
}

template <class T>
void Planes<T>::normalize(const ForwardOperands<T>& operands, double eps,
                          AffineFromMoments<T> affine) const {
  const Pieces summed{n_, c_ / group_, group_ * s_}, written{n_, c_, s_};
  auto* const coefficients = scratch<ChannelAffine<T>, Scratch::affine>(c_);
  reduce_then_apply<Moments>(
      summed.c, summed, written, moments_of_pieces(summed, operands.x, operands.non_temporal),
      [&](std::int64_t group, const Moments* m) {
        affine(group,
               checked_moments(operands.x + group * summed.s, summed.whole_channel(), *m, eps),
               coefficients + group * group_);
      },
      [&](std::int64_t c, std::int64_t p, std::int64_t distance) {
        write_forward(operands.at(written.offset(c, p), distance), written.piece(p),
                      coefficients[c]);
      });
}

template <class T>
void Planes<T>::gradient_sums(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                              ChannelSums<T>* sums) const {
  const Pieces pieces{n_, c_, s_};
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
  for_each_plane(n_, c_, s_, [&](std::int64_t c, std::int64_t offset, const kernels::Piece& piece) {
    write_backward(operands.at(offset), piece, affine[c], gradient[c]);
  });
}

template <class T>
void Planes<T>::gradients(const BackwardOperands<T>& operands, const ChannelAffine<T>* affine,
                          GradientFromSums<T> gradient) const {
  const Pieces pieces{n_, c_, s_};
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
      [&](std::int64_t c, std::int64_t p, std::int64_t distance) {
        write_backward(operands.at(pieces.offset(c, p), distance), pieces.piece(p), affine[c],
                       coefficients[c]);
      });
}

#define EVENKEEL_INSTANTIATE(T) template class Planes<T>;
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
