#include "evenkeel/layer_norm.h"

#include "evenkeel/error.h"
#include "evenkeel/torch/functional.h"
#include "evenkeel/torch/layer_norm.h"
#include "torch/bridge.h"

namespace evenkeel::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Samples x features: all the core needs to know of a contiguous x. Absent if x is undefined.
template <class T>
TensorView<T> rows(const torch::Tensor& x, std::int64_t features) {
  if (!x.defined()) return {};
  return {static_cast<T*>(x.data_ptr()), {features ? x.numel() / features : 0, features}};
}

torch::Tensor contiguous(const torch::Tensor& x) { return x.defined() ? x.contiguous() : x; }

// Gives {y}, or with a residual {y, sum}.
struct LayerNormFunction : torch::autograd::Function<LayerNormFunction> {
  static variable_list forward(AutogradContext* ctx, const torch::Tensor& input,
                               const torch::optional<torch::Tensor>& weight_in,
                               const torch::optional<torch::Tensor>& bias_in,
                               const torch::optional<torch::Tensor>& residual_in,
                               std::int64_t features, double eps, bool over_inputs) {
    const torch::Tensor x = input.contiguous();
    const torch::Tensor residual = contiguous(residual_in.value_or(torch::Tensor()));
    const torch::Tensor weight = as_statistics(weight_in.value_or(torch::Tensor()), x);
    const torch::Tensor bias = as_statistics(bias_in.value_or(torch::Tensor()), x);
    variable_list dirty;
    const torch::Tensor y = output_of(input, x, over_inputs, dirty);
    torch::Tensor sum;
    if (residual.defined()) {
      sum = output_of(*residual_in, residual, over_inputs && !residual.is_alias_of(x), dirty);
    }
    ctx->mark_dirty(dirty);
    const std::int64_t samples = features ? x.numel() / features : 0;
    const torch::Tensor mean = torch::empty({samples}, statistics_type(x));
    const torch::Tensor rstd = torch::empty_like(mean);
    dispatch(x, [&]<class T>() {
      layer_norm_forward<T>({.x = rows<const T>(x, features),
                             .weight = elements<const Stat<T>>(weight),
                             .bias = elements<const Stat<T>>(bias),
                             .residual = rows<const T>(residual, features),
                             .sum = rows<T>(sum, features),
                             .y = rows<T>(y, features),
                             .mean = elements<Stat<T>>(mean),
                             .rstd = elements<Stat<T>>(rstd)},
                            eps);
    });
    ctx->save_for_backward(
        {sum.defined() ? sum : x, weight_in.value_or(torch::Tensor()), mean, rstd});
    ctx->set_materialize_grads(false);
    ctx->saved_data["features"] = features;
    ctx->saved_data["has_residual"] = residual.defined();
    // Only the shape of the bias is needed, which is that of its gradient.
    if (bias.defined()) ctx->saved_data["bias_shape"] = bias.sizes();
    if (!sum.defined()) return {y};
    return {y, sum};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    refuse_double_backward("layer_norm");
    const bool has_residual = ctx->saved_data["has_residual"].toBool();
    const torch::Tensor dsum = has_residual ? contiguous(gradients[1]) : torch::Tensor();
    if (!gradients[0].defined()) return {dsum, {}, {}, dsum, {}, {}, {}};  // only the sum was used
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &mean = saved[2], &rstd = saved[3];
    const torch::Tensor weight = as_statistics(saved[1], x);
    const std::int64_t features = ctx->saved_data["features"].toInt();
    const torch::Tensor dy = gradients[0].contiguous();
    // In order of the inputs, which are counted without the absent ones.
    std::size_t next = 0;
    const auto wanted = [&](bool present) { return present && ctx->needs_input_grad(next++); };
    // Those of the parameters are in float; autograd converts them to the parameters' type.
    torch::Tensor dx, dweight, dbias;
    const bool wants_x = wanted(true);
    if (wanted(weight.defined())) dweight = torch::empty_like(weight);
    const auto bias_shape = ctx->saved_data.find("bias_shape");
    if (wanted(bias_shape != ctx->saved_data.end())) {
      dbias = torch::empty(bias_shape->second.toIntVector(), mean.options());
    }
    const bool wants_residual = wanted(has_residual);
    if (wants_x || wants_residual) dx = torch::empty_like(x);
    dispatch(x, [&]<class T>() {
      layer_norm_backward<T>({.dy = rows<const T>(dy, features),
                              .x = rows<const T>(x, features),
                              .weight = elements<const Stat<T>>(weight),
                              .mean = elements<const Stat<T>>(mean),
                              .rstd = elements<const Stat<T>>(rstd),
                              .dsum = rows<const T>(dsum, features),
                              .dx = rows<T>(dx, features),
                              .dweight = elements<Stat<T>>(dweight),
                              .dbias = elements<Stat<T>>(dbias)});
    });
    return {dx, dweight, dbias, has_residual ? dx : torch::Tensor(), {}, {}, {}};
  }
};

variable_list layer_norm_of(const torch::Tensor& x, const torch::Tensor& residual,
                            std::span<const std::int64_t> normalized_shape,
                            const torch::Tensor& weight, const torch::Tensor& bias, double eps,
                            bool in_place) {
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
  check_residual("layer_norm", residual, x);
  return LayerNormFunction::apply(x, as_optional(weight), as_optional(bias), as_optional(residual),
                                  c10::multiply_integers(trailing), eps,
                                  in_place && !recorded({x, weight, bias, residual}));
}

}  // namespace

torch::Tensor layer_norm(const torch::Tensor& x, std::span<const std::int64_t> normalized_shape,
                         const torch::Tensor& weight, const torch::Tensor& bias, double eps,
                         bool in_place) {
  return or_input(layer_norm_of(x, {}, normalized_shape, weight, bias, eps, in_place)[0], x);
}

LayerNormSum layer_norm_residual(const torch::Tensor& x, const torch::Tensor& residual,
                                 std::span<const std::int64_t> normalized_shape,
                                 const torch::Tensor& weight, const torch::Tensor& bias, double eps,
                                 bool in_place) {
  check_floating_cpu("layer_norm", "residual", residual);
  const auto both = layer_norm_of(x, residual, normalized_shape, weight, bias, eps, in_place);
  return {or_input(both[0], x), or_input(both[1], residual)};
}

torch::Tensor LayerNormImpl::forward(const torch::Tensor& x) {
  return nn::layer_norm(x, options.normalized_shape(), weight, bias, options.eps(), in_place);
}

LayerNormSum LayerNormImpl::forward_residual(const torch::Tensor& x,
                                             const torch::Tensor& residual) {
  return layer_norm_residual(x, residual, options.normalized_shape(), weight, bias, options.eps(),
                             in_place);
}

std::shared_ptr<torch::nn::Module> LayerNormImpl::clone(
    const torch::optional<torch::Device>& device) const {
  const auto copied = torch::nn::LayerNormImpl::clone(device);
  auto copy =
      std::make_shared<LayerNormImpl>(dynamic_cast<const torch::nn::LayerNormImpl&>(*copied));
  copy->in_place = in_place;
  return copy;
}

void LayerNormImpl::pretty_print(std::ostream& out) const {
  out << description_of(torch::nn::LayerNormImpl(options));
}

}  // namespace evenkeel::nn
