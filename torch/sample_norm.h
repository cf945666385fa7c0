// Normalization by statistics of each sample and group of channels: GroupNorm and InstanceNorm.
#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "evenkeel/group_norm.h"
#include "evenkeel/instance_norm.h"
#include "evenkeel/torch/functional.h"

namespace evenkeel::nn {

// Differentiable; all arguments have been checked. weight and bias may be undefined.
torch::Tensor normalize_groups(const torch::Tensor& x, const torch::Tensor& weight,
                               const torch::Tensor& bias, const GroupNormOptions& options,
                               bool in_place);
torch::Tensor normalize_instances(const torch::Tensor& x, const torch::Tensor& weight,
                                  const torch::Tensor& bias, const RunningTensors& running,
                                  const InstanceNormOptions& options, bool in_place);

}  // namespace evenkeel::nn
