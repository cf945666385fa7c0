// LayerNorm and RMSNorm: statistics of each row of features, the trailing `axes` dimensions of x.
#include <array>
#include <tuple>

#include "python/csrc/tensors.h"

namespace evenkeel::python {
namespace {

constexpr std::string_view kLayer = "layer_norm", kRms = "rms_norm";

// What both read: contiguous samples of contiguous features.
struct Rows {
  Rows(std::string_view op, const Tensor& x_in, std::int64_t axes, const Optional& weight_in,
       const Optional& bias_in = {})
      : x(torch::stable::contiguous(x_in)), shape(features_of(op, x, axes)) {
    for (std::size_t i = 0; i < x.sizes().size() - shape.size(); ++i) samples *= x.sizes()[i];
    for (const std::int64_t size : shape) features *= size;
    check_parameter(op, "weight", weight_in, x, shape);
    check_parameter(op, "bias", bias_in, x, shape);
    weight = converted(weight_in, wide_dtype(x));
    bias = converted(bias_in, wide_dtype(x));
  }

  static Sizes features_of(std::string_view op, const Tensor& x, std::int64_t axes) {
    const Sizes sizes = x.sizes();
    if (axes < 1 || axes > x.dim()) {
      throw Error(std::string(op) + ": x has " + std::to_string(x.dim()) +
                  " dimensions, expected at least 1, and at least the " + std::to_string(axes) +
                  " of normalized_shape");
    }
    return sizes.slice(sizes.size() - static_cast<std::size_t>(axes));
  }

  template <class T>
  TensorView<T> view(const Optional& tensor) const {
    if (!tensor) return {};
    return {static_cast<T*>(tensor->data_ptr()), {samples, features}};
  }

  Tensor saved() const {
    const std::array<std::int64_t, 1> size = {samples};
    return empty(x, size, kSavedDtype);
  }

