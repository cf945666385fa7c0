// What the operations of the bridge share.
#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "evenkeel/activation.h"
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

// The dtype of the core's Wide<T> for the dtype T of x.
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

// Throws Error unless x is a floating point tensor on the CPU of shape (samples, channels, ...),
// and weight and bias are parameters per channel.
void check_channels(std::string_view op, const torch::Tensor& x, const torch::Tensor& weight,
                    const torch::Tensor& bias);

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

// An argument of a call, perhaps undefined, by the name that the caller knows.
struct Given {
  std::string_view name;
  torch::Tensor tensor;
  bool may_be_written = false;  // it may be the very memory that is written to
};

// Throws Error if a tensor that a call writes to shares memory with one of the others. The core
// would find it too, or get a copy and leave the caller with an argument that was overwritten; but
// it does not know that its y is the caller's x.
void check_written(std::string_view op, std::string_view argument, const torch::Tensor& written,
                   std::initializer_list<Given> others);

// Which gradients a backward is asked for. Ask in the order of the forward's inputs, since autograd
// counts them without those that were absent.
class WantedGradients {
 public:
  explicit WantedGradients(torch::autograd::AutogradContext* ctx) : ctx_(ctx) {}
  bool next(bool present = true) { return present && ctx_->needs_input_grad(next_++); }

 private:
  torch::autograd::AutogradContext* ctx_;
  std::size_t next_ = 0;
};

// Hands the activation of a forward to its backward.
void save_activation(torch::autograd::AutogradContext* ctx, const Activation& activation);
Activation saved_activation(torch::autograd::AutogradContext* ctx);

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

// A parameter that may be absent, as an autograd function gets it.
inline torch::Tensor or_undefined(const torch::optional<torch::Tensor>& tensor) {
  return tensor ? *tensor : torch::Tensor();
}

// Makes a module that derives from one of torch's hold the parameters, buffers and training flag of
// that one. They are assigned, because a constructor that works with every libtorch cannot copy
// them: torch::nn::Module is a virtual base in some versions (1.13) and not in others (2.15).
inline void adopt_state(torch::nn::Module& ours, const torch::nn::Module& theirs) { ours = theirs; }

// The clone of a module that derives from torch's `Theirs`, whose own clone makes a `Theirs`.
template <class Theirs, class Ours>
std::shared_ptr<Ours> clone_of(const Ours& layer, const torch::optional<torch::Device>& device) {
  const auto copied = layer.Theirs::clone(device);
  return std::make_shared<Ours>(dynamic_cast<const Theirs&>(*copied));
}

// What a torch module prints of itself, under evenkeel's namespace.
std::string description_of(const torch::nn::Module& torch_module);
// What follows that: " + ReLU", for example; nothing for no activation.
std::string description_of(const Activation& activation);

}  // namespace evenkeel::nn
