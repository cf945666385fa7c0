#include "torch/bridge.h"

#include <ATen/MemoryOverlap.h>

#include <algorithm>
#include <vector>

#include "evenkeel/error.h"

namespace evenkeel::nn {

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

void check_channels(std::string_view op, const torch::Tensor& x, const torch::Tensor& weight,
                    const torch::Tensor& bias) {
  check_floating_cpu(op, "x", x);
  if (x.dim() < 2) {
    throw Error(c10::str(op, ": x has ", x.dim(),
                         " dimensions, expected 2 or more: (samples, channels, ...)"));
  }
  check_parameter(op, "weight", weight, x, x.size(1));
  check_parameter(op, "bias", bias, x, x.size(1));
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

void check_written(std::string_view op, std::string_view argument, const torch::Tensor& written,
                   std::initializer_list<Given> others) {
  for (const auto& [name, other, may_be_written] : others) {
    if (!other.defined()) continue;
    const auto status = at::get_overlap_status(written, other);
    if (status != at::MemOverlapStatus::Partial && status != at::MemOverlapStatus::Full) continue;
    if (status == at::MemOverlapStatus::Full && may_be_written) continue;
    throw Error(c10::str(op, ": ", argument, " is written to and shares memory with ", name,
                         ", expected memory of its own",
                         may_be_written ? c10::str(", or exactly that of ", name) : "",
                         "; pass a clone() of one of them"));
  }
}

void refuse_double_backward(std::string_view op) {
  if (torch::GradMode::is_enabled()) {
    throw Error(c10::str(op,
                         ": second derivatives are not supported; call backward without "
                         "create_graph, or use torch::nn for this layer"));
  }
}

void save_activation(torch::autograd::AutogradContext* ctx, const Activation& activation) {
  if (activation == Activation::none) return;
  ctx->saved_data["activation"] = std::vector<double>{
      static_cast<double>(activation.kind), activation.low, activation.high, activation.slope};
}

Activation saved_activation(torch::autograd::AutogradContext* ctx) {
  const auto saved = ctx->saved_data.find("activation");
  if (saved == ctx->saved_data.end()) return Activation::none;
  const std::vector<double> fields = saved->second.toDoubleVector();
  return {static_cast<Activation::Kind>(fields[0]), fields[1], fields[2], fields[3]};
}

std::string description_of(const torch::nn::Module& torch_module) {
  constexpr std::string_view torch_namespace = "torch::";
  return "evenkeel::" + c10::str(torch_module).substr(torch_namespace.size());
}

std::string description_of(const Activation& activation) {
  if (activation == Activation::none) return {};
  if (activation == Activation::relu) return " + ReLU";
  if (activation == Activation::relu6) return " + ReLU6";
  switch (activation.kind) {
    case Activation::Kind::leaky_relu:
      return c10::str(" + LeakyReLU(negative_slope=", activation.slope, ")");
    case Activation::Kind::silu:
      return " + SiLU";
    case Activation::Kind::hardswish:
      return " + Hardswish";
    default:
      return c10::str(" + Hardtanh(min_val=", activation.low, ", max_val=", activation.high, ")");
  }
}

}  // namespace evenkeel::nn
