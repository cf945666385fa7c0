// Differentiable normalization of torch tensors.
//
// Every function takes float32, float64, bfloat16 or float16 tensors on the CPU. A channels_last
// (or channels_last_3d) input is used as it lies and gives a channels_last output and gradient;
// other strides are made contiguous first. Parameters have the dtype of x, or float32 beside an x
// of 16 bits, which is more accurate; their gradients have their own dtype; an undefined one is
// absent. Gradients that nobody needs are not computed. A backward with create_graph (second
// derivatives) throws. evenkeel::Error names the function, the argument, what was given and the
// remedy.
//
// `in_place` lets y overwrite x: it saves the memory of y, and the time to get it from the system.
// It is followed where autograd records nothing of the call, because no gradient is enabled or none
// is asked for; elsewhere y is a new tensor. Autograd learns of the change, so that the backward of
// another operation that needs x as it was throws, as after torch's own operations in place. An x
// of other strides is left alone. An x that is overwritten may share no memory with a parameter or
// statistic, nor with a residual unless that is x itself: anything else throws.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>

#include "evenkeel/batch_norm.h"
#include "evenkeel/group_norm.h"
#include "evenkeel/instance_norm.h"
#include "evenkeel/local_response_norm.h"
#include "evenkeel/rms_norm.h"

namespace evenkeel::nn {

// Running statistics as tensors: C contiguous values each, of the dtype that parameters may have,
// but of float32 beside an x of 16 bits if they are to be updated: a moving average in 16 bits
// stands still where its step is less than half an ulp. Undefined: none.
struct RunningTensors {
  torch::Tensor mean;
  torch::Tensor var;  // unbiased
  // One number, of any type; optional unless options.update is cumulative. Only a cumulative update
  // reads it, and throws if it is no count: negative, not finite, or beyond 64 bits.
  torch::Tensor batches;
  // Optional; incremented by each batch that moved nothing, its statistics not being finite.
  std::int64_t* skipped = nullptr;
};

// x: (N, C, ...), 2 or more dimensions; weight, bias: (C) or undefined.
//
// `statistics` says which statistics normalize: those of the batch, or the running ones (given, as
// constants: no gradient flows through them). options.update says, separately, how the batch moves
// the running statistics. Frozen or evaluation mode is Statistics::given without an update. A batch
// whose statistics are not finite does not move the running statistics.
//
// options.activation and the residual (of the shape and dtype of x, or undefined) follow within the
// same pass: y = activation(BN(x) + residual). The backward computes the derivative of the
// activation again from x, the residual and the bias, which are kept for it.
torch::Tensor batch_norm(const torch::Tensor& x, const torch::Tensor& weight,
                         const torch::Tensor& bias, const RunningTensors& running,
                         Statistics statistics, const BatchNormOptions& options = {},
                         const torch::Tensor& residual = {}, bool in_place = false);

// x: (N, C, ...), 2 or more dimensions; weight, bias: (C) or undefined. options.groups divides C.
// options.activation follows within the same pass; the backward computes its derivative again from
// x and the bias, which then are both kept for it.
torch::Tensor group_norm(const torch::Tensor& x, const torch::Tensor& weight,
                         const torch::Tensor& bias, const GroupNormOptions& options,
                         bool in_place = false);

// x: (N, C, ...), 2 or more dimensions; weight, bias: (C) or undefined.
//
// Statistics::batch normalizes each channel of each sample by its own mean and variance, and moves
// the running statistics by their averages over the samples as options.update says.
// Statistics::given normalizes with the running statistics, as batch_norm does, and moves nothing.
torch::Tensor instance_norm(const torch::Tensor& x, const torch::Tensor& weight,
                            const torch::Tensor& bias, const RunningTensors& running = {},
                            Statistics statistics = Statistics::batch,
                            const InstanceNormOptions& options = {}, bool in_place = false);

// Normalizes over the trailing dimensions `normalized_shape`; weight, bias: of that shape or
// undefined. The features of a sample must be contiguous, so a channels_last input whose features
// are not is copied.
torch::Tensor layer_norm(const torch::Tensor& x, std::span<const std::int64_t> normalized_shape,
                         const torch::Tensor& weight = {}, const torch::Tensor& bias = {},
                         double eps = 1e-5, bool in_place = false);

// The step between two blocks of a transformer, in one pass: sum = x + residual, y = LN(sum). Both
// are differentiable; the backward keeps the sum alone. residual: of the shape and dtype of x.
// in_place: y over x and the sum over the residual; if these two share memory, the sum is new.
struct LayerNormSum {
  torch::Tensor y;
  torch::Tensor sum;
};
LayerNormSum layer_norm_residual(const torch::Tensor& x, const torch::Tensor& residual,
                                 std::span<const std::int64_t> normalized_shape,
                                 const torch::Tensor& weight = {}, const torch::Tensor& bias = {},
                                 double eps = 1e-5, bool in_place = false);

// Normalizes over the trailing dimensions `normalized_shape` without a mean; weight: of that shape
// or undefined. Contiguous features as for layer_norm. PyTorch's eps=None is the machine epsilon;
// the default here is that of the options, 1e-5.
torch::Tensor rms_norm(const torch::Tensor& x, std::span<const std::int64_t> normalized_shape,
                       const torch::Tensor& weight = {}, const RmsNormOptions& options = {},
                       bool in_place = false);

// As layer_norm_residual: sum = x + residual, y = RMSNorm(sum).
struct RMSNormSum {
  torch::Tensor y;
  torch::Tensor sum;
};
RMSNormSum rms_norm_residual(const torch::Tensor& x, const torch::Tensor& residual,
                             std::span<const std::int64_t> normalized_shape,
                             const torch::Tensor& weight = {}, const RmsNormOptions& options = {},
                             bool in_place = false);

// x: (N, C, ...), 2 or more dimensions. The conventions of the frameworks are the named
// constructors of the options. Only x is stored for the backward.
torch::Tensor local_response_norm(const torch::Tensor& x,
                                  const LocalResponseNormOptions& options = {},
                                  bool in_place = false);

}  // namespace evenkeel::nn
