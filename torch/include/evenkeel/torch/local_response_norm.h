// LocalResponseNorm: drop-in for torch::nn::LocalResponseNorm, and the other frameworks'
// conventions.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <optional>
#include <ostream>

#include "evenkeel/local_response_norm.h"

namespace evenkeel::nn {

class LocalResponseNormImpl : public torch::nn::LocalResponseNormImpl {
 public:
  // PyTorch's convention: alpha is divided by size, k is 1 by default.
  explicit LocalResponseNormImpl(const torch::nn::LocalResponseNormOptions& options_)
      : torch::nn::LocalResponseNormImpl(options_) {}
  explicit LocalResponseNormImpl(std::int64_t size) : torch::nn::LocalResponseNormImpl(size) {}
  // Any convention, e.g. LocalResponseNorm(evenkeel::LocalResponseNormOptions::paper()).
  explicit LocalResponseNormImpl(const evenkeel::LocalResponseNormOptions& convention);
  // Takes over the options and the training flag of a torch module.
  explicit LocalResponseNormImpl(const torch::nn::LocalResponseNormImpl& other);

  // Used instead of torch's `options` if set.
  std::optional<evenkeel::LocalResponseNormOptions> window;

  // Whether to write y over x wherever autograd records nothing. Leave it off if anything else
  // still reads x. Not part of a saved state. See functional.h.
  bool in_place = false;

  torch::Tensor forward(const torch::Tensor& x);

  std::shared_ptr<torch::nn::Module> clone(
      const torch::optional<torch::Device>& device = {}) const override;
  void pretty_print(std::ostream& out) const override;
};
TORCH_MODULE(LocalResponseNorm);

}  // namespace evenkeel::nn