  Tensor x;
  Sizes shape;
  std::int64_t samples = 1, features = 1;
  Optional weight, bias;
};

// An optional tensor as contiguous memory of the dtype of x.
Optional contiguous(const Optional& tensor, const Tensor& x) {
  return converted(tensor, x.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor, Tensor> add_layer_norm(Tensor x_in, Optional residual_in,
                                                          std::int64_t axes, Optional weight,
                                                          Optional bias, double eps) {
  const Rows in(kLayer, x_in, axes, weight, bias);
  check_residual(kLayer, residual_in, in.x);
  const Optional residual = contiguous(residual_in, in.x);
  const Tensor y = torch::stable::empty_like(in.x), mean = in.saved(), rstd = in.saved();
  const Tensor sum = residual ? torch::stable::empty_like(in.x) : y;
  dispatch(kLayer, in.x, [&]<class T>() {
    layer_norm_forward<T>({.x = in.view<const T>(in.x),
                           .weight = values<const Wide<T>>(in.weight),
                           .bias = values<const Wide<T>>(in.bias),
                           .mean = values<Saved>(mean),
                           .rstd = values<Saved>(rstd),
                           .residual = in.view<const T>(residual),
                           .sum = residual ? in.view<T>(sum) : TensorView<T>{},
                           .y = in.view<T>(y)},
                          {.eps = eps});
  });
  return {y, mean, rstd, sum};
}

std::tuple<Tensor, Tensor, Tensor> layer_norm(Tensor x, std::int64_t axes, Optional weight,
                                              Optional bias, double eps) {
  const auto [y, mean, rstd, sum] = add_layer_norm(x, {}, axes, weight, bias, eps);
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor> add_rms_norm(Tensor x_in, Optional residual_in,
                                                std::int64_t axes, Optional weight, double eps,
                                                bool unit_offset) {
  const Rows in(kRms, x_in, axes, weight);
  check_residual(kRms, residual_in, in.x);
  const Optional residual = contiguous(residual_in, in.x);
  const Tensor y = torch::stable::empty_like(in.x), rstd = in.saved();
  const Tensor sum = residual ? torch::stable::empty_like(in.x) : y;
  dispatch(kRms, in.x, [&]<class T>() {
    rms_norm_forward<T>({.x = in.view<const T>(in.x),
                         .weight = values<const Wide<T>>(in.weight),
                         .rstd = values<Saved>(rstd),
                         .residual = in.view<const T>(residual),
                         .sum = residual ? in.view<T>(sum) : TensorView<T>{},
                         .y = in.view<T>(y)},
                        {.eps = eps, .unit_offset = unit_offset});
  });
  return {y, rstd, sum};
}

std::tuple<Tensor, Tensor> rms_norm(Tensor x, std::int64_t axes, Optional weight, double eps,
                                    bool unit_offset) {
  const auto [y, rstd, sum] = add_rms_norm(x, {}, axes, weight, eps, unit_offset);
  return {y, rstd};
}

// The gradient of x is that of the residual too.
std::tuple<Tensor, Tensor, Tensor> layer_norm_gradient(Tensor dy_in, Tensor x_in, std::int64_t axes,
                                                       Optional weight, Tensor mean, Tensor rstd,
                                                       Optional dsum_in, std::int64_t wanted) {
  const Rows in(kLayer, x_in, axes, weight);
  const Optional dy = contiguous(dy_in, in.x), dsum = contiguous(dsum_in, in.x);
  const Optional dx = result_like(in.x, wants(wanted, Want::dx));
  const Optional dweight = parameter_gradient(in.x, in.shape, wants(wanted, Want::dweight));
  const Optional dbias = parameter_gradient(in.x, in.shape, wants(wanted, Want::dbias));
  dispatch(kLayer, in.x, [&]<class T>() {
    layer_norm_backward<T>({.dy = in.view<const T>(dy),
                            .x = in.view<const T>(in.x),
                            .weight = values<const Wide<T>>(in.weight),
                            .mean = values<const Saved>(mean),
                            .rstd = values<const Saved>(rstd),
                            .dsum = in.view<const T>(dsum),
                            .dx = in.view<T>(dx),
                            .dweight = values<Wide<T>>(dweight),
                            .dbias = values<Wide<T>>(dbias)});
  });
  return {or_nothing(dx, in.x), or_nothing(dweight, in.x), or_nothing(dbias, in.x)};
}

std::tuple<Tensor, Tensor> rms_norm_gradient(Tensor dy_in, Tensor x_in, std::int64_t axes,
                                             Optional weight, Tensor rstd, Optional dsum_in,
                                             bool unit_offset, std::int64_t wanted) {
  const Rows in(kRms, x_in, axes, weight);
  const Optional dy = contiguous(dy_in, in.x), dsum = contiguous(dsum_in, in.x);
  const Optional dx = result_like(in.x, wants(wanted, Want::dx));
  const Optional dweight = parameter_gradient(in.x, in.shape, wants(wanted, Want::dweight));
  dispatch(kRms, in.x, [&]<class T>() {
    rms_norm_backward<T>({.dy = in.view<const T>(dy),
                          .x = in.view<const T>(in.x),
                          .weight = values<const Wide<T>>(in.weight),
                          .rstd = values<const Saved>(rstd),
                          .dsum = in.view<const T>(dsum),
                          .dx = in.view<T>(dx),
                          .dweight = values<Wide<T>>(dweight)},
                         {.unit_offset = unit_offset});
  });
  return {or_nothing(dx, in.x), or_nothing(dweight, in.x)};
}

}  // namespace
}  // namespace evenkeel::python

STABLE_TORCH_LIBRARY_IMPL(evenkeel_norm, CPU, m) {
  using namespace evenkeel::python;
  m.impl("layer_norm", TORCH_BOX(&layer_norm));
  m.impl("add_layer_norm", TORCH_BOX(&add_layer_norm));
  m.impl("layer_norm_backward", TORCH_BOX(&layer_norm_gradient));
  m.impl("rms_norm", TORCH_BOX(&rms_norm));
  m.impl("add_rms_norm", TORCH_BOX(&add_rms_norm));
  m.impl("rms_norm_backward", TORCH_BOX(&rms_norm_gradient));
}
