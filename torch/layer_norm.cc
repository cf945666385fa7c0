#include "evenkeel/layer_norm.h"

#include "evenkeel/error.h"
#include "evenkeel/torch/functional.h"
#include "evenkeel/torch/layer_norm.h"
#include "torch/bridge.h"

namespace evenkeel::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Samples x features: all the core needs to know of a contiguous x.
template <class T>
TensorView<T> rows(const torch::Tensor& x, std::int64_t features) {
  return {static_cast<T*>(x.data_ptr()), {features ? x.numel() / features : 0, features}};
}

struct LayerNormFunction : torch::autograd::Function<LayerNormFunction> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& input,
                               const torch::optional<torch::Tensor>& weight_in,
                               const torch::optional<torch::Tensor>& bias_in, std::int64_t features,
                               double eps) {
    const torch::Tensor x = input.contiguous();
    const torch::Tensor weight = weight_in ? weight_in->contiguous() : torch::Tensor();
    const torch::Tensor bias = bias_in ? bias_in->contiguous() : torch::Tensor();
    const torch::Tensor y = torch::empty_like(x);
    const std::int64_t samples = features ? x.numel() / features : 0;
    const torch::Tensor mean = torch::empty({samples}, x.options());
    const torch::Tensor rstd = torch::empty({samples}, x.options());
    dispatch(x, [&]<class T>() {
      layer_norm_forward<T>({.x = rows<const T>(x, features),
                             .weight = elements<const T>(weight),
                             .bias = elements<const T>(bias),
                             .y = rows<T>(y, features),
                             .mean = elements<T>(mean),
                             .rstd = elements<T>(rstd)},
                            eps);
    });
    ctx->save_for_backward({x, weight, mean, rstd});
    ctx->saved_data["features"] = features;
    // Only the shape of the bias is needed, which is that of its gradient.
    if (bias.defined()) ctx->saved_data["bias_shape"] = bias.sizes();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    refuse_double_backward("layer_norm");
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &weight = saved[1], &mean = saved[2], &rstd = saved[3];
    const std::int64_t features = ctx->saved_data["features"].toInt();
    const torch::Tensor dy = gradients[0].contiguous();
    // Inputs are counted without the absent ones.
    const std::size_t bias_index = weight.defined() ? 2 : 1;
    torch::Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) dx = torch::empty_like(x);
    if (weight.defined() && ctx->needs_input_grad(1)) dweight = torch::zeros_like(weight);
    const auto bias_shape = ctx->saved_data.find("bias_shape");
    if (bias_shape != ctx->saved_data.end() && ctx->needs_input_grad(bias_index)) {
      dbias = torch::zeros(bias_shape->second.toIntVector(), x.options());
    }
    dispatch(x, [&]<class T>() {
      layer_norm_backward<T>({.dy = rows<const T>(dy, features),
                              .x = rows<const T>(x, features),
                              .weight = elements<const T>(weight),
                              .mean = elements<const T>(mean),
                              .rstd = elements<const T>(rstd),
                              .dx = dx.defined() ? rows<T>(dx, features) : TensorView<T>(),
                              .dweight = elements<T>(dweight),
                              .dbias = elements<T>(dbias)});
    });
    return {dx, dweight, dbias, {}, {}};
  }
};

}  // namespace

torch::Tensor layer_norm(const torch::Tensor& x, std::span<const std::int64_t> normalized_shape,
                         const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  check_floating_cpu("layer_norm", "x", x);
  const torch::IntArrayRef trailing(normalized_shape.data(), normalized_shape.size());
  if (trailing.empty()) {
    throw Error("layer_norm: normalized_shape is empty, expected at least one dimension");
  }
  if (x.sizes().size() < trailing.size() ||
      x.sizes().slice(x.sizes().size() - trailing.size()) != trailing) {
    throw Error(c10::str("layer_norm: x has shape ", x.sizes(),
                         ", expected its trailing dimensions to be normalized_shape ", trailing));
  }
  check_parameter("layer_norm", "weight", weight, x, trailing);
  check_parameter("layer_norm", "bias", bias, x, trailing);
  return LayerNormFunction::apply(x, as_optional(weight), as_optional(bias),
                                  c10::multiply_integers(trailing), eps);
}

torch::Tensor LayerNormImpl::forward(const torch::Tensor& x) {
  return nn::layer_norm(x, options.normalized_shape(), weight, bias, options.eps());
}

std::shared_ptr<torch::nn::Module> LayerNormImpl::clone(
    const torch::optional<torch::Device>& device) const {
  const auto copied = torch::nn::LayerNormImpl::clone(device);
  return std::make_shared<LayerNormImpl>(dynamic_cast<const torch::nn::LayerNormImpl&>(*copied));
}

void LayerNormImpl::pretty_print(std::ostream& out) const {
  out << description_of(torch::nn::LayerNormImpl(options));
}

}  // namespace evenkeel::nn
