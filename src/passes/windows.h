// Passes over windows of channels: LRN's, in either memory order.
#pragma once

#include "evenkeel/tensor.h"
#include "src/kernels/windows.h"

namespace evenkeel {

// y = x * base^-beta with base = k + alpha * (the sum of x^2 over the window). y may be x.
template <class T>
void forward_windows(const Shape& shape, const T* x, T* y, const kernels::Window& window);

// Its gradient. dx may be dy.
template <class T>
void backward_windows(const Shape& shape, const T* dy, const T* x, T* dx,
                      const kernels::Window& window);

}  // namespace evenkeel
