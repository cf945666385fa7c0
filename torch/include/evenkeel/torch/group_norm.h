// GroupNorm: drop-in for torch::nn::GroupNorm.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <ostream>

#include "evenkeel/activation.h"
#include "evenkeel/torch/functional.h"

namespace evenkeel::nn {

// Derives from torch's module: options, parameters, initialization and saved state are torch's own.
class GroupNormImpl : public torch::nn::GroupNormImpl {
 public:
  explicit GroupNormImpl(const torch::nn::GroupNormOptions& options_)
      : torch::nn::GroupNormImpl(options_) {}
  GroupNormImpl(std::int64_t num_groups, std::int64_t num_channels)
      : torch::nn::GroupNormImpl(num_groups, num_channels) {}
  // Takes over the very parameters of a torch module (shared, not copied), its options and its
  // training flag.
  explicit GroupNormImpl(const torch::nn::GroupNormImpl& other);

  // What follows within the same pass: y = activation(GN(x)). Not part of a saved state.
  Activation activation = Activation::none;
  // Whether to write y over x wherever autograd records nothing. Leave it off if anything else
  // still reads x. Not part of a saved state. See functional.h.
  bool in_place = false;

  // x: (N, C, ...), 2 or more dimensions.
  torch::Tensor forward(const torch::Tensor& x);

  std::shared_ptr<torch::nn::Module> clone(
      const torch::optional<torch::Device>& device = {}) const override;
  void pretty_print(std::ostream& out) const override;
};
TORCH_MODULE(GroupNorm);

}  // namespace evenkeel::nn
