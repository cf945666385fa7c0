#include "evenkeel/torch/batch_norm.h"

#include <algorithm>
#include <cstdint>

#include "evenkeel/error.h"
#include "torch/bridge.h"
#include "torch/running.h"

namespace evenkeel::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The arguments of a call that autograd does not track.
struct Decisions {
  const RunningTensors& running;
  Statistics statistics;
  const BatchNormOptions& options;
  bool over_x;  // write y into the memory of x

  bool updates() const { return options.update.kind != RunningUpdate::Kind::none; }
};

struct BatchNormFunction : torch::autograd::Function<BatchNormFunction> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& input,
                               const torch::optional<torch::Tensor>& weight_in,
                               const torch::optional<torch::Tensor>& bias_in,
                               const torch::optional<torch::Tensor>& residual_in,
                               const Decisions& decisions) {
    const auto& [running, statistics, options, over_x] = decisions;
    const Layout layout = layout_of(input);
    const torch::Tensor x = dense(input, layout);
    const torch::Tensor residual = dense(or_undefined(residual_in), layout);
    const torch::Tensor weight = as_statistics(or_undefined(weight_in), x);
    const torch::Tensor bias = as_statistics(or_undefined(bias_in), x);
    variable_list dirty;
    const torch::Tensor y = output_of(input, x, over_x, dirty);
    if (over_x) {
      check_written("batch_norm", "x (in_place)", y,
                    {{"weight", or_undefined(weight_in)},
                     {"bias", or_undefined(bias_in)},
                     {"running mean", running.mean},
                     {"running var", running.var},
                     {"residual", residual, /*may_be_written=*/true}});
    }
    // What moves as the batch is normalized, the core compares.
    if (statistics == Statistics::given && decisions.updates()) {
      const std::initializer_list<Given> others = {{"x", x},
                                                   {"residual", residual},
                                                   {"weight", or_undefined(weight_in)},
                                                   {"bias", or_undefined(bias_in)}};
      check_written("batch_norm", "running mean", running.mean, {{"running var", running.var}});
      check_written("batch_norm", "running mean", running.mean, others);
      check_written("batch_norm", "running var", running.var, others);
    }
    ctx->mark_dirty(dirty);
    const torch::Tensor rstd = torch::empty({x.size(1)}, torch::kFloat64);
    // The running mean is copied: it may move before the backward needs it.
    const torch::Tensor mean =
        statistics == Statistics::given
            ? running.mean.to(torch::kFloat64, /*non_blocking=*/false, /*copy=*/true)
            : torch::empty_like(rstd);
    BatchCount count("batch_norm", running, options.update);
    dispatch(x, [&]<class T>() {
      const auto x_view = view<const T>(x, layout);
      if (statistics == Statistics::batch) {
        batch_norm_forward<T>({.x = x_view,
                               .weight = elements<const Wide<T>>(weight),
                               .bias = elements<const Wide<T>>(bias),
                               .mean = elements<double>(mean),
                               .rstd = elements<double>(rstd),
                               .running = running_statistics<T>(running, count),
                               .residual = view<const T>(residual, layout),
                               .y = view<T>(y, layout)},
                              options);
        return;
      }
      // Measured first, because y may overwrite x. Copies are moved, since y is normalized with
      // what was there, and an error must come before y is written.
      RunningTensors moved = running;
      const bool moves = decisions.updates() && x.numel() > 0;
      if (moves) {
        ChannelMoments batch(x.size(1));
        batch.add(x_view);
        moved.mean = running.mean.clone();
        moved.var = running.var.clone();
        update_running_statistics<T>(batch, options.update, running_statistics<T>(moved, count));
      }
      const torch::Tensor running_mean = as_statistics(running.mean, x);
      const torch::Tensor var = as_statistics(running.var, x);
      batch_norm_inference<T>({.x = x_view,
                               .weight = elements<const Wide<T>>(weight),
                               .bias = elements<const Wide<T>>(bias),
                               .mean = elements<const Wide<T>>(running_mean),
                               .var = elements<const Wide<T>>(var),
                               .rstd = elements<double>(rstd),
                               .residual = view<const T>(residual, layout),
                               .y = view<T>(y, layout)},
                              {.eps = options.eps, .activation = options.activation});
      if (moves) {
        running.mean.copy_(moved.mean);
        running.var.copy_(moved.var);
      }
    });
    count.store();
    // The backward computes the value before the activation again, from all that it depends on.
    const bool activates = options.activation != Activation::none;
    ctx->save_for_backward({x, or_undefined(weight_in), mean, rstd,
                            activates ? or_undefined(bias_in) : torch::Tensor(),
                            activates ? residual : torch::Tensor()});
    ctx->saved_data["given"] = statistics == Statistics::given;
    save_activation(ctx, options.activation);
    ctx->saved_data["has_bias"] = bias.defined();
    ctx->saved_data["has_residual"] = residual.defined();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    refuse_double_backward("batch_norm");
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &mean = saved[2], &rstd = saved[3], &residual = saved[5];
    const torch::Tensor weight = as_statistics(saved[1], x), bias = as_statistics(saved[4], x);
    const auto statistics =
        ctx->saved_data["given"].toBool() ? Statistics::given : Statistics::batch;
    const Activation activation = saved_activation(ctx);
    const Layout layout = layout_of(x);
    const torch::Tensor dy = dense(gradients[0], layout);
    WantedGradients wanted(ctx);
    // Those of the parameters are in float; autograd converts them to the parameters' type.
    torch::Tensor dx, dweight, dbias, dresidual;
    if (wanted.next()) dx = torch::empty_like(x);
    if (wanted.next(weight.defined())) dweight = torch::empty({x.size(1)}, statistics_type(x));
    if (wanted.next(ctx->saved_data["has_bias"].toBool()))
      dbias = torch::empty({x.size(1)}, statistics_type(x));
    const bool wants_residual = wanted.next(ctx->saved_data["has_residual"].toBool());
    // Without an activation it is dy as it came.
    const bool activates = activation != Activation::none;
    if (wants_residual) dresidual = activates ? torch::empty_like(x) : gradients[0];
    dispatch(x, [&]<class T>() {
      batch_norm_backward<T>({.dy = view<const T>(dy, layout),
                              .x = view<const T>(x, layout),
                              .weight = elements<const Wide<T>>(weight),
                              .bias = elements<const Wide<T>>(bias),
                              .mean = elements<const double>(mean),
                              .rstd = elements<const double>(rstd),
                              .residual = view<const T>(residual, layout),
                              .dx = view<T>(dx, layout),
                              .dresidual = activates ? view<T>(dresidual, layout) : TensorView<T>(),
                              .dweight = elements<Wide<T>>(dweight),
                              .dbias = elements<Wide<T>>(dbias)},
                             {.statistics = statistics, .activation = activation});
    });
    return {dx, dweight, dbias, dresidual, {}};
  }
};

}  // namespace

