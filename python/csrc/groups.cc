// GroupNorm and InstanceNorm: statistics of each sample.
#include <array>
#include <tuple>

#include "python/csrc/running.h"
#include "python/csrc/tensors.h"

namespace evenkeel::python {
namespace {

constexpr std::string_view kGroup = "group_norm", kInstance = "instance_norm";

// N * groups values.
Tensor saved_per_group(const Tensor& x, std::int64_t groups) {
  const std::array<std::int64_t, 1> size = {x.size(0) * groups};
  return empty(x, size, kSavedDtype);
}

std::tuple<Tensor, Tensor, Tensor> group_forward(Tensor x_in, std::int64_t groups,
                                                 Optional weight_in, Optional bias_in, double eps,
                                                 std::string activation, double first,
                                                 double second) {
  const Inputs in(kGroup, x_in, weight_in, bias_in);
  const Tensor y = torch::stable::empty_like(in.x);
  const Tensor mean = saved_per_group(in.x, groups), rstd = saved_per_group(in.x, groups);
  dispatch(kGroup, in.x, [&]<class T>() {
    group_norm_forward<T>(
        {.x = view<const T>(in.x, in.layout),
         .weight = values<const Wide<T>>(in.weight),
         .bias = values<const Wide<T>>(in.bias),
         .mean = values<Saved>(mean),
         .rstd = values<Saved>(rstd),
         .y = view<T>(y, in.layout)},
        {.groups = groups, .eps = eps, .activation = activation_of(activation, first, second)});
  });
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor> instance_forward(Tensor x_in, Optional weight_in,
                                                    Optional bias_in, Optional running_mean,
                                                    Optional running_var, double momentum,
                                                    double eps) {
  const Inputs in(kInstance, x_in, weight_in, bias_in);
  Running running(kInstance, in.x, running_mean, running_var, {}, {});
  const Tensor y = torch::stable::empty_like(in.x);
  const Tensor mean = saved_per_group(in.x, in.x.size(1)), rstd = torch::stable::empty_like(mean);
  dispatch(kInstance, in.x, [&]<class T>() {
    instance_norm_forward<T>(
        {.x = view<const T>(in.x, in.layout),
         .weight = values<const Wide<T>>(in.weight),
         .bias = values<const Wide<T>>(in.bias),
         .mean = values<Saved>(mean),
         .rstd = values<Saved>(rstd),
         .running = running.of_type<T>(),
         .y = view<T>(y, in.layout)},
        {.eps = eps, .update = running_mean ? update_of(momentum) : RunningUpdate::none()});
  });
  running.write_back();
  return {y, mean, rstd};
}

// The results of a backward and what it reads, of either operation.
struct Backward {
  Backward(std::string_view op, const Tensor& dy_in, const Tensor& x_in, const Optional& weight,
           const Optional& bias, std::int64_t wanted)
      : in(op, x_in, weight, bias), dy(aligned(dy_in, in.x)) {
    const std::array<std::int64_t, 1> channels = {in.x.size(1)};
    dx = result_like(in.x, wants(wanted, Want::dx));
    dweight = parameter_gradient(in.x, channels, wants(wanted, Want::dweight));
    dbias = parameter_gradient(in.x, channels, wants(wanted, Want::dbias));
  }
  std::tuple<Tensor, Tensor, Tensor> results() const {
    return {or_nothing(dx, in.x), or_nothing(dweight, in.x), or_nothing(dbias, in.x)};
  }

  Inputs in;
  Tensor dy;
  Optional dx, dweight, dbias;
};

std::tuple<Tensor, Tensor, Tensor> group_backward(Tensor dy, Tensor x, std::int64_t groups,
                                                  Optional weight, Optional bias, Tensor mean,
                                                  Tensor rstd, std::string activation, double first,
                                                  double second, std::int64_t wanted) {
  const Backward b(kGroup, dy, x, weight, bias, wanted);
  dispatch(kGroup, b.in.x, [&]<class T>() {
    group_norm_backward<T>(
        {.dy = view<const T>(b.dy, b.in.layout),
         .x = view<const T>(b.in.x, b.in.layout),
         .weight = values<const Wide<T>>(b.in.weight),
         .bias = values<const Wide<T>>(b.in.bias),
         .mean = values<const Saved>(mean),
         .rstd = values<const Saved>(rstd),
         .dx = view<T>(b.dx, b.in.layout),
         .dweight = values<Wide<T>>(b.dweight),
         .dbias = values<Wide<T>>(b.dbias)},
        {.groups = groups, .activation = activation_of(activation, first, second)});
  });
  return b.results();
}

std::tuple<Tensor, Tensor, Tensor> instance_backward(Tensor dy, Tensor x, Optional weight,
                                                     Tensor mean, Tensor rstd,
                                                     std::int64_t wanted) {
  const Backward b(kInstance, dy, x, weight, {}, wanted);
  dispatch(kInstance, b.in.x, [&]<class T>() {
    instance_norm_backward<T>({.dy = view<const T>(b.dy, b.in.layout),
                               .x = view<const T>(b.in.x, b.in.layout),
                               .weight = values<const Wide<T>>(b.in.weight),
                               .mean = values<const Saved>(mean),
                               .rstd = values<const Saved>(rstd),
                               .dx = view<T>(b.dx, b.in.layout),
                               .dweight = values<Wide<T>>(b.dweight),
                               .dbias = values<Wide<T>>(b.dbias)});
  });
  return b.results();
}

}  // namespace
}  // namespace evenkeel::python

STABLE_TORCH_LIBRARY_IMPL(evenkeel_norm, CPU, m) {
  using namespace evenkeel::python;
  m.impl("group_norm", TORCH_BOX(&group_forward));
  m.impl("group_norm_backward", TORCH_BOX(&group_backward));
  m.impl("instance_norm", TORCH_BOX(&instance_forward));
  m.impl("instance_norm_backward", TORCH_BOX(&instance_backward));
}
