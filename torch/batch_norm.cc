#include "evenkeel/torch/batch_norm.h"

#include <algorithm>
#include <cstdint>

#include "evenkeel/error.h"
#include "torch/bridge.h"

namespace evenkeel::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// `batches` holds the count while the core may move it.
template <class T>
RunningStatistics<T> running_statistics(const RunningTensors& running, std::int64_t& batches) {
  return {.mean = elements<Stat<T>>(running.mean),
          .var = elements<Stat<T>>(running.var),
          .batches = running.batches.defined() ? &batches : nullptr,
          .skipped = running.skipped};
}

// What of a call is no tensor that autograd follows.
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
    const torch::Tensor residual = dense(residual_in.value_or(torch::Tensor()), layout);
    const torch::Tensor weight = as_statistics(weight_in.value_or(torch::Tensor()), x);
    const torch::Tensor bias = as_statistics(bias_in.value_or(torch::Tensor()), x);
    variable_list dirty;
    const torch::Tensor y = output_of(input, x, over_x, dirty);
    ctx->mark_dirty(dirty);
    const auto type = statistics_type(x);
    const torch::Tensor rstd = torch::empty({x.size(1)}, type);
    // The running mean is copied: it may move before the backward needs it.
    const torch::Tensor mean = statistics == Statistics::given
                                   ? running.mean.to(type, /*non_blocking=*/false, /*copy=*/true)
                                   : torch::empty_like(rstd);
    // Read and written as a number, because Module::to(dtype) converts the count as well.
    const bool counts = decisions.updates() && running.batches.defined();
    std::int64_t batches = counts ? running.batches.item<std::int64_t>() : 0;
    dispatch(x, [&]<class T>() {
      const auto x_view = view<const T>(x, layout);
      if (statistics == Statistics::batch) {
        batch_norm_forward<T>({.x = x_view,
                               .weight = elements<const Stat<T>>(weight),
                               .bias = elements<const Stat<T>>(bias),
                               .residual = view<const T>(residual, layout),
                               .y = view<T>(y, layout),
                               .mean = elements<Stat<T>>(mean),
                               .rstd = elements<Stat<T>>(rstd),
                               .running = running_statistics<T>(running, batches)},
                              options);
        return;
      }
      // Measured first, because y may overwrite x.
      ChannelMoments batch(x.size(1));
      const bool moves = decisions.updates() && x.numel() > 0;
      if (moves) batch.add(x_view);
      const torch::Tensor var = as_statistics(running.var, x);
      batch_norm_inference<T>({.x = x_view,
                               .weight = elements<const Stat<T>>(weight),
                               .bias = elements<const Stat<T>>(bias),
                               .mean = elements<const Stat<T>>(mean),
                               .var = elements<const Stat<T>>(var),
                               .residual = view<const T>(residual, layout),
                               .y = view<T>(y, layout),
                               .rstd = elements<Stat<T>>(rstd)},
                              options.eps, options.activation);
      if (moves) {
        update_running_statistics<T>(batch, options.update,
                                     running_statistics<T>(running, batches));
      }
    });
    if (counts) running.batches.fill_(batches);
    // The backward computes the activation's mask again, from all that y depends on.
    const bool masks = options.activation != Activation::none;
    ctx->save_for_backward({x, weight_in.value_or(torch::Tensor()), mean, rstd,
                            masks ? bias_in.value_or(torch::Tensor()) : torch::Tensor(),
                            masks ? residual : torch::Tensor()});
    ctx->saved_data["given"] = statistics == Statistics::given;
    ctx->saved_data["activation"] = static_cast<std::int64_t>(options.activation);
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
    const auto activation = static_cast<Activation>(ctx->saved_data["activation"].toInt());
    const Layout layout = layout_of(x);
    const torch::Tensor dy = dense(gradients[0], layout);
    // In order of the inputs, which are counted without the absent ones.
    std::size_t next = 0;
    const auto wanted = [&](bool present) { return present && ctx->needs_input_grad(next++); };
    // Those of the parameters are in float; autograd converts them to the parameters' type.
    torch::Tensor dx, dweight, dbias, dresidual;
    if (wanted(true)) dx = torch::empty_like(x);
    if (wanted(weight.defined())) dweight = torch::empty_like(mean);
    if (wanted(ctx->saved_data["has_bias"].toBool())) dbias = torch::empty_like(mean);
    const bool wants_residual = wanted(ctx->saved_data["has_residual"].toBool());
    // Without an activation it is dy as it came.
    const bool masks = activation != Activation::none;
    if (wants_residual) dresidual = masks ? torch::empty_like(x) : gradients[0];
    dispatch(x, [&]<class T>() {
      batch_norm_backward<T>({.dy = view<const T>(dy, layout),
                              .x = view<const T>(x, layout),
                              .weight = elements<const Stat<T>>(weight),
                              .mean = elements<const Stat<T>>(mean),
                              .rstd = elements<const Stat<T>>(rstd),
                              .bias = elements<const Stat<T>>(bias),
                              .residual = view<const T>(residual, layout),
                              .dx = view<T>(dx, layout),
                              .dresidual = masks ? view<T>(dresidual, layout) : TensorView<T>(),
                              .dweight = elements<Stat<T>>(dweight),
                              .dbias = elements<Stat<T>>(dbias)},
                             statistics, activation);
    });
    return {dx, dweight, dbias, dresidual, {}};
  }
};

