#include "evenkeel/torch/convert.h"

#include <algorithm>

#include "evenkeel/error.h"
#include "torch/bridge.h"

namespace evenkeel::nn {
namespace {

bool is_channels_last(const torch::Tensor& x) {
  return x.dim() > 2 && x.movedim(1, -1).is_contiguous();
}

}  // namespace

Layout layout_of(const torch::Tensor& x) {
  return !x.is_contiguous() && is_channels_last(x) ? Layout::channels_last : Layout::channels_first;
}

torch::Tensor dense(const torch::Tensor& x, Layout layout) {
  if (!x.defined()) return x;
  if (layout == Layout::channels_first) return x.contiguous();
  if (is_channels_last(x)) return x;
  return x.movedim(1, -1).contiguous().movedim(-1, 1);
}

Shape shape_of(const torch::Tensor& x, Layout layout) {
  Shape shape{x.size(0), x.size(1), 1, layout};
  for (std::int64_t d = 2; d < x.dim(); ++d) shape.s *= x.size(d);
  return shape;
}

void check_floating_cpu(std::string_view op, std::string_view argument, const torch::Tensor& x) {
  if (!x.defined()) throw Error(c10::str(op, ": ", argument, " is undefined, expected a tensor"));
  const auto type = x.scalar_type();
  if (type != torch::kFloat32 && type != torch::kFloat64 && type != torch::kBFloat16 &&
      type != torch::kFloat16) {
    throw Error(c10::str(op, ": ", argument, " is of type ", type,
                         ", expected Float, Double, BFloat16 or Half; convert it with "
                         ".to(torch::kFloat32)"));
  }
  if (!x.device().is_cpu()) {
    throw Error(c10::str(op, ": ", argument, " is on device ", x.device(),
                         ", expected cpu; move it with .to(torch::kCPU)"));
  }
  if (x.layout() != torch::kStrided) {
    throw Error(c10::str(op, ": ", argument, " has layout ", x.layout(),
                         ", expected Strided; convert it with .to_dense()"));
  }
}

void add_moments(ChannelMoments& moments, const torch::Tensor& x) {
  check_floating_cpu("add_moments", "x", x);
  const Layout layout = layout_of(x);
  const torch::Tensor values = dense(x.detach(), layout);
  dispatch(x, [&]<class T>() { moments.add(view<const T>(values, layout)); });
}

void check_parameter(std::string_view op, std::string_view argument, const torch::Tensor& tensor,
                     const torch::Tensor& x, torch::IntArrayRef shape) {
  if (!tensor.defined()) return;
  check_floating_cpu(op, argument, tensor);
  if (tensor.scalar_type() != x.scalar_type() && tensor.scalar_type() != statistics_type(x)) {
    const bool narrow = x.scalar_type() != statistics_type(x);
    throw Error(c10::str(op, ": ", argument, " is of type ", tensor.scalar_type(), ", expected ",
                         x.scalar_type(), " (the type of x)", narrow ? " or Float" : "",
                         "; convert one with .to(dtype)"));
  }
  if (tensor.sizes() != shape) {
    throw Error(c10::str(op, ": ", argument, " has shape ", tensor.sizes(), ", expected ", shape));
  }
}

void check_residual(std::string_view op, const torch::Tensor& residual, const torch::Tensor& x) {
  if (!residual.defined()) return;
  check_floating_cpu(op, "residual", residual);
  if (residual.scalar_type() != x.scalar_type()) {
    throw Error(c10::str(op, ": residual is of type ", residual.scalar_type(), ", expected ",
                         x.scalar_type(), " (the type of x); convert one with .to(dtype)"));
  }
  if (residual.sizes() != x.sizes()) {
    throw Error(c10::str(op, ": residual has shape ", residual.sizes(), ", expected ", x.sizes(),
                         " (the shape of x); broadcast it with .expand_as(x)"));
  }
}

torch::Tensor as_statistics(const torch::Tensor& tensor, const torch::Tensor& x) {
  return tensor.defined() ? tensor.to(statistics_type(x)).contiguous() : tensor;
}

bool recorded(torch::TensorList inputs) {
  return torch::GradMode::is_enabled() && std::ranges::any_of(inputs, [](const auto& input) {
           return input.defined() && input.requires_grad();
         });
}

torch::Tensor output_of(const torch::Tensor& input, const torch::Tensor& dense_input,
                        bool over_input, torch::autograd::variable_list& dirty) {
  if (!over_input) return torch::empty_like(dense_input);
  if (dense_input.is_same(input)) dirty.push_back(input);
  return dense_input;
}

void refuse_double_backward(std::string_view op) {
  if (torch::GradMode::is_enabled()) {
    throw Error(c10::str(op,
                         ": second derivatives are not supported; call backward without "
                         "create_graph, or use torch::nn for this layer"));
  }
}

std::string description_of(const torch::nn::Module& torch_module) {
  constexpr std::string_view torch_namespace = "torch::";
  return "evenkeel::" + c10::str(torch_module).substr(torch_namespace.size());
}

}  // namespace evenkeel::nn
