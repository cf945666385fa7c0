#include "evenkeel/batch_norm.h"

#include <cmath>
#include <string>

#include "src/channels.h"
#include "src/check.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

double rstd_of(double variance, double eps) { return 1 / std::sqrt(variance + eps); }

// The value of an optional per-channel parameter.
template <class P>
double value_or(std::span<const P> values, std::int64_t c, double fallback) {
  return values.empty() ? fallback : static_cast<double>(values[static_cast<std::size_t>(c)]);
}
template <class P>
void set_if_wanted(std::span<P> values, std::int64_t c, double value) {
  if (!values.empty()) values[static_cast<std::size_t>(c)] = static_cast<P>(value);
}

// y = (x - mean) * rstd * weight + bias, centered on the rounded mean.
template <class P>
Affine<P> normalizing(double mean, double rstd, double weight, double bias) {
  const auto center = static_cast<P>(mean);
  const double scale = rstd * weight;
  return {center, static_cast<P>(scale),
          static_cast<P>(bias - (mean - static_cast<double>(center)) * scale)};
}

template <class T>
void check_running(const Check& check, const RunningStatistics<T>& running, RunningUpdate update,
                   std::int64_t channels) {
  if (update.kind == RunningUpdate::Kind::none) return;
  check.size("running.mean", running.mean, channels, "channels");
  check.size("running.var", running.var, channels, "channels");
  if (update.kind == RunningUpdate::Kind::cumulative) {
    check.require(running.batches != nullptr,
                  "a cumulative update needs running.batches, the count of batches so far");
  } else {
    const double w = update.new_batch_weight;
    check.require(w >= 0 && w <= 1,
                  "new_batch_weight is " + std::to_string(w) + ", expected a number in [0, 1]");
  }
}

void require_several_values(const Check& check, std::int64_t per_channel) {
  check.require(per_channel != 1,
                "one value per channel (N*S = 1) has no variance; use a larger batch, or normalize "
                "with given statistics by batch_norm_inference");
}

// Moves the running statistics by a batch whose moments are given a channel at a time.
template <class T, class MomentsOf>
void update_running(const RunningStatistics<T>& running, RunningUpdate update,
                    const MomentsOf& moments_of_channel) {
  const std::size_t channels = running.mean.size();
  for (std::size_t c = 0; c < channels; ++c) {
    const Moments m = moments_of_channel(c);
    // The stored type must hold the statistics too: a double variance may overflow float.
    if (!std::isfinite(static_cast<Stat<T>>(m.mean)) ||
        !std::isfinite(static_cast<Stat<T>>(m.unbiased_variance()))) {
      if (running.skipped) ++*running.skipped;
      return;
    }
  }
  if (running.batches) ++*running.batches;
  const double weight = update.kind == RunningUpdate::Kind::cumulative
                            ? 1 / static_cast<double>(*running.batches)
                            : update.new_batch_weight;
  const auto move = [weight](Stat<T>& value, double batch) {
    value = static_cast<Stat<T>>((1 - weight) * static_cast<double>(value) + weight * batch);
  };
  for (std::size_t c = 0; c < channels; ++c) {
    const Moments m = moments_of_channel(c);
    move(running.mean[c], m.mean);
    move(running.var[c], m.unbiased_variance());
  }
}

// Of the arguments of a training forward or an inference.
template <class T, template <class> class Arguments>
ForwardPass<T> forward_pass(const Arguments<T>& args, Activation activation) {
  const std::int64_t tensors = args.residual.data ? 3 : 2;
  return {.x = args.x.data,
          .residual = args.residual.data,
          .y = args.y.data,
          .relu = activation == Activation::relu,
          .streams = exceeds_cache(tensors * bytes_of<T>(args.x.shape))};
}

}  // namespace

