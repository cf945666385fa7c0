#include "torch/rows.h"

#include "evenkeel/error.h"
#include "evenkeel/layer_norm.h"
#include "evenkeel/rms_norm.h"
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

struct RowNormFunction : torch::autograd::Function<RowNormFunction> {
  static variable_list forward(AutogradContext* ctx, const torch::Tensor& input,
                               const torch::optional<torch::Tensor>& weight_in,
                               const torch::optional<torch::Tensor>& bias_in,
                               const torch::optional<torch::Tensor>& residual_in,
                               std::int64_t features, const RowNorm& norm, bool over_inputs) {
    const torch::Tensor x = input.contiguous();
    const torch::Tensor residual = contiguous(or_undefined(residual_in));
    const torch::Tensor weight = as_statistics(or_undefined(weight_in), x);
    const torch::Tensor bias = as_statistics(or_undefined(bias_in), x);
    variable_list dirty;
    const torch::Tensor y = output_of(input, x, over_inputs, dirty);
    torch::Tensor sum;
    const bool over_residual = over_inputs && residual.defined() && !residual.is_alias_of(x);
    if (residual.defined()) sum = output_of(*residual_in, residual, over_residual, dirty);
    if (over_inputs) {
      check_written(norm.op(), "x (in_place)", y,
                    {{"weight", or_undefined(weight_in)},
                     {"bias", or_undefined(bias_in)},
                     {"residual", residual, /*may_be_written=*/true}});
    }
    if (over_residual) {
      check_written(norm.op(), "residual (in_place)", sum,
                    {{"weight", or_undefined(weight_in)}, {"bias", or_undefined(bias_in)}});
    }
    ctx->mark_dirty(dirty);
    const bool by_mean = norm.kind == RowNorm::Kind::layer_norm;
    const std::int64_t samples = features ? x.numel() / features : 0;
    const torch::Tensor rstd = torch::empty({samples}, torch::kFloat64);
    const torch::Tensor mean = by_mean ? torch::empty_like(rstd) : torch::Tensor();
    dispatch(x, [&]<class T>() {
      if (by_mean) {
        layer_norm_forward<T>({.x = rows<const T>(x, features),
                               .weight = elements<const Wide<T>>(weight),
                               .bias = elements<const Wide<T>>(bias),
                               .mean = elements<double>(mean),
                               .rstd = elements<double>(rstd),
                               .residual = rows<const T>(residual, features),
                               .sum = rows<T>(sum, features),
                               .y = rows<T>(y, features)},
                              {.eps = norm.eps});
      } else {
        rms_norm_forward<T>({.x = rows<const T>(x, features),
                             .weight = elements<const Wide<T>>(weight),
                             .rstd = elements<double>(rstd),
                             .residual = rows<const T>(residual, features),
                             .sum = rows<T>(sum, features),
                             .y = rows<T>(y, features)},
                            {.eps = norm.eps, .unit_offset = norm.unit_offset});
      }
    });
    ctx->save_for_backward({sum.defined() ? sum : x, or_undefined(weight_in), mean, rstd});
    ctx->set_materialize_grads(false);
    ctx->saved_data["features"] = features;
    ctx->saved_data["has_residual"] = residual.defined();
    ctx->saved_data["unit_offset"] = norm.unit_offset;
    // Only the shape of the bias is needed, which is that of its gradient.
    if (bias.defined()) ctx->saved_data["bias_shape"] = bias.sizes();
    if (!sum.defined()) return {y};
    return {y, sum};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &mean = saved[2], &rstd = saved[3];
    refuse_double_backward(mean.defined() ? "layer_norm" : "rms_norm");
    const bool has_residual = ctx->saved_data["has_residual"].toBool();
    const torch::Tensor dsum = has_residual ? contiguous(gradients[1]) : torch::Tensor();
    if (!gradients[0].defined()) return {dsum, {}, {}, dsum, {}, {}, {}};  // only the sum was used
    const torch::Tensor weight = as_statistics(saved[1], x);
    const std::int64_t features = ctx->saved_data["features"].toInt();
    const bool unit_offset = ctx->saved_data["unit_offset"].toBool();
    const torch::Tensor dy = gradients[0].contiguous();
    // Those of the parameters are in float; autograd converts them to the parameters' type.
    torch::Tensor dx, dweight, dbias;
    WantedGradients wanted(ctx);
    const bool wants_x = wanted.next();
    if (wanted.next(weight.defined())) dweight = torch::empty_like(weight);
    const auto bias_shape = ctx->saved_data.find("bias_shape");
    if (wanted.next(bias_shape != ctx->saved_data.end())) {
      dbias = torch::empty(bias_shape->second.toIntVector(), statistics_type(x));
    }
    const bool wants_residual = wanted.next(has_residual);
    if (wants_x || wants_residual) dx = torch::empty_like(x);
    dispatch(x, [&]<class T>() {
      if (mean.defined()) {
        layer_norm_backward<T>({.dy = rows<const T>(dy, features),
                                .x = rows<const T>(x, features),
                                .weight = elements<const Wide<T>>(weight),
                                .mean = elements<const double>(mean),
                                .rstd = elements<const double>(rstd),
                                .dsum = rows<const T>(dsum, features),
                                .dx = rows<T>(dx, features),
                                .dweight = elements<Wide<T>>(dweight),
                                .dbias = elements<Wide<T>>(dbias)});
      } else {
        rms_norm_backward<T>({.dy = rows<const T>(dy, features),
                              .x = rows<const T>(x, features),
                              .weight = elements<const Wide<T>>(weight),
                              .rstd = elements<const double>(rstd),
                              .dsum = rows<const T>(dsum, features),
                              .dx = rows<T>(dx, features),
                              .dweight = elements<Wide<T>>(dweight)},
                             {.unit_offset = unit_offset});
      }
    });
    return {dx, dweight, dbias, has_residual ? dx : torch::Tensor(), {}, {}, {}};
  }
};

}  // namespace

variable_list normalize_rows(const RowNorm& norm, const torch::Tensor& x,
                             const torch::Tensor& residual,
                             std::span<const std::int64_t> normalized_shape,
                             const torch::Tensor& weight, const torch::Tensor& bias,
                             bool in_place) {
  const std::string_view op = norm.op();
  check_floating_cpu(op, "x", x);
  const torch::IntArrayRef trailing(normalized_shape.data(), normalized_shape.size());
  if (trailing.empty()) {
    throw Error(c10::str(op, ": normalized_shape is empty, expected at least one dimension"));
  }
  if (x.sizes().size() < trailing.size() ||
      x.sizes().slice(x.sizes().size() - trailing.size()) != trailing) {
    throw Error(c10::str(op, ": x has shape ", x.sizes(),
                         ", expected its trailing dimensions to be normalized_shape ", trailing));
  }
  check_parameter(op, "weight", weight, x, trailing);
  check_parameter(op, "bias", bias, x, trailing);
  check_residual(op, residual, x);
  return RowNormFunction::apply(x, as_optional(weight), as_optional(bias), as_optional(residual),
                                c10::multiply_integers(trailing), norm,
                                in_place && !recorded({x, weight, bias, residual}));
}

}  // namespace evenkeel::nn
