// Each row is cut into pieces. All pieces are summed, the sums of a row are merged in order, and
// then all pieces are written. The backward writes the same piece of all rows in turn, so that
// their dweight and dbias are added up where they are.
#include "src/passes/long_rows.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "src/base/check.h"
#include "src/base/parallel.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/kernels/extended.h"
#include "src/kernels/planes.h"
#include "src/kernels/range.h"

namespace evenkeel {
namespace {

// Features by which threads share what the backward writes, and of which a thread takes so many at
// a time that their dweight and dbias stay in L1.
constexpr std::int64_t kSharedFeatures = 256, kWrittenFeatures = 1024;

// What the forward knows of a row.
struct Row {
  double mean, rstd;
  bool is_done;  // in a wider type
};

// Calls f(sample, first feature, features) for all pieces of all samples.
template <class F>
void for_each_piece(std::int64_t samples, std::int64_t features, const F& f) {
  const std::int64_t pieces = ceil_div(features, kernels::kMaxPiece), tasks = samples * pieces;
  parallel_for(tasks, threads_for(tasks, samples * features), [&](std::int64_t i) {
    const std::int64_t begin = i % pieces * kernels::kMaxPiece;
    f(i / pieces, begin, std::min(kernels::kMaxPiece, features - begin));
  });
}

template <class T>
kernels::RowsBackward<T> piece_of(const kernels::RowsBackward<T>& args, std::int64_t sample,
                                  std::int64_t features, std::int64_t begin) {
  const std::int64_t at = sample * features + begin;
  kernels::RowsBackward<T> piece = args;
  piece.dy += at;
  piece.x += at;
  piece.weight += begin;
  piece.mean = at_or_null(piece.mean, sample);
  piece.rstd += sample;
  piece.dsum = at_or_null(piece.dsum, at);
  piece.dx = at_or_null(piece.dx, at);
  return piece;
}

// By the bits, which the compiler tests in vectors. values may be null.
template <class P>
bool all_finite(const P* values, std::int64_t count) {
  using Bits = std::conditional_t<sizeof(P) == 4, std::uint32_t, std::uint64_t>;
  constexpr auto kExponent = std::bit_cast<Bits>(std::numeric_limits<P>::infinity());
  if (!values) return true;
  bool all = true;
  for (std::int64_t i = 0; i < count; ++i) {
    all &= (std::bit_cast<Bits>(values[i]) & kExponent) != kExponent;
  }
  return all;
}

}  // namespace

template <class T>
void forward_long_rows(const kernels::RowsForward<T>& args, std::int64_t samples,
                       std::int64_t features) {
  using P = Wide<T>;
  const auto& kernel = kernels::rows_forward<T>();
  const std::int64_t pieces = ceil_div(features, kernels::kMaxPiece);
  const T* const x = args.residual ? args.sum : args.x;
  auto* const partials = scratch<Moments, Scratch::partials>(samples * pieces);
  for_each_piece(
      samples, features, [&](std::int64_t sample, std::int64_t begin, std::int64_t count) {
        const std::int64_t at = sample * features + begin;
        if (args.residual) {
          kernel.add(args.x + at, args.residual + at, args.sum + at, count);
        }
        Moments& m = partials[sample * pieces + begin / kernels::kMaxPiece];
        if (args.centered) {
          m = kernels::planes<T>().moments(x + at, {1, count, 0}, args.non_temporal ? count : 0);
        } else {
          m = {static_cast<double>(count), 0, kernel.sum_of_squares(x + at, count)};
        }
      });

  auto* const rows = scratch<Row, Scratch::long_rows>(samples);
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    Moments m = partials[sample * pieces];
    for (std::int64_t p = 1; p < pieces; ++p) {
      const Moments& part = partials[sample * pieces + p];
      if (args.centered) {
        m.merge(part);
      } else {
        m = {m.count + part.count, 0, m.m2 + part.m2};
      }
    }
    Row& row = rows[sample];
    row = {m.mean, 1 / std::sqrt(m.biased_variance() + args.eps), false};
    if (!kernels::trusted_moments<P>(m.mean, m.biased_variance(), args.eps) ||
        !kernels::fits_row<P>(row.mean, row.rstd)) {
      kernels::ExtendedRange<T>::row_forward(args, x + sample * features, sample, features);
      row.is_done = true;
      continue;
    }
    if (args.mean) args.mean[sample] = row.mean;
    if (args.rstd) args.rstd[sample] = row.rstd;
  }