template <class T>
void batch_norm_forward(const BatchNormForward<T>& args, const BatchNormOptions& options) {
  const Check check("batch_norm");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape_or_absent("residual", args.residual, shape);
  check.same_shape("y", args.y, shape);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.size_or_absent("mean", args.mean, shape.c, "channels");
  check.size_or_absent("rstd", args.rstd, shape.c, "channels");
  check.eps(options.eps);
  check_running(check, args.running, options.update, shape.c);
  if (shape.size() == 0) return;
  require_several_values(check, shape.per_channel());

  const bool updates = options.update.kind != RunningUpdate::Kind::none;
  Moments* batch = updates ? scratch<Moments, 1>(shape.c) : nullptr;
  const auto pass = forward_pass(args, options.activation);
  with_channels<T>(shape, [&](const auto& channels) {
    channels.normalize(pass, [&](std::int64_t c, const Moments& m) {
      const double rstd = rstd_of(m.biased_variance(), options.eps);
      set_if_wanted(args.mean, c, m.mean);
      set_if_wanted(args.rstd, c, rstd);
      if (updates) batch[c] = m;
      return normalizing<Stat<T>>(m.mean, rstd, value_or(args.weight, c, 1),
                                  value_or(args.bias, c, 0));
    });
  });
  if (updates) {
    update_running(args.running, options.update, [&](std::size_t c) { return batch[c]; });
  }
}

template <class T>
void batch_norm_inference(const BatchNormInference<T>& args, double eps, Activation activation) {
  const Check check("batch_norm_inference");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape_or_absent("residual", args.residual, shape);
  check.same_shape("y", args.y, shape);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.size("mean", args.mean, shape.c, "channels");
  check.size("var", args.var, shape.c, "channels");
  check.size_or_absent("rstd", args.rstd, shape.c, "channels");
  check.eps(eps);
  with_channels<T>(shape, [&](const auto& channels) {
    channels.forward(forward_pass(args, activation), [&](std::int64_t c) {
      return normalizing<Stat<T>>(value_or(args.mean, c, 0), rstd_of(value_or(args.var, c, 1), eps),
                                  value_or(args.weight, c, 1), value_or(args.bias, c, 0));
    });
  });
  for (std::int64_t c = 0; c < std::ssize(args.rstd); ++c) {
    set_if_wanted(args.rstd, c, rstd_of(value_or(args.var, c, 1), eps));
  }
}

