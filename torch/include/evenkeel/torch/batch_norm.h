// BatchNorm1d, BatchNorm2d, BatchNorm3d: drop-in for those of torch::nn.
//
// Options, initialization, and the names of parameters and buffers are torch's, so that torch::save
// of one loads into the other. `momentum` keeps PyTorch's meaning: the weight of the *new* batch,
// 0.1 by default; nullopt: the plain average of all batches.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "evenkeel/batch_norm.h"
#include "evenkeel/torch/functional.h"
#include "evenkeel/torch/norm_base.h"

namespace evenkeel::nn {

// The decisions of a BatchNorm layer that PyTorch ties to train() and eval() or to other layers.
// Left alone, they follow PyTorch. They are not part of a saved state.
class BatchNormSwitches {
 public:
  virtual ~BatchNormSwitches() = default;

  // Which statistics normalize. nullopt: the batch's in train(), the running ones in eval(), and
  // the batch's always if the layer has no running statistics.
  std::optional<Statistics> normalize_with;
  // Whether a batch moves the running statistics (by the options' momentum). nullopt: in train().
  std::optional<bool> update_running;

  // What follows within the same pass: y = activation(BN(x) + residual).
  Activation activation = Activation::none;
  // Whether to write y over x wherever autograd records nothing, because gradients are off or
  // nobody asks for one. Leave it off if anything else still reads x. See functional.h.
  bool in_place = false;

  // Batches that left the running statistics alone because their own were not finite; PyTorch's
  // would be NaN for ever after.
  std::int64_t skipped_batches = 0;

  // Normalizes with the running statistics as they are, whatever train() and eval() say.
  void freeze() {
    normalize_with = Statistics::given;
    update_running = false;
  }
  void unfreeze() {
    normalize_with.reset();
    update_running.reset();
  }
  bool frozen() const { return normalize_with == Statistics::given && update_running == false; }

  // If set, sees the input of every forward before it is normalized.
  std::function<void(const torch::Tensor& x)> on_input;

  // The layer's buffers; undefined if it does not track running statistics.
  virtual RunningTensors running() const = 0;
};

// A layer and its name in the network, e.g. "conv1.norm"; "" for the network itself.
struct NamedBatchNorm {
  std::string name;
  BatchNormSwitches* layer;  // lives as long as the module that it is
};

// All of evenkeel's BatchNorm layers in a network, itself included, each once, in order of
// registration. The network must be owned by a shared_ptr or holder.
std::vector<NamedBatchNorm> batch_norm_layers(torch::nn::Module& network);

// Shared by the three dimensions. TorchImpl is the module of torch::nn with the same name.
template <class TorchImpl>
class BatchNormImpl : public NormBase<BatchNormImpl<TorchImpl>, TorchImpl>,
                      public BatchNormSwitches {
 public:
  using NormBase<BatchNormImpl<TorchImpl>, TorchImpl>::NormBase;

  // residual: undefined, or of the shape and dtype of x, to be added before the activation. Throws
  // Error if the rank of x does not fit, in training on one value per channel, or if a switch asks
  // for running statistics that the layer does not have.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& residual = {});

  RunningTensors running() const override { return this->running_tensors(); }
  void pretty_print(std::ostream& out) const override;

 protected:
  // Boxed in a Sequential, where default arguments are lost, the layer still takes x alone.
  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(torch::Tensor())})
};

extern template class BatchNormImpl<torch::nn::BatchNorm1dImpl>;
extern template class BatchNormImpl<torch::nn::BatchNorm2dImpl>;
extern template class BatchNormImpl<torch::nn::BatchNorm3dImpl>;

// (N, C) or (N, C, L).
using BatchNorm1dImpl = BatchNormImpl<torch::nn::BatchNorm1dImpl>;
TORCH_MODULE(BatchNorm1d);

// (N, C, H, W).
using BatchNorm2dImpl = BatchNormImpl<torch::nn::BatchNorm2dImpl>;
TORCH_MODULE(BatchNorm2d);

// (N, C, D, H, W).
using BatchNorm3dImpl = BatchNormImpl<torch::nn::BatchNorm3dImpl>;
TORCH_MODULE(BatchNorm3d);

}  // namespace evenkeel::nn
