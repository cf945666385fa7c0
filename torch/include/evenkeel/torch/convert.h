// torch tensors as evenkeel's views, without a copy wherever the strides allow.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <string_view>

#include "evenkeel/moments.h"
#include "evenkeel/tensor.h"

namespace evenkeel::nn {

// Dimension 1 is the channels, dimension 0 the samples, the others are positions. channels_last if
// the tensor is dense with its channels innermost (torch's channels_last, channels_last_3d, and
// the same order in any other rank), channels_first for everything else.
Layout layout_of(const torch::Tensor& x);

// The same values, dense in the given layout: the tensor itself if it is so already, else a copy.
// Undefined stays undefined.
torch::Tensor dense(const torch::Tensor& x, Layout layout);

// N, C and S of a tensor of 2 or more dimensions.
Shape shape_of(const torch::Tensor& x, Layout layout);

// Throws Error, naming op, argument, what came and the remedy, unless x is a dense-storage CPU
// tensor of float32, float64, bfloat16 or float16.
void check_floating_cpu(std::string_view op, std::string_view argument, const torch::Tensor& x);

// A view of the memory of x, which must be dense in the layout (see `dense`) and of type T, where
// BFloat16 and Float16 stand for c10::BFloat16 and c10::Half: the same memory. Absent if x is
// undefined.
template <class T>
TensorView<T> view(const torch::Tensor& x, Layout layout) {
  if (!x.defined()) return {};
  return {static_cast<T*>(x.data_ptr()), shape_of(x, layout)};
}

// The elements of a contiguous tensor of type T; empty if x is undefined.
template <class T>
std::span<T> elements(const torch::Tensor& x) {
  if (!x.defined()) return {};
  return {static_cast<T*>(x.data_ptr()), static_cast<std::size_t>(x.numel())};
}

// Adds the values of x, (N, C, ...) on the CPU, to the moments of its channels.
void add_moments(ChannelMoments& moments, const torch::Tensor& x);

}  // namespace evenkeel::nn
