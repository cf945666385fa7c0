// Running statistics, which BatchNorm and InstanceNorm share.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string_view>

#include "evenkeel/batch_norm.h"
#include "evenkeel/torch/convert.h"
#include "evenkeel/torch/functional.h"

namespace evenkeel::nn {

// The count of batches while the core may move it: as a number, because Module::to(dtype) converts
// the tensor as well. What 16 bits make of it may be no count any more: above 65504 it is infinite.
// A moving average does not read it, and adds to whatever it is, as torch does.
class BatchCount {
 public:
  // Throws Error if the update is by the count, and there is no tensor, or no count in it.
  BatchCount(std::string_view op, const RunningTensors& running, RunningUpdate update);

  // Null if nobody counts.
  std::int64_t* number() { return tensor_.defined() ? &number_ : nullptr; }
  // Adds to the tensor what was added to the number.
  void store() const;

 private:
  torch::Tensor tensor_;
  std::int64_t start_ = 0;
  std::int64_t number_ = 0;
};

// As the core takes them.
template <class T>
RunningStatistics<T> running_statistics(const RunningTensors& running, BatchCount& count) {
  return {.mean = elements<Wide<T>>(running.mean),
          .var = elements<Wide<T>>(running.var),
          .batches = count.number(),
          .skipped = running.skipped};
}

// Throws Error unless the running statistics are there and fit x, and, if `updates`, can be moved.
void check_running(std::string_view op, const RunningTensors& running, const torch::Tensor& x,
                   bool updates);

}  // namespace evenkeel::nn
