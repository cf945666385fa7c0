#include "evenkeel/group_norm.h"

#include <algorithm>
#include <string>

#include "src/base/cache.h"
#include "src/base/check.h"
#include "src/base/parallel.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/parameters.h"
#include "src/passes/channels.h"
#include "src/passes/rows.h"
#include "src/sample_groups.h"

namespace evenkeel {
namespace {

void check_groups(const Check& check, const Shape& shape, std::int64_t groups) {
  std::int64_t statistics = 0;
  check.require(
      groups >= 1 && shape.c % groups == 0 && !__builtin_mul_overflow(shape.n, groups, &statistics),
      "groups is " + std::to_string(groups) + ", expected a divisor of the " +
          std::to_string(shape.c) + " channels, at least 1");
}

// Without positions a group is some neighboring features of a sample: a row, for which there are
// kernels of their own, but none with an activation.
bool is_of_rows(const Shape& shape, const GroupNormOptions& options) {
  return shape.s == 1 && options.activation == Activation::none;
}

// dweight and dbias: the sums of every sample, added up in the order of the samples.
template <class T>
void add_up_samples(const GroupNormBackward<T>& args, std::int64_t groups,
                    const ChannelSums<T>* sums) {
  const Shape& shape = args.x.shape;
  const std::int64_t channels = shape.c / groups;  // of a group
  parallel_for(shape.c, threads_for(shape.c, shape.n * shape.c), [&](std::int64_t c) {
    Extended<T> dweight = 0, dbias = 0;
    for (std::int64_t n = 0; n < shape.n; ++n) {
      const ChannelSums<T>& of_sample = sums[n * shape.c + c];
      dweight += of_sample.dy_x *
                 static_cast<Extended<T>>(value_or(args.rstd, n * groups + c / channels, 1));
      dbias += of_sample.dy;
    }
    set_if_wanted(args.dweight, c, dweight);
    set_if_wanted(args.dbias, c, dbias);
  });
}

}  // namespace

template <class T>
void normalize_groups(const GroupNormForward<T>& args, const GroupNormOptions& options,
                      GroupMoments<Extended<T>>* kept) {
  using E = Extended<T>;
  const Shape& shape = args.x.shape;
  if (is_of_rows(shape, options) && !kept) {
    forward_rows<T>({.x = args.x.data,
                     .weight = data_or_null(args.weight),
                     .bias = data_or_null(args.bias),
                     .mean = data_or_null(args.mean),
                     .rstd = data_or_null(args.rstd),
                     .residual = nullptr,
                     .sum = nullptr,
                     .y = args.y.data,
                     .eps = options.eps,
                     .groups = options.groups,
                     .centered = true},
                    shape.n, shape.c);
    return;
  }
  const std::int64_t channels = shape.c / options.groups;  // of a group
  const ForwardOperands<T> operands{.x = args.x.data,
                                    .residual = nullptr,
                                    .y = args.y.data,
                                    .activation = options.activation,
                                    .non_temporal = exceeds_cache(2 * bytes_of<T>(shape))};
  with_sample_channels<T>(shape, channels, [&](const ChannelPasses<T>& passes) {
    passes.normalize(
        operands, options.eps,
        [&](std::int64_t group, const GroupMoments<E>& m, ChannelAffine<T>* coefficients) {
          const E rstd = rstd_of(m.biased_variance(), options.eps);
          set_if_wanted(args.mean, group, m.mean);
          set_if_wanted(args.rstd, group, rstd);
          if (kept) kept[group] = m;
          const std::int64_t first = group % options.groups * channels;
          for (std::int64_t k = 0; k < channels; ++k) {
            coefficients[k] = ChannelAffine<T>(m.mean, rstd, value_or(args.weight, first + k, 1),
                                               value_or(args.bias, first + k, 0));
          }
        });
  });
}

template <class T>
void backward_groups(const GroupNormBackward<T>& args, const GroupNormOptions& options) {
  using E = Extended<T>;
  const Shape& shape = args.x.shape;
  const std::int64_t groups = options.groups, channels = shape.c / groups;
  const bool wants_parameters = !args.dweight.empty() || !args.dbias.empty();
  if (!args.dx.data && !wants_parameters) return;
  if (is_of_rows(shape, options)) {
    backward_rows<T>({.dy = args.dy.data,
                      .x = args.x.data,
                      .weight = data_or_null(args.weight),
                      .mean = args.mean.data(),
                      .rstd = args.rstd.data(),
                      .dsum = nullptr,
                      .dx = args.dx.data,
                      .groups = groups},
                     shape.n, shape.c, args.dweight, args.dbias);
    return;
  }
  const BackwardOperands<T> operands{.dy = args.dy.data,
                                     .x = args.x.data,
                                     .residual = nullptr,
                                     .dx = args.dx.data,
                                     .dresidual = nullptr,
                                     .activation = options.activation,
                                     .through_statistics = true,
                                     .non_temporal = exceeds_cache(3 * bytes_of<T>(shape))};
  auto* const affine = scratch<ChannelAffine<T>, Scratch::affine>(shape.n * shape.c);
  for (std::int64_t group = 0; group < shape.n * groups; ++group) {
    const double mean = value_or(args.mean, group, 0), rstd = value_or(args.rstd, group, 1);
    const std::int64_t first = group % groups * channels;
    for (std::int64_t k = 0; k < channels; ++k) {
      affine[group * channels + k] = ChannelAffine<T>(
          mean, rstd, value_or(args.weight, first + k, 1), value_or(args.bias, first + k, 0));
    }
  }
  auto* const kept = scratch<ChannelSums<T>, Scratch::channel_sums>(shape.n * shape.c);
  with_sample_channels<T>(shape, channels, [&](const ChannelPasses<T>& passes) {
    if (!args.dx.data) {
      passes.gradient_sums(operands, affine, kept);
      return;
    }
    const auto count = static_cast<double>(channels * shape.s);
    passes.gradients(
        operands, affine,
        [&](std::int64_t group, const ChannelSums<T>* sums, GradientAffine<E>* coefficients) {
          std::copy_n(sums, channels, kept + group * channels);
          const std::int64_t first = group % groups * channels;
          gradient_of_group(
              value_or(args.rstd, group, 1), count, channels,
              [&](std::int64_t k) { return value_or(args.weight, first + k, 1); }, sums,
              coefficients);
        });
  });
  if (wants_parameters) add_up_samples(args, groups, kept);
}

template <class T>
void group_norm_forward(const GroupNormForward<T>& args, const GroupNormOptions& options) {
  Check check("group_norm");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check_groups(check, shape, options.groups);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.size_or_absent("mean", args.mean, shape.n * options.groups, "samples times groups");
  check.size_or_absent("rstd", args.rstd, shape.n * options.groups, "samples times groups");
  check.same_shape("y", args.y, shape, {"x"});
  check.eps(options.eps);
  check.activation(options.activation);
  if (shape.size() > 0) normalize_groups(args, options);
}

template <class T>
void group_norm_backward(const GroupNormBackward<T>& args, const GroupNormOptions& options) {
  Check check("group_norm_backward");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape("dy", args.dy, shape);
  check_groups(check, shape, options.groups);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.size("mean", args.mean, shape.n * options.groups, "samples times groups");
  check.size("rstd", args.rstd, shape.n * options.groups, "samples times groups");
  check.same_shape_or_absent("dx", args.dx, shape, {"dy"});
  check.size_or_absent("dweight", args.dweight, shape.c, "channels");
  check.size_or_absent("dbias", args.dbias, shape.c, "channels");
  check.activation(options.activation);
  if (shape.size() == 0) {
    std::ranges::fill(args.dweight, Wide<T>{0});
    std::ranges::fill(args.dbias, Wide<T>{0});
    return;
  }
  backward_groups(args, options);
}

#define EVENKEEL_INSTANTIATE(T)                                                          \
  template void normalize_groups(const GroupNormForward<T>&, const GroupNormOptions&,    \
                                 GroupMoments<Extended<T>>*);                            \
  template void backward_groups(const GroupNormBackward<T>&, const GroupNormOptions&);   \
  template void group_norm_forward(const GroupNormForward<T>&, const GroupNormOptions&); \
  template void group_norm_backward(const GroupNormBackward<T>&, const GroupNormOptions&);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
