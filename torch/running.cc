#include "torch/running.h"

#include "evenkeel/error.h"
#include "torch/bridge.h"

namespace evenkeel::nn {

void check_running(std::string_view op, const RunningTensors& running, const torch::Tensor& x,
                   bool updates) {
  if (!running.mean.defined() || !running.var.defined()) {
    throw Error(c10::str(op,
                         ": running statistics are needed to normalize with or to update, but they "
                         "are undefined; pass a mean and a var, or construct the layer with "
                         "track_running_stats(true)"));
  }
  check_parameter(op, "running mean", running.mean, x, x.size(1));
  check_parameter(op, "running var", running.var, x, x.size(1));
  for (const auto& statistic : {running.mean, running.var}) {
    if (!updates || statistic.scalar_type() == statistics_type(x)) continue;
    throw Error(c10::str(op, ": the running statistics are of type ", statistic.scalar_type(),
                         ", in which small updates are lost; keep the layer in Float with "
                         "layer->to(torch::kFloat32), beside an x of type ",
                         x.scalar_type(), ", or let none move: eval(), or freeze() a BatchNorm"));
  }
  if (!running.mean.is_contiguous() || !running.var.is_contiguous()) {
    throw Error(c10::str(op,
                         ": the running statistics are not contiguous, so they cannot be updated "
                         "in place; pass contiguous tensors"));
  }
  if (running.batches.defined() && running.batches.numel() != 1) {
    throw Error(c10::str(op, ": the number of batches has ", running.batches.numel(),
                         " elements, expected 1"));
  }
}

}  // namespace evenkeel::nn
