// BatchNorm: by the batch's statistics, by given ones, and the running statistics.
#include <array>
#include <tuple>

#include "python/csrc/running.h"
#include "python/csrc/tensors.h"

namespace evenkeel::python {
namespace {

constexpr std::string_view kOp = "batch_norm";

Tensor saved_per_channel(const Tensor& x) {
  const std::array<std::int64_t, 1> channels = {x.size(1)};
  return empty(x, channels, kSavedDtype);
}

std::tuple<Tensor, Tensor, Tensor> forward(Tensor x_in, Optional weight_in, Optional bias_in,
                                           Optional residual_in, Optional running_mean,
                                           Optional running_var, Optional batches, Optional skipped,
                                           std::optional<double> momentum, double eps,
                                           std::string activation, double first, double second) {
  const Inputs in(kOp, x_in, weight_in, bias_in, residual_in);
  Running running(kOp, in.x, running_mean, running_var, batches, skipped);
  const Tensor y = torch::stable::empty_like(in.x);
  const Tensor mean = saved_per_channel(in.x), rstd = saved_per_channel(in.x);
  dispatch(kOp, in.x, [&]<class T>() {
    batch_norm_forward<T>({.x = view<const T>(in.x, in.layout),
                           .weight = values<const Wide<T>>(in.weight),
                           .bias = values<const Wide<T>>(in.bias),
                           .mean = values<Saved>(mean),
                           .rstd = values<Saved>(rstd),
                           .running = running.of_type<T>(),
                           .residual = view<const T>(in.residual, in.layout),
                           .y = view<T>(y, in.layout)},
                          {.eps = eps,
                           .update = running_mean ? update_of(momentum) : RunningUpdate::none(),
                           .activation = activation_of(activation, first, second)});
  });
  running.write_back();
  return {y, mean, rstd};
}

// With given statistics. The mean comes back as the backward wants it, and as a copy, since a
// running mean may have moved before the backward reads it.
std::tuple<Tensor, Tensor, Tensor> inference(Tensor x_in, Optional weight_in, Optional bias_in,
                                             Optional residual_in, Tensor mean_in, Tensor var_in,
                                             double eps, std::string activation, double first,
                                             double second) {
  const Inputs in(kOp, x_in, weight_in, bias_in, residual_in);
  const std::array<std::int64_t, 1> channels = {in.x.size(1)};
  check_parameter(kOp, "running_mean", mean_in, in.x, channels);
  check_parameter(kOp, "running_var", var_in, in.x, channels);
  const Tensor given_mean = converted(mean_in, wide_dtype(in.x));
  const Tensor var = converted(var_in, wide_dtype(in.x));
  const Tensor y = torch::stable::empty_like(in.x), rstd = saved_per_channel(in.x);
  Tensor mean = saved_per_channel(in.x);
  torch::stable::copy_(mean, mean_in);
  dispatch(kOp, in.x, [&]<class T>() {
    batch_norm_inference<T>({.x = view<const T>(in.x, in.layout),
                             .weight = values<const Wide<T>>(in.weight),
                             .bias = values<const Wide<T>>(in.bias),
                             .mean = values<const Wide<T>>(given_mean),
                             .var = values<const Wide<T>>(var),
                             .rstd = values<Saved>(rstd),
                             .residual = view<const T>(in.residual, in.layout),
                             .y = view<T>(y, in.layout)},
                            {.eps = eps, .activation = activation_of(activation, first, second)});
  });
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(Tensor dy_in, Tensor x_in, Optional weight_in,
                                                    Optional bias_in, Optional residual_in,
                                                    Tensor mean, Tensor rstd, bool given,
                                                    std::string activation, double first,
                                                    double second, std::int64_t wanted) {
  const Inputs in(kOp, x_in, weight_in, bias_in, residual_in);
  const Tensor dy = aligned(dy_in, in.x);
  const std::array<std::int64_t, 1> channels = {in.x.size(1)};
  const Optional dx = result_like(in.x, wants(wanted, Want::dx));
  const Optional dweight = parameter_gradient(in.x, channels, wants(wanted, Want::dweight));
  const Optional dbias = parameter_gradient(in.x, channels, wants(wanted, Want::dbias));
  const Optional dresidual = result_like(in.x, wants(wanted, Want::dresidual));
  dispatch(kOp, in.x, [&]<class T>() {
    batch_norm_backward<T>({.dy = view<const T>(dy, in.layout),
                            .x = view<const T>(in.x, in.layout),
                            .weight = values<const Wide<T>>(in.weight),
                            .bias = values<const Wide<T>>(in.bias),
                            .mean = values<const Saved>(mean),
                            .rstd = values<const Saved>(rstd),
                            .residual = view<const T>(in.residual, in.layout),
                            .dx = view<T>(dx, in.layout),
                            .dresidual = view<T>(dresidual, in.layout),
                            .dweight = values<Wide<T>>(dweight),
                            .dbias = values<Wide<T>>(dbias)},
                           {.statistics = given ? Statistics::given : Statistics::batch,
                            .activation = activation_of(activation, first, second)});
  });
  return {or_nothing(dx, in.x), or_nothing(dweight, in.x), or_nothing(dbias, in.x),
          or_nothing(dresidual, in.x)};
}

// Moves running statistics by a batch that is normalized with other ones.
void track(Tensor x_in, Tensor running_mean, Tensor running_var, Optional batches, Optional skipped,
           std::optional<double> momentum) {
  const Inputs in(kOp, x_in, {}, {});
  Running running(kOp, in.x, running_mean, running_var, batches, skipped);
  dispatch(kOp, in.x, [&]<class T>() {
    ChannelMoments batch(in.x.size(1));
    batch.add(view<const T>(in.x, in.layout));
    update_running_statistics<T>(batch, update_of(momentum), running.of_type<T>());
  });
  running.write_back();
}

}  // namespace
}  // namespace evenkeel::python

STABLE_TORCH_LIBRARY_IMPL(evenkeel_norm, CPU, m) {
  using namespace evenkeel::python;
  m.impl("batch_norm", TORCH_BOX(&forward));
  m.impl("batch_norm_inference", TORCH_BOX(&inference));
  m.impl("batch_norm_backward", TORCH_BOX(&backward));
  m.impl("batch_norm_track", TORCH_BOX(&track));
}
