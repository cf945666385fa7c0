#include "torch/sample_norm.h"

#include "torch/bridge.h"
#include "torch/running.h"

namespace evenkeel::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One call of GroupNorm or InstanceNorm; only the kernels that it calls differ.
struct GroupCall {
  const GroupNormOptions& options;

  std::int64_t groups(const torch::Tensor&) const { return options.groups; }
  Activation activation() const { return options.activation; }

  template <class T>
  void forward(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
               const torch::Tensor& mean, const torch::Tensor& rstd, const torch::Tensor& y,
               Layout layout) const {
    group_norm_forward<T>({.x = view<const T>(x, layout),
                           .weight = elements<const Wide<T>>(weight),
                           .bias = elements<const Wide<T>>(bias),
                           .mean = elements<double>(mean),
                           .rstd = elements<double>(rstd),
                           .y = view<T>(y, layout)},
                          options);
  }
};

struct InstanceCall {
  const InstanceNormOptions& options;
  const RunningTensors& running;

  std::int64_t groups(const torch::Tensor& x) const { return x.size(1); }
  Activation activation() const { return Activation::none; }

  template <class T>
  void forward(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
               const torch::Tensor& mean, const torch::Tensor& rstd, const torch::Tensor& y,
               Layout layout) const {
    const bool updates = options.update.kind != RunningUpdate::Kind::none;
    BatchCount count("instance_norm", running, options.update);
    instance_norm_forward<T>(
        {.x = view<const T>(x, layout),
         .weight = elements<const Wide<T>>(weight),
         .bias = elements<const Wide<T>>(bias),
         .mean = elements<double>(mean),
         .rstd = elements<double>(rstd),
         .running = updates ? running_statistics<T>(running, count) : RunningStatistics<T>(),
         .y = view<T>(y, layout)},
        options);
    count.store();
  }
};

struct SampleNormFunction : torch::autograd::Function<SampleNormFunction> {
  template <class Call>
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& input,
                               const torch::optional<torch::Tensor>& weight_in,
                               const torch::optional<torch::Tensor>& bias_in, const Call& call,
                               bool over_x) {
    constexpr bool is_instance = std::is_same_v<Call, InstanceCall>;
    const Layout layout = layout_of(input);
    const torch::Tensor x = dense(input, layout);
    const torch::Tensor weight = as_statistics(or_undefined(weight_in), x);
    const torch::Tensor bias = as_statistics(or_undefined(bias_in), x);
    variable_list dirty;
    const torch::Tensor y = output_of(input, x, over_x, dirty);
    if (over_x) {
      check_written(is_instance ? "instance_norm" : "group_norm", "x (in_place)", y,
                    {{"weight", or_undefined(weight_in)}, {"bias", or_undefined(bias_in)}});
    }
    ctx->mark_dirty(dirty);
    const torch::Tensor mean = torch::empty({x.size(0) * call.groups(x)}, torch::kFloat64);
    const torch::Tensor rstd = torch::empty_like(mean);
    dispatch(x,
             [&]<class T>() { call.template forward<T>(x, weight, bias, mean, rstd, y, layout); });
    // The backward computes the value before the activation again, for which it needs the bias.
    const bool activates = call.activation() != Activation::none;
    ctx->save_for_backward({x, or_undefined(weight_in), mean, rstd,
                            activates ? or_undefined(bias_in) : torch::Tensor()});
    ctx->saved_data["instance"] = is_instance;
    ctx->saved_data["groups"] = call.groups(x);
    ctx->saved_data["has_bias"] = bias.defined();
    save_activation(ctx, call.activation());
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const bool is_instance = ctx->saved_data["instance"].toBool();
    refuse_double_backward(is_instance ? "instance_norm" : "group_norm");
    const variable_list saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &mean = saved[2], &rstd = saved[3];
    const torch::Tensor weight = as_statistics(saved[1], x), bias = as_statistics(saved[4], x);
    const GroupNormOptions options{.groups = ctx->saved_data["groups"].toInt(),
                                   .activation = saved_activation(ctx)};
    const Layout layout = layout_of(x);
    const torch::Tensor dy = dense(gradients[0], layout);
    // Those of the parameters are in float; autograd converts them to the parameters' type.
    torch::Tensor dx, dweight, dbias;
    const auto new_parameter = [&] { return torch::empty({x.size(1)}, statistics_type(x)); };
    WantedGradients wanted(ctx);
    if (wanted.next()) dx = torch::empty_like(x);
    if (wanted.next(weight.defined())) dweight = new_parameter();
    if (wanted.next(ctx->saved_data["has_bias"].toBool())) dbias = new_parameter();
    dispatch(x, [&]<class T>() {
      if (is_instance) {
        instance_norm_backward<T>({.dy = view<const T>(dy, layout),
                                   .x = view<const T>(x, layout),
                                   .weight = elements<const Wide<T>>(weight),
                                   .mean = elements<const double>(mean),
                                   .rstd = elements<const double>(rstd),
                                   .dx = view<T>(dx, layout),
                                   .dweight = elements<Wide<T>>(dweight),
                                   .dbias = elements<Wide<T>>(dbias)});
      } else {
        group_norm_backward<T>({.dy = view<const T>(dy, layout),
                                .x = view<const T>(x, layout),
                                .weight = elements<const Wide<T>>(weight),
                                .bias = elements<const Wide<T>>(bias),
                                .mean = elements<const double>(mean),
                                .rstd = elements<const double>(rstd),
                                .dx = view<T>(dx, layout),
                                .dweight = elements<Wide<T>>(dweight),
                                .dbias = elements<Wide<T>>(dbias)},
                               options);
      }
    });
    return {dx, dweight, dbias, {}, {}};
  }
};

template <class Call>
torch::Tensor apply(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                    const Call& call, bool in_place) {
  const bool over_x = in_place && !recorded({x, weight, bias});
  return or_input(
      SampleNormFunction::apply(x, as_optional(weight), as_optional(bias), call, over_x), x);
}

}  // namespace

torch::Tensor normalize_groups(const torch::Tensor& x, const torch::Tensor& weight,
                               const torch::Tensor& bias, const GroupNormOptions& options,
                               bool in_place) {
  return apply(x, weight, bias, GroupCall{options}, in_place);
}

torch::Tensor normalize_instances(const torch::Tensor& x, const torch::Tensor& weight,
                                  const torch::Tensor& bias, const RunningTensors& running,
                                  const InstanceNormOptions& options, bool in_place) {
  return apply(x, weight, bias, InstanceCall{options, running}, in_place);
}

}  // namespace evenkeel::nn
