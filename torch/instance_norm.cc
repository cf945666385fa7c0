#include "evenkeel/torch/instance_norm.h"

#include <string_view>

#include "evenkeel/error.h"
#include "torch/bridge.h"
#include "torch/running.h"
#include "torch/sample_norm.h"

namespace evenkeel::nn {

torch::Tensor instance_norm(const torch::Tensor& x, const torch::Tensor& weight,
                            const torch::Tensor& bias, const RunningTensors& running,
                            Statistics statistics, const InstanceNormOptions& options,
                            bool in_place) {
  check_channels("instance_norm", x, weight, bias);
  const bool updates = options.update.kind != RunningUpdate::Kind::none;
  if (statistics == Statistics::batch) {
    if (updates) check_running("instance_norm", running, x, updates);
    return normalize_instances(x, weight, bias, running, options, in_place);
  }
  if (updates) {
    throw Error(
        "instance_norm: options.update asks for an update with Statistics::given, which moves no "
        "running statistics; pass Statistics::batch or RunningUpdate::none()");
  }
  check_running("instance_norm", running, x, updates);
  return nn::batch_norm(x, weight, bias, running, statistics, {.eps = options.eps}, {}, in_place);
}

namespace {

template <class TorchImpl>
struct Dimensions;
template <>
struct Dimensions<torch::nn::InstanceNorm1dImpl> {
  static constexpr std::int64_t batched = 3;
  static constexpr std::string_view name = "InstanceNorm1d",
                                    expected = "3: (N, C, L), or 2: (C, L)";
};
template <>
struct Dimensions<torch::nn::InstanceNorm2dImpl> {
  static constexpr std::int64_t batched = 4;
  static constexpr std::string_view name = "InstanceNorm2d",
                                    expected = "4: (N, C, H, W), or 3: (C, H, W)";
};
template <>
struct Dimensions<torch::nn::InstanceNorm3dImpl> {
  static constexpr std::int64_t batched = 5;
  static constexpr std::string_view name = "InstanceNorm3d",
                                    expected = "5: (N, C, D, H, W), or 4: (C, D, H, W)";
};

}  // namespace

template <class TorchImpl>
torch::Tensor InstanceNormImpl<TorchImpl>::forward(const torch::Tensor& x) {
  using Expected = Dimensions<TorchImpl>;
  check_floating_cpu(Expected::name, "x", x);
  if (x.dim() == Expected::batched - 1) {
    return or_input(forward(x.unsqueeze(0)).squeeze(0), x);
  }
  if (x.dim() != Expected::batched) {
    throw Error(c10::str(Expected::name, ": x has ", x.dim(), " dimensions, expected ",
                         Expected::expected));
  }
  const bool tracks = this->running_mean.defined();
  const bool by_instance = this->is_training() || !tracks;
  InstanceNormOptions decisions{.eps = this->options.eps()};
  if (by_instance && tracks) {
    decisions.update = RunningUpdate::moving_average(this->options.momentum());
  }
  const RunningTensors running{this->running_mean, this->running_var, {}, &skipped_batches};
  return nn::instance_norm(x, this->weight, this->bias, running,
                           by_instance ? Statistics::batch : Statistics::given, decisions,
                           in_place);
}

template <class TorchImpl>
void InstanceNormImpl<TorchImpl>::pretty_print(std::ostream& out) const {
  out << description_of(TorchImpl(this->options));
}

template class InstanceNormImpl<torch::nn::InstanceNorm1dImpl>;
template class InstanceNormImpl<torch::nn::InstanceNorm2dImpl>;
template class InstanceNormImpl<torch::nn::InstanceNorm3dImpl>;

}  // namespace evenkeel::nn
