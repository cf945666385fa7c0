// LayerNorm: drop-in for torch::nn::LayerNorm.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <ostream>
#include <vector>

#include "evenkeel/torch/functional.h"

namespace evenkeel::nn {

// Derives from torch's module: options, parameters, initialization and saved state are torch's own.
class LayerNormImpl : public torch::nn::LayerNormImpl {
 public:
  explicit LayerNormImpl(const torch::nn::LayerNormOptions& options_)
      : torch::nn::LayerNormImpl(options_) {}
  explicit LayerNormImpl(std::vector<std::int64_t> normalized_shape)
      : torch::nn::LayerNormImpl(std::move(normalized_shape)) {}
  // Takes over the very parameters of a torch module (shared, not copied), its options and its
  // training flag.
  explicit LayerNormImpl(const torch::nn::LayerNormImpl& other);

  // Whether to write y over x (and the sum over the residual) wherever autograd records nothing.
  // Leave it off if anything else still reads them. Not part of a saved state. See functional.h.
  bool in_place = false;

  torch::Tensor forward(const torch::Tensor& x);
  // sum = x + residual and y = forward(sum), in one pass:
  //
  //   const auto [y, sum] = norm->forward_residual(x, residual);
  LayerNormSum forward_residual(const torch::Tensor& x, const torch::Tensor& residual);

  std::shared_ptr<torch::nn::Module> clone(
      const torch::optional<torch::Device>& device = {}) const override;
  void pretty_print(std::ostream& out) const override;
};
TORCH_MODULE(LayerNorm);

}  // namespace evenkeel::nn
