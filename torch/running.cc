#include "torch/running.h"

#include <limits>

#include "evenkeel/error.h"
#include "torch/bridge.h"

namespace evenkeel::nn {
namespace {

std::int64_t count_in(std::string_view op, const torch::Tensor& tensor) {
  // Exact in double as far as any count may go that is of a floating type.
  const auto as_double = tensor.item<double>();
  constexpr auto above = static_cast<double>(std::numeric_limits<std::int64_t>::max());
  if (as_double >= 0 && as_double < above) return tensor.item<std::int64_t>();
  throw Error(c10::str(op, ": the number of batches is ", as_double,
                       ", expected a count for the average of all batches; set it with "
                       "num_batches_tracked.fill_(count), or start anew with "
                       "reset_running_stats()"));
}

}  // namespace

BatchCount::BatchCount(std::string_view op, const RunningTensors& running, RunningUpdate update) {
  if (update.kind == RunningUpdate::Kind::none) return;
  tensor_ = running.batches;
  if (update.kind != RunningUpdate::Kind::cumulative) return;
  if (!tensor_.defined()) {
    throw Error(c10::str(op,
                         ": the average of all batches needs their number, but it is undefined; "
                         "pass a tensor of one element, or RunningUpdate::moving_average()"));
  }
  start_ = number_ = count_in(op, tensor_);
}

void BatchCount::store() const {
  if (number_ != start_) tensor_.add_(number_ - start_);
}

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
