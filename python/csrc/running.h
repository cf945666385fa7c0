// Running statistics, which BatchNorm and InstanceNorm share.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "python/csrc/tensors.h"

namespace evenkeel::python {

// The running statistics that a batch moves. The core moves them in the tensors' own memory, or, if
// that is not contiguous values of the dtype that it takes, in copies that `write_back` writes
// back.
class Running {
 public:
  // Throws evenkeel::Error unless all that are there fit x.
  Running(std::string_view op, const Tensor& x, const Optional& mean, const Optional& var,
          const Optional& batches, const Optional& skipped);

  template <class T>
  RunningStatistics<T> of_type() const {
    return {.mean = values<Wide<T>>(moved_mean_),
            .var = values<Wide<T>>(moved_var_),
            .batches = batches_,
            .skipped = skipped_};
  }
  void write_back();

 private:
  Optional mean_, var_;
  Optional moved_mean_, moved_var_;
  std::int64_t *batches_, *skipped_;
};

// How a batch moves running statistics: by PyTorch's momentum, the weight of the new batch; without
// one they are the average of all batches.
inline RunningUpdate update_of(const std::optional<double>& momentum) {
  return momentum ? RunningUpdate::moving_average(*momentum) : RunningUpdate::cumulative();
}

}  // namespace evenkeel::python
