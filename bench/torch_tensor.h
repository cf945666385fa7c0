// A problem's buffers as PyTorch sees them.
#pragma once

#include <ATen/core/Tensor.h>

#include "bench/problem.h"

namespace evenkeel::bench {

at::ScalarType torch_type(Dtype dtype);

// A view of the same memory; undefined if the case does not have the tensor.
at::Tensor torch_tensor(const Problem& problem, const Buffer& buffer);

}  // namespace evenkeel::bench
