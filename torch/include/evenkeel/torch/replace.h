// From torch's normalization to evenkeel's in an existing network.
#pragma once

#include <torch/torch.h>

#include <cstdint>

namespace evenkeel::nn {

// Replaces, in place, every BatchNorm1d/2d/3d, InstanceNorm1d/2d/3d, GroupNorm, LayerNorm and
// LocalResponseNorm of torch::nn that is an entry of a torch::nn::Sequential: of the network itself
// if it is one, and of every Sequential inside it, however deep. Returns how many were replaced.
//
// The new layers hold the very same parameter and buffer tensors, names, options and training
// flags, so an optimizer made before goes on working. A layer that is a typed member of a module of
// the user's own is not reached: declare it as evenkeel's, and load the state.
// The network must be owned by a shared_ptr or holder: replace_normalization(*network).
std::int64_t replace_normalization(torch::nn::Module& network);

// Lets every evenkeel BatchNorm and GroupNorm that is directly followed by a ReLU, ReLU6, Hardtanh,
// LeakyReLU or SiLU of torch::nn in a torch::nn::Sequential compute that activation within its own
// pass, and puts a torch::nn::Identity in the place of the activation, so that names and saved
// state stay. Returns how many were fused. Call it after replace_normalization. A layer that the
// network holds in several places is left alone; so that no other place sees the activation, call
// none of these layers' forward from outside of their Sequential.
std::int64_t fuse_activations(torch::nn::Module& network);

}  // namespace evenkeel::nn
