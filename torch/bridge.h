// What the three operations of the bridge share.
#pragma once

#include <torch/torch.h>

#include <string>
#include <string_view>
#include <utility>

#include "evenkeel/float16.h"
#include "evenkeel/torch/convert.h"

namespace evenkeel::nn {

// Calls body.template operator()<T>() with the element type of x, which check_floating_cpu passed.
template <class Body>
void dispatch(const torch::Tensor& x, Body&& body) {
  switch (x.scalar_type()) {
    case torch::kFloat64:
      return std::forward<Body>(body).template operator()<double>();
    case torch::kBFloat16:
      return std::forward<Body>(body).template operator()<BFloat16>();
    case torch::kFloat16:
      return std::forward<Body>(body).template operator()<Float16>();
    default:
      return std::forward<Body>(body).template operator()<float>();
  }
}

// The dtype of the core's Stat<T> for the dtype T of x.
inline torch::ScalarType statistics_type(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

// A parameter or statistic as the core takes it beside x: itself if it is so already, else a copy.
// Undefined stays undefined.
torch::Tensor as_statistics(const torch::Tensor& tensor, const torch::Tensor& x);

// Throws Error unless a parameter or statistic is undefined, or is on the CPU, has the given shape,
// and is of the dtype of x or, beside an x of 16 bits, of float32.
void check_parameter(std::string_view op, std::string_view argument, const torch::Tensor& tensor,
                     const torch::Tensor& x, torch::IntArrayRef shape);

// Throws Error unless the residual is undefined, or is on the CPU with the dtype and shape of x.
void check_residual(std::string_view op, const torch::Tensor& residual, const torch::Tensor& x);

// Whether autograd records what is computed from these tensors, some of which may be undefined.
// What it records it may need again, so only otherwise may an input be overwritten.
bool recorded(torch::TensorList inputs);

// Where an output of the size of `dense_input` (`input`, or a dense copy of it) goes: new memory,
// or if `over_input` that very memory. An input that is overwritten is added to `dirty`, for
// AutogradContext::mark_dirty.
torch::Tensor output_of(const torch::Tensor& input, const torch::Tensor& dense_input,
                        bool over_input, torch::autograd::variable_list& dirty);

// Throws Error if a backward is itself being recorded: the bridge has no second derivatives, and
// gradients without history would make them silently wrong.
void refuse_double_backward(std::string_view op);

// Autograd functions take parameters that may be absent as optionals.
inline torch::optional<torch::Tensor> as_optional(const torch::Tensor& tensor) {
  if (!tensor.defined()) return {};
  return tensor;
}

// An output that was written over an input is that input. (Autograd functions return an alias.)
inline torch::Tensor or_input(const torch::Tensor& output, const torch::Tensor& input) {
  return output.is_alias_of(input) ? input : output;
}

// What a torch module prints of itself, under evenkeel's namespace.
std::string description_of(const torch::nn::Module& torch_module);

}  // namespace evenkeel::nn
