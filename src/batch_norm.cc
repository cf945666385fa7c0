#include "evenkeel/batch_norm.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "src/base/cache.h"
#include "src/base/check.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/parameters.h"
#include "src/passes/channels.h"
#include "src/running_statistics.h"

namespace evenkeel {
namespace {

void require_several_values(const Check& check, double per_channel) {
  check.require(per_channel != 1,
                "one value per channel (N*S = 1) has no variance; use a larger batch, or normalize "
                "with given statistics by batch_norm_inference");
}

// For double activations beyond 1e154.
void require_variances(const Check& check, const ChannelMoments& batch) {
  for (std::size_t c = 0; c < batch.m2().size(); ++c) {
    if (!std::isinf(batch.m2()[c]) || !std::isfinite(batch.mean()[c])) continue;
    check.fail("the moments of channel " + std::to_string(c) +
               " have a variance that exceeds a double; divide its values first");
  }
}

template <class T>
void check_forward(Check& check, const BatchNormForward<T>& args, const BatchNormOptions& options) {
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.size_or_absent("mean", args.mean, shape.c, "channels");
  check.size_or_absent("rstd", args.rstd, shape.c, "channels");
  check_running(check, args.running, options.update, shape.c);
  check.same_shape_or_absent("residual", args.residual, shape);
  check.same_shape("y", args.y, shape, {"x", "residual"});
  check.eps(options.eps);
  check.activation(options.activation);
}

template <class T>
void check_backward(Check& check, const BatchNormBackward<T>& args,
                    const BatchNormBackwardOptions& options) {
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape("dy", args.dy, shape);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.size("mean", args.mean, shape.c, "channels");
  check.size("rstd", args.rstd, shape.c, "channels");
  check.same_shape_or_absent("residual", args.residual, shape);
  check.same_shape_or_absent("dx", args.dx, shape, {"dy"});
  check.same_shape_or_absent("dresidual", args.dresidual, shape, {"dy", "residual"});
  check.size_or_absent("dweight", args.dweight, shape.c, "channels");
  check.size_or_absent("dbias", args.dbias, shape.c, "channels");
  check.activation(options.activation);
}

// Of the arguments of a training forward or an inference.
template <class T, template <class> class Arguments>
ForwardOperands<T> operands_of(const Arguments<T>& args, const Activation& activation) {
  const std::int64_t tensors = args.residual.data ? 3 : 2;
  return {.x = args.x.data,
          .residual = args.residual.data,
          .y = args.y.data,
          .activation = activation,
          .non_temporal = exceeds_cache(tensors * bytes_of<T>(args.x.shape))};
}
template <class T>
BackwardOperands<T> operands_of(const BatchNormBackward<T>& args,
                                const BatchNormBackwardOptions& options) {
  const bool reads_residual = options.activation != Activation::none && args.residual.data;
  const std::int64_t tensors = 3 + (reads_residual ? 1 : 0) + (args.dresidual.data ? 1 : 0);
  return {.dy = args.dy.data,
          .x = args.x.data,
          .residual = reads_residual ? args.residual.data : nullptr,
          .dx = args.dx.data,
          .dresidual = args.dresidual.data,
          .activation = options.activation,
          .through_statistics = options.statistics == Statistics::batch,
          .non_temporal = exceeds_cache(tensors * bytes_of<T>(args.x.shape))};
}

// Coefficients of C channels, in scratch memory.
template <Scratch purpose, class CoefficientsOf>
auto* for_each_channel(std::int64_t channels, const CoefficientsOf& of) {
  auto* const coefficients = scratch<decltype(of(std::int64_t{0})), purpose>(channels);
  for (std::int64_t c = 0; c < channels; ++c) coefficients[c] = of(c);
  return coefficients;
}

// The coefficients of the forward, from the statistics that a backward is given.
template <class T>
const ChannelAffine<T>* affine_of(const BatchNormBackward<T>& args) {
  return for_each_channel<Scratch::affine>(args.x.shape.c, [&](std::int64_t c) {
    return ChannelAffine<T>(value_or(args.mean, c, 0), value_or(args.rstd, c, 1),
                            value_or(args.weight, c, 1), value_or(args.bias, c, 0));
  });
}

template <class T>
void set_parameter_gradients(const BatchNormBackward<T>& args, std::int64_t c,
                             const ChannelSums<T>& sums) {
  set_if_wanted(args.dweight, c, sums.dy_x * static_cast<Extended<T>>(value_or(args.rstd, c, 1)));
  set_if_wanted(args.dbias, c, sums.dy);
}

// The coefficients of dx through the statistics of a batch of `count` values per channel.
template <class T>
ChannelGradient<T> gradient_of(const BatchNormBackward<T>& args, std::int64_t c, double count,
                               const ChannelSums<T>& sums) {
  ChannelGradient<T> coefficients;
  gradient_of_group(
      value_or(args.rstd, c, 1), count, 1,
      [&](std::int64_t) { return value_or(args.weight, c, 1); }, &sums, &coefficients);
  return coefficients;
}

}  // namespace

template <class T>
void batch_norm_forward(const BatchNormForward<T>& args, const BatchNormOptions& options) {
  using E = Extended<T>;
  Check check("batch_norm");
  check_forward(check, args, options);
  const Shape& shape = args.x.shape;
  if (shape.size() == 0) return;
  require_several_values(check, static_cast<double>(shape.per_channel()));

  const bool updates = options.update.kind != RunningUpdate::Kind::none;
  auto* const batch = updates ? scratch<GroupMoments<E>, Scratch::batch_moments>(shape.c) : nullptr;
  with_channels<T>(shape, [&](const ChannelPasses<T>& channels) {
    channels.normalize(operands_of(args, options.activation), options.eps,
                       [&](std::int64_t c, const GroupMoments<E>& m, ChannelAffine<T>* affine) {
                         const E rstd = rstd_of(m.biased_variance(), options.eps);
                         set_if_wanted(args.mean, c, m.mean);
                         set_if_wanted(args.rstd, c, rstd);
                         if (updates) batch[c] = m;
                         *affine = ChannelAffine<T>(m.mean, rstd, value_or(args.weight, c, 1),
                                                    value_or(args.bias, c, 0));
                       });
  });
  if (updates) {
    update_running(args.running, options.update, [&](std::size_t c) {
      return MeanAndVariance{static_cast<double>(batch[c].mean),
                             static_cast<double>(batch[c].unbiased_variance())};
    });
  }
}

template <class T>
void batch_norm_forward(const BatchNormForward<T>& args, const ChannelMoments& batch,
                        const BatchNormOptions& options) {
  Check check("batch_norm");
  check_forward(check, args, options);
  const Shape& shape = args.x.shape;
  check.require(batch.channels() == shape.c, "the moments have " +
                                                 std::to_string(batch.channels()) +
                                                 " channels, expected " + std::to_string(shape.c));
  if (shape.c == 0) return;
  check.require(batch.count() >= 2, "the moments are of " + exactly(batch.count()) +
                                        " values per channel, expected at least 2");
  require_variances(check, batch);
  const auto* coefficients = for_each_channel<Scratch::affine>(shape.c, [&](std::int64_t c) {
    const double mean = batch.mean()[static_cast<std::size_t>(c)];
    const double rstd = rstd_of(batch.biased_variance(c), options.eps);
    set_if_wanted(args.mean, c, mean);
    set_if_wanted(args.rstd, c, rstd);
    return ChannelAffine<T>(mean, rstd, value_or(args.weight, c, 1), value_or(args.bias, c, 0));
  });
  with_channels<T>(shape, [&](const ChannelPasses<T>& channels) {
    channels.forward(operands_of(args, options.activation), coefficients);
  });
  if (options.update.kind != RunningUpdate::Kind::none) {
    update_running_statistics(batch, options.update, args.running);
  }
}

template <class T>
void batch_norm_inference(const BatchNormInference<T>& args,
                          const BatchNormInferenceOptions& options) {
  Check check("batch_norm_inference");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.size("mean", args.mean, shape.c, "channels");
  check.size("var", args.var, shape.c, "channels");
  check.size_or_absent("rstd", args.rstd, shape.c, "channels");
  check.same_shape_or_absent("residual", args.residual, shape);
  check.same_shape("y", args.y, shape, {"x", "residual"});
  check.eps(options.eps);
  check.activation(options.activation);
  const auto* coefficients = for_each_channel<Scratch::affine>(shape.c, [&](std::int64_t c) {
    const double rstd = rstd_of(value_or(args.var, c, 1), options.eps);
    set_if_wanted(args.rstd, c, rstd);
    return ChannelAffine<T>(value_or(args.mean, c, 0), rstd, value_or(args.weight, c, 1),
                            value_or(args.bias, c, 0));
  });
  with_channels<T>(shape, [&](const ChannelPasses<T>& channels) {
    channels.forward(operands_of(args, options.activation), coefficients);
  });
}

template <class T>
void batch_norm_backward(const BatchNormBackward<T>& args,
                         const BatchNormBackwardOptions& options) {
  using P = Wide<T>;
  using E = Extended<T>;
  Check check("batch_norm_backward");
  check_backward(check, args, options);
  const Shape& shape = args.x.shape;
  if (shape.size() == 0) {
    std::ranges::fill(args.dweight, P{0});
    std::ranges::fill(args.dbias, P{0});
    return;
  }
  const auto count = static_cast<double>(shape.per_channel());
  const bool through_statistics = options.statistics == Statistics::batch;
  if (through_statistics) require_several_values(check, count);

  const bool writes = args.dx.data || args.dresidual.data;
  const bool sums =
      (through_statistics && args.dx.data) || !args.dweight.empty() || !args.dbias.empty();
  const auto scale_dy = [&](std::int64_t c) {
    return static_cast<E>(value_or(args.weight, c, 1)) * static_cast<E>(value_or(args.rstd, c, 1));
  };
  const BackwardOperands<T> operands = operands_of(args, options);
  with_channels<T>(shape, [&](const ChannelPasses<T>& channels) {
    if (sums && writes) {
      channels.gradients(
          operands, affine_of(args),
          [&](std::int64_t c, const ChannelSums<T>* of_channel, GradientAffine<E>* coefficients) {
            set_parameter_gradients(args, c, *of_channel);
            *coefficients = through_statistics ? gradient_of(args, c, count, *of_channel)
                                               : ChannelGradient<T>{scale_dy(c), 0, 0};
          });
    } else if (sums) {
      auto* const kept = scratch<ChannelSums<T>, Scratch::channel_sums>(shape.c);
      channels.gradient_sums(operands, affine_of(args), kept);
      for (std::int64_t c = 0; c < shape.c; ++c) set_parameter_gradients(args, c, kept[c]);
    } else if (args.dx.data && !args.dresidual.data && options.activation == Activation::none) {
      // dx = dy_scale * dy, for which x need not be read.
      const auto* scales = for_each_channel<Scratch::affine>(shape.c, [&](std::int64_t c) {
        return ChannelAffine<T>(0, value_or(args.rstd, c, 1), value_or(args.weight, c, 1), 0);
      });
      channels.forward({.x = args.dy.data,
                        .residual = nullptr,
                        .y = args.dx.data,
                        .activation = Activation::none,
                        .non_temporal = operands.non_temporal},
                       scales);
    } else if (writes) {
      const auto* scales = for_each_channel<Scratch::gradient>(shape.c, [&](std::int64_t c) {
        return GradientAffine<E>{scale_dy(c), 0, 0};
      });
      channels.backward(operands, affine_of(args), scales);
    }
  });
}

template <class T>
void batch_norm_gradient_sums(const BatchNormBackward<T>& args, const BatchNormSums<double>& sums,
                              const BatchNormBackwardOptions& options) {
  Check check("batch_norm_gradient_sums");
  check_backward(check, args, options);
  const Shape& shape = args.x.shape;
  check.size("sums.dy", sums.dy, shape.c, "channels");
  check.size("sums.dy_x", sums.dy_x, shape.c, "channels");
  auto* const kept = scratch<ChannelSums<T>, Scratch::channel_sums>(shape.c);
  std::fill_n(kept, shape.c, ChannelSums<T>());
  with_channels<T>(shape, [&](const ChannelPasses<T>& channels) {
    channels.gradient_sums(operands_of(args, options), affine_of(args), kept);
  });
  for (std::int64_t c = 0; c < shape.c; ++c) {
    set_if_wanted(sums.dy, c, kept[c].dy);
    set_if_wanted(sums.dy_x, c, kept[c].dy_x);
    set_parameter_gradients(args, c, kept[c]);
  }
}

template <class T>
void batch_norm_backward(const BatchNormBackward<T>& args, const BatchNormSums<const double>& sums,
                         double count, const BatchNormBackwardOptions& options) {
  Check check("batch_norm_backward");
  check_backward(check, args, options);
  const Shape& shape = args.x.shape;
  check.size("sums.dy", sums.dy, shape.c, "channels");
  check.size("sums.dy_x", sums.dy_x, shape.c, "channels");
  check.require(count >= 2 && std::isfinite(count),
                "the count is " + exactly(count) +
                    ", expected the values per channel of the whole batch, at least 2");
  check.require(options.statistics == Statistics::batch,
                "sums are given, but with Statistics::given no gradient flows through them; call "
                "batch_norm_backward without sums");
  check.require(args.dweight.empty() && args.dbias.empty(),
                "dweight or dbias is given beside sums, expected neither: batch_norm_gradient_sums "
                "sets them");
  if (!args.dx.data && !args.dresidual.data) return;
  const auto* gradient = for_each_channel<Scratch::gradient>(shape.c, [&](std::int64_t c) {
    return gradient_of(args, c, count, {value_or(sums.dy, c, 0), value_or(sums.dy_x, c, 0)});
  });
  with_channels<T>(shape, [&](const ChannelPasses<T>& channels) {
    channels.backward(operands_of(args, options), affine_of(args), gradient);
  });
}

template <class T>
void update_running_statistics(const ChannelMoments& batch, RunningUpdate update,
                               const RunningStatistics<T>& running) {
  Check check("update_running_statistics");
  if (update.kind == RunningUpdate::Kind::none) return;
  check_running(check, running, update, batch.channels());
  check.require(batch.count() >= 2, "the batch has " + exactly(batch.count()) +
                                        " values per channel, expected at least 2");
  update_running(running, update, [&](std::size_t c) {
    return MeanAndVariance{batch.mean()[c], batch.unbiased_variance(static_cast<std::int64_t>(c))};
  });
}

template <class T>
void batch_norm_identity_init(const ChannelMoments& batch, double eps, std::span<Wide<T>> weight,
                              std::span<Wide<T>> bias) {
  Check check("batch_norm_identity_init");
  check.eps(eps);
  check.require(batch.count() > 0, "the moments are of no values, expected at least one");
  require_variances(check, batch);
  check.size("weight", weight, batch.channels(), "channels");
  check.size("bias", bias, batch.channels(), "channels");
  for (std::int64_t c = 0; c < batch.channels(); ++c) {
    set_if_wanted(weight, c, std::sqrt(batch.biased_variance(c) + eps));
    set_if_wanted(bias, c, batch.mean()[static_cast<std::size_t>(c)]);
  }
}

#define EVENKEEL_INSTANTIATE(T)                                                                    \
  template void batch_norm_forward(const BatchNormForward<T>&, const BatchNormOptions&);           \
  template void batch_norm_forward(const BatchNormForward<T>&, const ChannelMoments&,              \
                                   const BatchNormOptions&);                                       \
  template void batch_norm_inference(const BatchNormInference<T>&,                                 \
                                     const BatchNormInferenceOptions&);                            \
  template void batch_norm_backward(const BatchNormBackward<T>&, const BatchNormBackwardOptions&); \
  template void batch_norm_gradient_sums(                                                          \
      const BatchNormBackward<T>&, const BatchNormSums<double>&, const BatchNormBackwardOptions&); \
  template void batch_norm_backward(const BatchNormBackward<T>&,                                   \
                                    const BatchNormSums<const double>&, double,                    \
                                    const BatchNormBackwardOptions&);                              \
  template void update_running_statistics(const ChannelMoments&, RunningUpdate,                    \
                                          const RunningStatistics<T>&);                            \
  template void batch_norm_identity_init<T>(const ChannelMoments&, double, std::span<Wide<T>>,     \
                                            std::span<Wide<T>>);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
