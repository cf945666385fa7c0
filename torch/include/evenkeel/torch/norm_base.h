// What BatchNorm and InstanceNorm share: torch's options, parameters and buffers.
#pragma once

#include <torch/torch.h>

#include <utility>

#include "evenkeel/torch/functional.h"

namespace evenkeel::nn {

// `Derived` is the module itself, `TorchImpl` the module of torch::nn with the same name.
template <class Derived, class TorchImpl>
class NormBase : public torch::nn::Cloneable<Derived> {
 public:
  using Options = decltype(TorchImpl::options);

  explicit NormBase(const Options& options_) : options(options_) { NormBase::reset(); }
  // Takes over the very parameters and buffers of a torch module (shared, not copied), its options
  // and its training flag.
  explicit NormBase(const TorchImpl& other) : options(other.options) {
    adopt(other);
    this->train(other.is_training());
  }

  RunningTensors running_tensors() const {
    return {running_mean, running_var, num_batches_tracked};
  }
  // As in torch: weight 1, bias 0, running mean 0, running variance 1, no batches.
  void reset() override { adopt(TorchImpl(options)); }
  void reset_parameters() {
    reset_running_stats();
    const torch::NoGradGuard no_grad;
    if (weight.defined()) weight.fill_(1);
    if (bias.defined()) bias.zero_();
  }
  void reset_running_stats() {
    if (!running_mean.defined()) return;
    running_mean.zero_();
    running_var.fill_(1);
    num_batches_tracked.zero_();
  }

  Options options;
  torch::Tensor weight;               // C; undefined unless affine
  torch::Tensor bias;                 // C; undefined unless affine
  torch::Tensor running_mean;         // C; undefined unless track_running_stats
  torch::Tensor running_var;          // C, unbiased; undefined unless track_running_stats
  torch::Tensor num_batches_tracked;  // one number; undefined unless track_running_stats

 private:
  void adopt(const TorchImpl& other) {
    const auto parameter = [&](const char* name, const torch::Tensor& tensor) {
      return this->register_parameter(name, tensor, tensor.defined() && tensor.requires_grad());
    };
    weight = parameter("weight", other.weight);
    bias = parameter("bias", other.bias);
    running_mean = this->register_buffer("running_mean", other.running_mean);
    running_var = this->register_buffer("running_var", other.running_var);
    num_batches_tracked = this->register_buffer("num_batches_tracked", other.num_batches_tracked);
  }
};

}  // namespace evenkeel::nn