  for_each_piece(samples, features,
                 [&](std::int64_t sample, std::int64_t begin, std::int64_t count) {
                   const Row& row = rows[sample];
                   if (row.is_done) return;
                   const std::int64_t at = sample * features + begin;
                   kernels::RowsForward<T> piece = args;
                   piece.weight += begin;
                   piece.bias += begin;
                   piece.y += at;
                   kernel.write(piece, x + at, row.mean, row.rstd, count);
                 });
}

template <class T>
bool backward_long_rows(const kernels::RowsBackward<T>& args, std::int64_t samples,
                        std::int64_t features, std::span<Wide<T>> dweight,
                        std::span<Wide<T>> dbias) {
  using P = Wide<T>;
  const auto& kernel = kernels::rows_backward<T>();
  const std::int64_t pieces = ceil_div(features, kernels::kMaxPiece);
  auto* const partials = scratch<GradientSums, Scratch::partials>(samples * pieces);
  std::fill_n(partials, samples * pieces, GradientSums());
  if (args.dx) {
    for_each_piece(samples, features,
                   [&](std::int64_t sample, std::int64_t begin, std::int64_t count) {
                     partials[sample * pieces + begin / kernels::kMaxPiece] =
                         kernel.sums(piece_of(args, sample, features, begin), count);
                   });
  }
  // The first partial of a row becomes the row's sums.
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    GradientSums& sums = partials[sample * pieces];
    for (std::int64_t p = 1; p < pieces; ++p) sums.merge(partials[sample * pieces + p]);
    if (!kernel.fits(piece_of(args, sample, features, 0), sums, features)) return false;
  }

  std::atomic<bool> finite = true;
  const auto finish = [&](std::int64_t begin, std::int64_t count) {
    const auto start = [&](std::span<P> gradient) -> P* {
      if (gradient.empty()) return nullptr;
      std::fill_n(gradient.data() + begin, count, P{0});
      return gradient.data() + begin;
    };
    P* const of_weight = start(dweight);
    P* const of_bias = start(dbias);
    for (std::int64_t sample = 0; sample < samples; ++sample) {
      kernels::RowsBackward<T> piece = piece_of(args, sample, features, begin);
      piece.dweight = of_weight;
      piece.dbias = of_bias;
      kernel.finish(piece, partials[sample * pieces], features, count);
    }
    if (!all_finite(of_weight, count) || !all_finite(of_bias, count)) finite = false;
  };
  const std::int64_t shared = ceil_div(features, kSharedFeatures);
  const auto finish_range = [&](std::int64_t first, std::int64_t last) {
    const std::int64_t end = std::min(features, last * kSharedFeatures);
    for (std::int64_t begin = first * kSharedFeatures; begin < end; begin += kWrittenFeatures) {
      finish(begin, std::min(kWrittenFeatures, end - begin));
    }
  };
  parallel_ranges(shared, threads_for(shared, samples * features), finish_range);
  // Sums of some samples may overflow where those of all do not. If dx took its place, dy is gone.
  if (!finite && args.dx != args.dy) {
    kernels::ExtendedRange<T>::row_parameters(args, samples, features, data_or_null(dweight),
                                              data_or_null(dbias));
  }
  return true;
}

#define EVENKEEL_INSTANTIATE(T)                                                                 \
  template void forward_long_rows(const kernels::RowsForward<T>&, std::int64_t, std::int64_t);  \
  template bool backward_long_rows(const kernels::RowsBackward<T>&, std::int64_t, std::int64_t, \
                                   std::span<Wide<T>>, std::span<Wide<T>>);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
