// Running statistics, which BatchNorm and InstanceNorm share.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string_view>

#include "evenkeel/batch_norm.h"
#include "evenkeel/torch/convert.h"
#include "evenkeel/torch/functional.h"

namespace evenkeel::nn {

// As the core takes them. `batches` holds the count while the core may move it: as a number,
// because Module::to(dtype) converts the tensor as well.
template <class T>
RunningStatistics<T> running_statistics(const RunningTensors& running, std::int64_t& batches) {
  return {.mean = elements<Wide<T>>(running.mean),
          .var = elements<Wide<T>>(running.var),
          .batches = running.batches.defined() ? &batches : nullptr,
          .skipped = running.skipped};
}

// Throws Error unless the running statistics are there and fit x, and, if `updates`, can be moved.
void check_running(std::string_view op, const RunningTensors& running, const torch::Tensor& x,
                   bool updates);

}  // namespace evenkeel::nn