template <class T>
void batch_norm_backward(const BatchNormBackward<T>& args, Statistics statistics,
                         Activation activation) {
  const Check check("batch_norm_backward");
  const Shape& shape = args.x.shape;
  const bool relu = activation == Activation::relu;
  check.shape("x", args.x);
  check.same_shape("dy", args.dy, shape);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size("mean", args.mean, shape.c, "channels");
  check.size("rstd", args.rstd, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.same_shape_or_absent("residual", args.residual, shape);
  check.same_shape_or_absent("dx", args.dx, shape);
  check.same_shape_or_absent("dresidual", args.dresidual, shape);
  check.size_or_absent("dweight", args.dweight, shape.c, "channels");
  check.size_or_absent("dbias", args.dbias, shape.c, "channels");
  if (shape.size() == 0) {
    std::ranges::fill(args.dweight, Stat<T>{0});
    std::ranges::fill(args.dbias, Stat<T>{0});
    return;
  }
  const bool through_statistics = statistics == Statistics::batch;
  if (through_statistics) require_several_values(check, shape.per_channel());

  const auto count = static_cast<double>(shape.per_channel());
  const auto rstd_at = [&](std::int64_t c) { return value_or(args.rstd, c, 1); };
  const auto dy_scale = [&](std::int64_t c) { return value_or(args.weight, c, 1) * rstd_at(c); };
  const auto affine = [&](std::int64_t c) {
    return normalizing<Stat<T>>(value_or(args.mean, c, 0), rstd_at(c), value_or(args.weight, c, 1),
                                value_or(args.bias, c, 0));
  };
  // dx = dy_scale * (dy - mean(dy) - x^ * mean(dy*x^)), as coefficients of dy and x - center.
  const auto gradient = [&](std::int64_t c, const GradientSums& sums) {
    const double dy_x_hat = sums.dy_x * rstd_at(c);
    set_if_wanted(args.dweight, c, dy_x_hat);
    set_if_wanted(args.dbias, c, sums.dy);
    const double flow = -dy_scale(c) / count;
    return GradientAffine<Stat<T>>{static_cast<Stat<T>>(dy_scale(c)),
                                   static_cast<Stat<T>>(flow * rstd_at(c) * dy_x_hat),
                                   static_cast<Stat<T>>(flow * sums.dy)};
  };
  const std::int64_t tensors =
      3 + (relu && args.residual.data ? 1 : 0) + (args.dresidual.data ? 1 : 0);
  const bool streams = exceeds_cache(tensors * bytes_of<T>(shape));
  const bool wants_sums = through_statistics || !args.dweight.empty() || !args.dbias.empty();
  with_channels<T>(shape, [&](const auto& channels) {
    if (wants_sums || relu || args.dresidual.data) {
      channels.gradients({.dy = args.dy.data,
                          .x = args.x.data,
                          .residual = relu ? args.residual.data : nullptr,
                          .dx = args.dx.data,
                          .dresidual = args.dresidual.data,
                          .relu = relu,
                          .wants_sums = wants_sums,
                          .through_statistics = through_statistics,
                          .streams = streams},
                         affine, gradient);
    } else if (args.dx.data) {  // dx = dy_scale * dy
      channels.forward({.x = args.dy.data,
                        .residual = nullptr,
                        .y = args.dx.data,
                        .relu = false,
                        .streams = streams},
                       [&](std::int64_t c) {
                         return Affine<Stat<T>>{0, static_cast<Stat<T>>(dy_scale(c)), 0};
                       });
    }
  });
}

template <class T>
void update_running_statistics(const ChannelMoments& batch, RunningUpdate update,
                               const RunningStatistics<T>& running) {
  const Check check("update_running_statistics");
  if (update.kind == RunningUpdate::Kind::none) return;
  check_running(check, running, update, batch.channels());
  check.require(batch.count() >= 2, "the batch has " + std::to_string(batch.count()) +
                                        " values per channel, expected at least 2");
  update_running(running, update, [&](std::size_t c) {
    return Moments{batch.count(), batch.mean()[c], batch.m2()[c]};
  });
}

template <class T>
void batch_norm_identity_init(const ChannelMoments& batch, double eps, std::span<Stat<T>> weight,
                              std::span<Stat<T>> bias) {
  const Check check("batch_norm_identity_init");
  check.eps(eps);
  check.require(batch.count() > 0, "the moments are of no values, expected at least one");
  check.size("weight", weight, batch.channels(), "channels");
  check.size("bias", bias, batch.channels(), "channels");
  for (std::int64_t c = 0; c < batch.channels(); ++c) {
    set_if_wanted(weight, c, std::sqrt(batch.biased_variance(c) + eps));
    set_if_wanted(bias, c, batch.mean()[static_cast<std::size_t>(c)]);
  }
}

#define EVENKEEL_INSTANTIATE(T)                                                                \
  template void batch_norm_forward(const BatchNormForward<T>&, const BatchNormOptions&);       \
  template void batch_norm_inference(const BatchNormInference<T>&, double, Activation);        \
  template void batch_norm_backward(const BatchNormBackward<T>&, Statistics, Activation);      \
  template void update_running_statistics(const ChannelMoments&, RunningUpdate,                \
                                          const RunningStatistics<T>&);                        \
  template void batch_norm_identity_init<T>(const ChannelMoments&, double, std::span<Stat<T>>, \
                                            std::span<Stat<T>>);
EVENKEEL_INSTANTIATE(float)
EVENKEEL_INSTANTIATE(double)
EVENKEEL_INSTANTIATE(BFloat16)
EVENKEEL_INSTANTIATE(Float16)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
