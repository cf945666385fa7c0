// RMSNorm, with the options and the saved state of PyTorch's Python module torch.nn.RMSNorm. The
// C++ front end of libtorch has no such module.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "evenkeel/torch/functional.h"

namespace evenkeel::nn {

struct RMSNormOptions {
  // Implicit, as the options of torch are.
  RMSNormOptions(std::vector<std::int64_t> normalized_shape)
      : normalized_shape_(std::move(normalized_shape)) {}

  // The trailing dimensions that are normalized over.
  TORCH_ARG(std::vector<std::int64_t>, normalized_shape);
  // Added to the mean square. Absent, as in PyTorch: the machine epsilon of the type that is
  // computed with, double for double and float for all others.
  TORCH_ARG(std::optional<double>, eps) = std::nullopt;
  // Whether there is a weight.
  TORCH_ARG(bool, elementwise_affine) = true;
  // Whether the weight is stored as its difference from 1, y = x^ * (1 + weight), as in Gemma.
  TORCH_ARG(bool, unit_offset) = false;
};

class RMSNormImpl : public torch::nn::Cloneable<RMSNormImpl> {
 public:
  explicit RMSNormImpl(RMSNormOptions options_) : options(std::move(options_)) {
    RMSNormImpl::reset();
  }
  explicit RMSNormImpl(std::vector<std::int64_t> normalized_shape)
      : RMSNormImpl(RMSNormOptions(std::move(normalized_shape))) {}

  // Whether to write y over x (and the sum over the residual) wherever autograd records nothing.
  // Leave it off if anything else still reads them. Not part of a saved state. See functional.h.
  bool in_place = false;

  torch::Tensor forward(const torch::Tensor& x);
  // sum = x + residual and y = forward(sum), in one pass:
  //
  //   const auto [y, sum] = norm->forward_residual(x, residual);
  RMSNormSum forward_residual(const torch::Tensor& x, const torch::Tensor& residual);

  void reset() override;
  // The weight so that it multiplies by 1: 1, or 0 with unit_offset.
  void reset_parameters();
  void pretty_print(std::ostream& out) const override;

  RMSNormOptions options;
  torch::Tensor weight;  // of normalized_shape; undefined unless elementwise_affine
};
TORCH_MODULE(RMSNorm);

}  // namespace evenkeel::nn
