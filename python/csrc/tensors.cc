#include "python/csrc/tensors.h"

#include <array>

namespace evenkeel::python {
namespace {

std::string text_of(Sizes sizes) {
  std::string text = "(";
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(sizes[i]);
  }
  return text + ")";
}

bool equal(Sizes a, Sizes b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

// The stable API cannot be asked for a memory format, so strides tell: the channels vary fastest,
// then the positions, then the samples. The stride of a dimension of one value does not matter.
bool is_channels_last(const Tensor& x) {
  const Sizes sizes = x.sizes(), strides = x.strides();
  const std::size_t rank = sizes.size();
  if (rank < 3) return false;
  std::int64_t expected = 1;
  const auto follows = [&](std::size_t dimension) {
    if (sizes[dimension] != 1 && strides[dimension] != expected) return false;
    expected *= sizes[dimension];
    return true;
  };
  if (!follows(1)) return false;
  for (std::size_t dimension = rank - 1; dimension >= 2; --dimension) {
    if (!follows(dimension)) return false;
  }
  return follows(0);
}

[[noreturn]] void fail(std::string_view op, const std::string& message) {
  throw Error(std::string(op) + ": " + message);
}

std::string text_of(ScalarType dtype) { return torch::headeronly::toString(dtype); }

}  // namespace

void refuse_dtype(std::string_view op, const Tensor& x) {
  fail(op, "x is of dtype " + text_of(x.scalar_type()) +
               ", expected Float, Double, BFloat16 or Half; convert it with x.float()");
}

evenkeel::Layout layout_of(const Tensor& x) {
  return !x.is_contiguous() && is_channels_last(x) ? evenkeel::Layout::channels_last
                                                   : evenkeel::Layout::channels_first;
}

Tensor dense(const Tensor& x) {
  return x.is_contiguous() || is_channels_last(x) ? x : torch::stable::contiguous(x);
}

Tensor aligned(const Tensor& tensor, const Tensor& x) {
  if (tensor.scalar_type() == x.scalar_type() &&
      (x.is_contiguous() ? tensor.is_contiguous() : is_channels_last(tensor))) {
    return tensor;
  }
  Tensor copy = torch::stable::empty_like(x);
  torch::stable::copy_(copy, tensor);
  return copy;
}

Optional aligned(const Optional& tensor, const Tensor& x) {
  return tensor ? Optional(aligned(*tensor, x)) : std::nullopt;
}

Tensor converted(const Tensor& tensor, ScalarType dtype) {
  if (tensor.scalar_type() == dtype && tensor.is_contiguous()) return tensor;
  Tensor copy = empty(tensor, tensor.sizes(), dtype);
  torch::stable::copy_(copy, tensor);
  return copy;
}

Optional converted(const Optional& tensor, ScalarType dtype) {
  return tensor ? Optional(converted(*tensor, dtype)) : std::nullopt;
}

void check_parameter(std::string_view op, std::string_view argument, const Optional& tensor,
                     const Tensor& x, Sizes shape) {
  if (!tensor) return;
  const ScalarType dtype = tensor->scalar_type();
  if (dtype != x.scalar_type() && dtype != wide_dtype(x)) {
    const bool narrow = x.scalar_type() != wide_dtype(x);
    fail(op, std::string(argument) + " is of dtype " + text_of(dtype) + ", expected " +
                 text_of(x.scalar_type()) + " (that of x)" + (narrow ? " or Float" : "") +
                 "; convert one with .to(dtype)");
  }
  if (!equal(tensor->sizes(), shape)) {
    fail(op, std::string(argument) + " has shape " + text_of(tensor->sizes()) + ", expected " +
                 text_of(shape));
  }
}

void check_channels(std::string_view op, const Tensor& x, const Optional& weight,
                    const Optional& bias) {
  if (x.dim() < 2) {
    fail(op, "x has " + std::to_string(x.dim()) +
                 " dimensions, expected 2 or more: (samples, channels, ...)");
  }
  const std::array<std::int64_t, 1> channels = {x.size(1)};
  check_parameter(op, "weight", weight, x, channels);
  check_parameter(op, "bias", bias, x, channels);
}

void check_residual(std::string_view op, const Optional& residual, const Tensor& x) {
  if (!residual) return;
  if (residual->scalar_type() != x.scalar_type()) {
    fail(op, "residual is of dtype " + text_of(residual->scalar_type()) + ", expected " +
                 text_of(x.scalar_type()) + " (that of x); convert one with .to(dtype)");
  }
  if (!equal(residual->sizes(), x.sizes())) {
    fail(op, "residual has shape " + text_of(residual->sizes()) + ", expected " +
                 text_of(x.sizes()) + " (that of x); broadcast it with .expand_as(x)");
  }
}

Inputs::Inputs(std::string_view op, const Tensor& x_in, const Optional& weight_in,
               const Optional& bias_in, const Optional& residual_in)
    : x(dense(x_in)), layout(layout_of(x)) {
  check_channels(op, x, weight_in, bias_in);
  check_residual(op, residual_in, x);
  weight = converted(weight_in, wide_dtype(x));
  bias = converted(bias_in, wide_dtype(x));
  residual = aligned(residual_in, x);
}

evenkeel::Shape shape_of(const Tensor& x, evenkeel::Layout layout) {
  const Sizes sizes = x.sizes();
  evenkeel::Shape shape{sizes[0], sizes[1], 1, layout};
  for (std::size_t dimension = 2; dimension < sizes.size(); ++dimension) {
    shape.s *= sizes[dimension];
  }
  return shape;
}

Activation activation_of(const std::string& name, double first, double second) {
  if (name.empty()) return Activation::none;
  if (name == "relu") return Activation::relu;
  if (name == "relu6") return Activation::relu6;
  if (name == "silu") return Activation::silu;
  if (name == "hardswish") return Activation::hardswish;
  if (name == "leaky_relu") return Activation::leaky_relu(first);
  if (name == "hardtanh") return Activation::hardtanh(first, second);
  throw Error("there is no activation '" + name + "'");
}

}  // namespace evenkeel::python
