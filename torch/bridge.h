// What the three operations of the bridge share.
#pragma once

#include <torch/torch.h>

#include <string>
#include <string_view>
#include <utility>

#include "evenkeel/torch/convert.h"

namespace evenkeel::nn {

// Calls body.template operator()<T>() with the element type of x, which check_floating_cpu passed.
template <class Body>
void dispatch(const torch::Tensor& x, Body&& body) {
  if (x.scalar_type() == torch::kFloat32) {
    std::forward<Body>(body).template operator()<float>();
  } else {
    std::forward<Body>(body).template operator()<double>();
  }
}

// Throws Error unless a parameter or statistic is undefined, or is on the CPU with the dtype of x
// and has the given shape.
void check_parameter(std::string_view op, std::string_view argument, const torch::Tensor& tensor,
                     const torch::Tensor& x, torch::IntArrayRef shape);

// Throws Error if a backward is itself being recorded: the bridge has no second derivatives, and
// gradients without history would make them silently wrong.
void refuse_double_backward(std::string_view op);

// Autograd functions take parameters that may be absent as optionals.
inline torch::optional<torch::Tensor> as_optional(const torch::Tensor& tensor) {
  if (!tensor.defined()) return {};
  return tensor;
}

// What a torch module prints of itself, under evenkeel's namespace.
std::string description_of(const torch::nn::Module& torch_module);

}  // namespace evenkeel::nn
