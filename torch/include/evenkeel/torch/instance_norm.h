// InstanceNorm1d, InstanceNorm2d, InstanceNorm3d: drop-in for those of torch::nn.
//
// Options, initialization, and the names of parameters and buffers are torch's, so that torch::save
// of one loads into the other. As in torch, affine and track_running_stats are off by default,
// momentum is the weight of the *new* batch, and num_batches_tracked is kept but never moved.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <ostream>

#include "evenkeel/torch/norm_base.h"

namespace evenkeel::nn {

// Shared by the three dimensions. TorchImpl is the module of torch::nn with the same name.
//
// In train(), and always without running statistics, each channel of each sample is normalized by
// its own mean and variance; in train() these also move the running statistics, if the layer has
// some. In eval() the running statistics normalize, if the layer has some.
template <class TorchImpl>
class InstanceNormImpl : public NormBase<InstanceNormImpl<TorchImpl>, TorchImpl> {
 public:
  using NormBase<InstanceNormImpl<TorchImpl>, TorchImpl>::NormBase;

  // Whether to write y over x wherever autograd records nothing. Leave it off if anything else
  // still reads x. Not part of a saved state. See functional.h.
  bool in_place = false;

  // Batches that left the running statistics alone because their own were not finite; PyTorch's
  // would be NaN for ever after.
  std::int64_t skipped_batches = 0;

  // x: a batch, or one sample without the dimension N, as torch takes it. Throws Error if the rank
  // does not fit, if the layer has parameters or running statistics of another number of channels,
  // or, where the sample's own statistics normalize, on one position.
  torch::Tensor forward(const torch::Tensor& x);

  void pretty_print(std::ostream& out) const override;
};

extern template class InstanceNormImpl<torch::nn::InstanceNorm1dImpl>;
extern template class InstanceNormImpl<torch::nn::InstanceNorm2dImpl>;
extern template class InstanceNormImpl<torch::nn::InstanceNorm3dImpl>;

// (N, C, L) or (C, L).
using InstanceNorm1dImpl = InstanceNormImpl<torch::nn::InstanceNorm1dImpl>;
TORCH_MODULE(InstanceNorm1d);

// (N, C, H, W) or (C, H, W).
using InstanceNorm2dImpl = InstanceNormImpl<torch::nn::InstanceNorm2dImpl>;
TORCH_MODULE(InstanceNorm2d);

// (N, C, D, H, W) or (C, D, H, W).
using InstanceNorm3dImpl = InstanceNormImpl<torch::nn::InstanceNorm3dImpl>;
TORCH_MODULE(InstanceNorm3d);

}  // namespace evenkeel::nn
