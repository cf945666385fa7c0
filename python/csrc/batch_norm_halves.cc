// The halves of BatchNorm, for a batch that is spread over several processes: what each computes of
// its own part before the processes talk to each other, and what after.
#include <algorithm>
#include <array>
#include <tuple>

#include "python/csrc/running.h"
#include "python/csrc/tensors.h"

namespace evenkeel::python {
namespace {

constexpr std::string_view kOp = "batch_norm";

// The moments of x as 2C + 1 numbers: the count of values per channel, the means, the sums of
// squared deviations.
Tensor moments(Tensor x_in) {
  const Inputs in(kOp, x_in, {}, {});
  const std::int64_t channels = in.x.size(1);
  const std::array<std::int64_t, 1> size = {2 * channels + 1};
  const Tensor state = empty(in.x, size, ScalarType::Double);
  dispatch(kOp, in.x, [&]<class T>() {
    ChannelMoments batch(channels);
    batch.add(view<const T>(in.x, in.layout));
    double* out = values<double>(state).data();
    *out++ = batch.count();
    out = std::ranges::copy(batch.mean(), out).out;
    std::ranges::copy(batch.m2(), out);
  });
  return state;
}

// The moments of all processes, a row each, merged in the order of the rows.
ChannelMoments merged(const Tensor& moments_in, std::int64_t channels) {
  const Tensor states = converted(moments_in, ScalarType::Double);
  const std::int64_t width = 2 * channels + 1;
  if (states.dim() != 2 || states.size(1) != width) {
    throw Error("batch_norm: moments is expected to have the shape (processes, " +
                std::to_string(width) + "), as batch_norm_moments gives for each process");
  }
  ChannelMoments all(channels);
  const auto size = static_cast<std::size_t>(channels);
  for (std::int64_t process = 0; process < states.size(0); ++process) {
    const double* state = values<const double>(states).data() + process * width;
    all.merge(ChannelMoments(*state, {state + 1, size}, {state + 1 + channels, size}));
  }
  return all;
}

// The forward by the moments of all processes.
std::tuple<Tensor, Tensor, Tensor> forward(Tensor x_in, Optional weight_in, Optional bias_in,
                                           Optional residual_in, Tensor moments,
                                           Optional running_mean, Optional running_var,
                                           Optional batches, Optional skipped,
                                           std::optional<double> momentum, double eps,
                                           std::string activation, double first, double second) {
  const Inputs in(kOp, x_in, weight_in, bias_in, residual_in);
  Running running(kOp, in.x, running_mean, running_var, batches, skipped);
  const std::array<std::int64_t, 1> channels = {in.x.size(1)};
  const Tensor y = torch::stable::empty_like(in.x);
  const Tensor mean = empty(in.x, channels, kSavedDtype);
  const Tensor rstd = empty(in.x, channels, kSavedDtype);
  dispatch(kOp, in.x, [&]<class T>() {
    batch_norm_forward<T>({.x = view<const T>(in.x, in.layout),
                           .weight = values<const Wide<T>>(in.weight),
                           .bias = values<const Wide<T>>(in.bias),
                           .mean = values<Saved>(mean),
                           .rstd = values<Saved>(rstd),
                           .running = running.of_type<T>(),
                           .residual = view<const T>(in.residual, in.layout),
                           .y = view<T>(y, in.layout)},
                          merged(moments, in.x.size(1)),
                          {.eps = eps,
                           .update = running_mean ? update_of(momentum) : RunningUpdate::none(),
                           .activation = activation_of(activation, first, second)});
  });
  running.write_back();
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gradient_sums(Tensor dy_in, Tensor x_in,
                                                         Optional weight_in, Optional bias_in,
                                                         Optional residual_in, Tensor mean,
                                                         Tensor rstd, std::string activation,
                                                         double first, double second,
                                                         std::int64_t wanted) {
  const Inputs in(kOp, x_in, weight_in, bias_in, residual_in);
  const Tensor dy = aligned(dy_in, in.x);
  const std::array<std::int64_t, 1> channels = {in.x.size(1)};
  const Tensor sum_dy = empty(in.x, channels, ScalarType::Double);
  const Tensor sum_dy_x = empty(in.x, channels, ScalarType::Double);
  const Optional dweight = parameter_gradient(in.x, channels, wants(wanted, Want::dweight));
  const Optional dbias = parameter_gradient(in.x, channels, wants(wanted, Want::dbias));
  dispatch(kOp, in.x, [&]<class T>() {
    batch_norm_gradient_sums<T>({.dy = view<const T>(dy, in.layout),
                                 .x = view<const T>(in.x, in.layout),
                                 .weight = values<const Wide<T>>(in.weight),
                                 .bias = values<const Wide<T>>(in.bias),
                                 .mean = values<const Saved>(mean),
                                 .rstd = values<const Saved>(rstd),
                                 .residual = view<const T>(in.residual, in.layout),
                                 .dweight = values<Wide<T>>(dweight),
                                 .dbias = values<Wide<T>>(dbias)},
                                {.dy = values<double>(sum_dy), .dy_x = values<double>(sum_dy_x)},
                                {.activation = activation_of(activation, first, second)});
  });
  return {sum_dy, sum_dy_x, or_nothing(dweight, in.x), or_nothing(dbias, in.x)};
}

std::tuple<Tensor, Tensor> backward(Tensor dy_in, Tensor x_in, Optional weight_in, Optional bias_in,
                                    Optional residual_in, Tensor mean, Tensor rstd, Tensor sum_dy,
                                    Tensor sum_dy_x, double count, std::string activation,
                                    double first, double second, std::int64_t wanted) {
  const Inputs in(kOp, x_in, weight_in, bias_in, residual_in);
  const Tensor dy = aligned(dy_in, in.x);
  const Optional dx = result_like(in.x, wants(wanted, Want::dx));
  const Optional dresidual = result_like(in.x, wants(wanted, Want::dresidual));
  dispatch(kOp, in.x, [&]<class T>() {
    batch_norm_backward<T>(
        {.dy = view<const T>(dy, in.layout),
         .x = view<const T>(in.x, in.layout),
         .weight = values<const Wide<T>>(in.weight),
         .bias = values<const Wide<T>>(in.bias),
         .mean = values<const Saved>(mean),
         .rstd = values<const Saved>(rstd),
         .residual = view<const T>(in.residual, in.layout),
         .dx = view<T>(dx, in.layout),
         .dresidual = view<T>(dresidual, in.layout)},
        {.dy = values<const double>(sum_dy), .dy_x = values<const double>(sum_dy_x)}, count,
        {.activation = activation_of(activation, first, second)});
  });
  return {or_nothing(dx, in.x), or_nothing(dresidual, in.x)};
}

}  // namespace
}  // namespace evenkeel::python

STABLE_TORCH_LIBRARY_IMPL(evenkeel_norm, CPU, m) {
  using namespace evenkeel::python;
  m.impl("batch_norm_moments", TORCH_BOX(&moments));
  m.impl("batch_norm_of_moments", TORCH_BOX(&forward));
  m.impl("batch_norm_gradient_sums", TORCH_BOX(&gradient_sums));
  m.impl("batch_norm_backward_of_sums", TORCH_BOX(&backward));
}