torch::Tensor batch_norm(const torch::Tensor& x, const torch::Tensor& weight,
                         const torch::Tensor& bias, const RunningTensors& running,
                         Statistics statistics, const BatchNormOptions& options,
                         const torch::Tensor& residual, bool in_place) {
  check_channels("batch_norm", x, weight, bias);
  check_residual("batch_norm", residual, x);
  const bool over_x = in_place && !recorded({x, weight, bias, residual});
  const Decisions decisions{running, statistics, options, over_x};
  if (statistics == Statistics::given || decisions.updates()) {
    check_running("batch_norm", running, x, decisions.updates());
  }
  return or_input(BatchNormFunction::apply(x, as_optional(weight), as_optional(bias),
                                           as_optional(residual), decisions),
                  x);
}

namespace {

template <class TorchImpl>
struct Dimensions;
template <>
struct Dimensions<torch::nn::BatchNorm1dImpl> {
  static constexpr std::int64_t min = 2, max = 3;
  static constexpr std::string_view name = "BatchNorm1d", expected = "2 or 3: (N, C) or (N, C, L)";
};
template <>
struct Dimensions<torch::nn::BatchNorm2dImpl> {
  static constexpr std::int64_t min = 4, max = 4;
  static constexpr std::string_view name = "BatchNorm2d", expected = "4: (N, C, H, W)";
};
template <>
struct Dimensions<torch::nn::BatchNorm3dImpl> {
  static constexpr std::int64_t min = 5, max = 5;
  static constexpr std::string_view name = "BatchNorm3d", expected = "5: (N, C, D, H, W)";
};

}  // namespace

template <class TorchImpl>
torch::Tensor BatchNormImpl<TorchImpl>::forward(const torch::Tensor& x,
                                                const torch::Tensor& residual) {
  using Expected = Dimensions<TorchImpl>;
  check_floating_cpu(Expected::name, "x", x);
  if (x.dim() < Expected::min || x.dim() > Expected::max) {
    throw Error(c10::str(Expected::name, ": x has ", x.dim(), " dimensions, expected ",
                         Expected::expected));
  }
  if (on_input) on_input(x);
  const bool tracks = this->running_mean.defined();
  const bool by_batch = this->is_training() || !tracks;
  BatchNormOptions decisions{.eps = this->options.eps(), .activation = activation};
  if (update_running.value_or(this->is_training() && tracks)) {
    const auto momentum = this->options.momentum();
    decisions.update =
        momentum ? RunningUpdate::moving_average(*momentum) : RunningUpdate::cumulative();
  }
  RunningTensors moved = running();
  moved.skipped = &skipped_batches;
  return batch_norm(x, this->weight, this->bias, moved,
                    normalize_with.value_or(by_batch ? Statistics::batch : Statistics::given),
                    decisions, residual, in_place);
}

template <class TorchImpl>
void BatchNormImpl<TorchImpl>::pretty_print(std::ostream& out) const {
  out << description_of(TorchImpl(this->options)) << description_of(activation);
}

template class BatchNormImpl<torch::nn::BatchNorm1dImpl>;
template class BatchNormImpl<torch::nn::BatchNorm2dImpl>;
template class BatchNormImpl<torch::nn::BatchNorm3dImpl>;

std::vector<NamedBatchNorm> batch_norm_layers(torch::nn::Module& network) {
  std::vector<NamedBatchNorm> layers;
  for (const auto& module : network.named_modules()) {
    auto* layer = dynamic_cast<BatchNormSwitches*>(module.value().get());
    if (layer && std::ranges::find(layers, layer, &NamedBatchNorm::layer) == layers.end()) {
      layers.push_back({module.key(), layer});
    }
  }
  return layers;
}

}  // namespace evenkeel::nn
