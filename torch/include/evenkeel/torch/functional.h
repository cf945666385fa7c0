// Differentiable normalization of torch tensors.
//
// Every function takes float32 or float64 tensors on the CPU. A channels_last (or channels_last_3d)
// input is used as it lies and gives a channels_last output and gradient; other strides are made
// contiguous first. Parameters have the dtype of x; an undefined one is absent. Gradients that
// nobody needs are not computed. A backward with create_graph (second derivatives) throws.
// evenkeel::Error names the function, the argument, what came and the remedy.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>

#include "evenkeel/batch_norm.h"
#include "evenkeel/local_response_norm.h"

namespace evenkeel::nn {

// Running statistics as tensors: C values each of the dtype of x, contiguous; undefined: none.
struct RunningTensors {
  torch::Tensor mean;
  torch::Tensor var;      // unbiased
  torch::Tensor batches;  // one number; optional unless options.update is cumulative
  // Optional; incremented by each batch that moved nothing, its statistics not being finite.
  std::int64_t* skipped = nullptr;
};

// x: (N, C, ...), 2 or more dimensions; weight, bias: (C) or undefined.
//
// `statistics` says which statistics normalize: those of the batch, or the running ones (given, as
// constants: no gradient flows through them). options.update says, separately, how the batch moves
// the running statistics. Frozen or evaluation mode is Statistics::given without an update. A batch
// whose statistics are not finite does not move the running statistics.
torch::Tensor batch_norm(const torch::Tensor& x, const torch::Tensor& weight,
                         const torch::Tensor& bias, const RunningTensors& running,
                         Statistics statistics, const BatchNormOptions& options = {});

// Normalizes over the trailing dimensions `normalized_shape`; weight, bias: of that shape or
// undefined. The features of a sample must be contiguous, so a channels_last input whose features
// are not is copied.
torch::Tensor layer_norm(const torch::Tensor& x, std::span<const std::int64_t> normalized_shape,
                         const torch::Tensor& weight = {}, const torch::Tensor& bias = {},
                         double eps = 1e-5);

// x: (N, C, ...), 2 or more dimensions. The conventions of the frameworks are the named
// constructors of the options. Only x is stored for the backward.
torch::Tensor local_response_norm(const torch::Tensor& x,
                                  const LocalResponseNormOptions& options = {});

}  // namespace evenkeel::nn