void check_running(const torch::Tensor& x, const Decisions& decisions) {
  const RunningTensors& running = decisions.running;
  const bool updates = decisions.updates();
  if (decisions.statistics == Statistics::batch && !updates) return;
  if (!running.mean.defined() || !running.var.defined()) {
    throw Error(
        "batch_norm: running statistics are needed to normalize with or to update, but they are "
        "undefined; pass a mean and a var, or construct the layer with track_running_stats(true)");
  }
  check_parameter("batch_norm", "running mean", running.mean, x, x.size(1));
  check_parameter("batch_norm", "running var", running.var, x, x.size(1));
  for (const auto& statistic : {running.mean, running.var}) {
    if (!updates || statistic.scalar_type() == statistics_type(x)) continue;
    throw Error(c10::str("batch_norm: the running statistics are of type ", statistic.scalar_type(),
                         ", in which small updates are lost; keep the layer in Float with "
                         "layer->to(torch::kFloat32), beside an x of type ",
                         x.scalar_type(), ", or freeze() it"));
  }
  if (!running.mean.is_contiguous() || !running.var.is_contiguous()) {
    throw Error(
        "batch_norm: the running statistics are not contiguous, so they cannot be updated in "
        "place; pass contiguous tensors");
  }
  if (running.batches.defined() && running.batches.numel() != 1) {
    throw Error(c10::str("batch_norm: the number of batches has ", running.batches.numel(),
                         " elements, expected 1"));
  }
}

}  // namespace

torch::Tensor batch_norm(const torch::Tensor& x, const torch::Tensor& weight,
                         const torch::Tensor& bias, const RunningTensors& running,
                         Statistics statistics, const BatchNormOptions& options,
                         const torch::Tensor& residual, bool in_place) {
  check_floating_cpu("batch_norm", "x", x);
  if (x.dim() < 2) {
    throw Error(c10::str("batch_norm: x has ", x.dim(),
                         " dimensions, expected 2 or more: (samples, channels, ...)"));
  }
  check_parameter("batch_norm", "weight", weight, x, x.size(1));
  check_parameter("batch_norm", "bias", bias, x, x.size(1));
  check_residual("batch_norm", residual, x);
  const bool over_x = in_place && !recorded({x, weight, bias, residual});
  const Decisions decisions{running, statistics, options, over_x};
  check_running(x, decisions);
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
BatchNormImpl<TorchImpl>::BatchNormImpl(const TorchImpl& other) : options(other.options) {
  adopt(other);
  this->train(other.is_training());
}

template <class TorchImpl>
void BatchNormImpl<TorchImpl>::adopt(const TorchImpl& other) {
  const auto parameter = [&](const char* name, const torch::Tensor& tensor) {
    return this->register_parameter(name, tensor, tensor.defined() && tensor.requires_grad());
  };
  weight = parameter("weight", other.weight);
  bias = parameter("bias", other.bias);
  running_mean = this->register_buffer("running_mean", other.running_mean);
  running_var = this->register_buffer("running_var", other.running_var);
  num_batches_tracked = this->register_buffer("num_batches_tracked", other.num_batches_tracked);
}

template <class TorchImpl>
void BatchNormImpl<TorchImpl>::reset() {
  adopt(TorchImpl(options));
}

template <class TorchImpl>
void BatchNormImpl<TorchImpl>::reset_parameters() {
  reset_running_stats();
  const torch::NoGradGuard no_grad;
  if (weight.defined()) weight.fill_(1);
  if (bias.defined()) bias.zero_();
}

template <class TorchImpl>
void BatchNormImpl<TorchImpl>::reset_running_stats() {
  if (!running_mean.defined()) return;
  running_mean.zero_();
  running_var.fill_(1);
  num_batches_tracked.zero_();
}

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
  const bool tracks = running_mean.defined();
  const bool by_batch = this->is_training() || !tracks;
  BatchNormOptions decisions{.eps = options.eps(), .activation = activation};
  if (update_running.value_or(this->is_training() && tracks)) {
    const auto momentum = options.momentum();
    decisions.update =
        momentum ? RunningUpdate::moving_average(*momentum) : RunningUpdate::cumulative();
  }
  RunningTensors moved = running();
  moved.skipped = &skipped_batches;
  return batch_norm(x, weight, bias, moved,
                    normalize_with.value_or(by_batch ? Statistics::batch : Statistics::given),
                    decisions, residual, in_place);
}

template <class TorchImpl>
void BatchNormImpl<TorchImpl>::pretty_print(std::ostream& out) const {
  out << description_of(TorchImpl(options));
  if (activation == Activation::relu) out << " + ReLU";
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
