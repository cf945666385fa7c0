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
  return {.mean = elements<T>(running.mean),
          .var = elements<T>(running.var),
          .batches = running.batches.defined() ? &batches : nullptr,
          .skipped = running.skipped};
}

struct BatchNormFunction : torch::autograd::Function<BatchNormFunction> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& input,
                               const torch::optional<torch::Tensor>& weight_in,
                               const torch::optional<torch::Tensor>& bias_in,
                               const RunningTensors& running, Statistics statistics,
                               const BatchNormOptions& options) {
    const Layout layout = layout_of(input);
    const torch::Tensor x = dense(input, layout);
    const torch::Tensor weight = weight_in ? weight_in->contiguous() : torch::Tensor();
    const torch::Tensor bias = bias_in ? bias_in->contiguous() : torch::Tensor();
    const torch::Tensor y = torch::empty_like(x);
    // The running mean is copied: it may move before the backward needs it.
    const torch::Tensor mean = statistics == Statistics::given
                                   ? running.mean.clone()
                                   : torch::zeros({x.size(1)}, x.options());
    const torch::Tensor rstd = torch::zeros({x.size(1)}, x.options());
    const bool updates = options.update.kind != RunningUpdate::Kind::none;
    // Read and written as a number, because Module::to(dtype) converts the count as well.
    const bool counts = updates && running.batches.defined();
    std::int64_t batches = counts ? running.batches.item<std::int64_t>() : 0;
    dispatch(x, [&]<class T>() {
      const auto x_view = view<const T>(x, layout);
      if (statistics == Statistics::batch) {
        batch_norm_forward<T>({.x = x_view,
                               .weight = elements<const T>(weight),
                               .bias = elements<const T>(bias),
                               .y = view<T>(y, layout),
                               .mean = elements<T>(mean),
                               .rstd = elements<T>(rstd),
                               .running = running_statistics<T>(running, batches)},
                              options);
        return;
      }
      batch_norm_inference<T>({.x = x_view,
                               .weight = elements<const T>(weight),
                               .bias = elements<const T>(bias),
                               .mean = elements<const T>(mean),
                               .var = elements<const T>(running.var),
                               .y = view<T>(y, layout),
                               .rstd = elements<T>(rstd)},
                              options.eps);
      if (updates && x.numel() > 0) {
        ChannelMoments batch(x.size(1));
        batch.add(x_view);
        update_running_statistics<T>(batch, options.update,
                                     running_statistics<T>(running, batches));
      }
    });
    if (counts) running.batches.fill_(batches);
    ctx->save_for_backward({x, weight, mean, rstd});
    ctx->saved_data["given"] = statistics == Statistics::given;
    ctx->saved_data["has_bias"] = bias.defined();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    refuse_double_backward("batch_norm");
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &rstd = saved[3];
    const Layout layout = layout_of(x);
    const torch::Tensor dy = dense(gradients[0], layout);
    // Inputs are counted without the absent ones.
    const std::size_t bias_index = weight.defined() ? 2 : 1;
    const bool has_bias = ctx->saved_data["has_bias"].toBool();
    torch::Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) dx = torch::empty_like(x);
    if (weight.defined() && ctx->needs_input_grad(1)) dweight = torch::zeros_like(weight);
    if (has_bias && ctx->needs_input_grad(bias_index)) dbias = torch::zeros_like(mean);
    dispatch(x, [&]<class T>() {
      batch_norm_backward<T>(
          {.dy = view<const T>(dy, layout),
           .x = view<const T>(x, layout),
           .weight = elements<const T>(weight),
           .mean = elements<const T>(mean),
           .rstd = elements<const T>(rstd),
           .dx = dx.defined() ? view<T>(dx, layout) : TensorView<T>(),
           .dweight = elements<T>(dweight),
           .dbias = elements<T>(dbias)},
          ctx->saved_data["given"].toBool() ? Statistics::given : Statistics::batch);
    });
    return {dx, dweight, dbias, {}, {}, {}};
  }
};

void check_running(const torch::Tensor& x, const RunningTensors& running, Statistics statistics,
                   const BatchNormOptions& options) {
  const bool updates = options.update.kind != RunningUpdate::Kind::none;
  if (statistics == Statistics::batch && !updates) return;
  if (!running.mean.defined() || !running.var.defined()) {
    throw Error(
        "batch_norm: running statistics are needed to normalize with or to update, but they are "
        "undefined; pass a mean and a var, or construct the layer with track_running_stats(true)");
  }
  check_parameter("batch_norm", "running mean", running.mean, x, x.size(1));
  check_parameter("batch_norm", "running var", running.var, x, x.size(1));
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
                         Statistics statistics, const BatchNormOptions& options) {
  check_floating_cpu("batch_norm", "x", x);
  if (x.dim() < 2) {
    throw Error(c10::str("batch_norm: x has ", x.dim(),
                         " dimensions, expected 2 or more: (samples, channels, ...)"));
  }
  check_parameter("batch_norm", "weight", weight, x, x.size(1));
  check_parameter("batch_norm", "bias", bias, x, x.size(1));
  check_running(x, running, statistics, options);
  return BatchNormFunction::apply(x, as_optional(weight), as_optional(bias), running, statistics,
                                  options);
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
torch::Tensor BatchNormImpl<TorchImpl>::forward(const torch::Tensor& x) {
  using Expected = Dimensions<TorchImpl>;
  check_floating_cpu(Expected::name, "x", x);
  if (x.dim() < Expected::min || x.dim() > Expected::max) {
    throw Error(c10::str(Expected::name, ": x has ", x.dim(), " dimensions, expected ",
                         Expected::expected));
  }
  if (on_input) on_input(x);
  const bool tracks = running_mean.defined();
  const bool by_batch = this->is_training() || !tracks;
  BatchNormOptions decisions{.eps = options.eps()};
  if (update_running.value_or(this->is_training() && tracks)) {
    const auto momentum = options.momentum();
    decisions.update =
        momentum ? RunningUpdate::moving_average(*momentum) : RunningUpdate::cumulative();
  }
  RunningTensors moved = running();
  moved.skipped = &skipped_batches;
  return batch_norm(x, weight, bias, moved,
                    normalize_with.value_or(by_batch ? Statistics::batch : Statistics::given),
                    decisions);
}

template <class TorchImpl>
void BatchNormImpl<TorchImpl>::pretty_print(std::ostream& out) const {
  out << description_of(TorchImpl(options));
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
