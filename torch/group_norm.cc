#include "evenkeel/torch/group_norm.h"

#include "evenkeel/error.h"
#include "torch/bridge.h"
#include "torch/sample_norm.h"

namespace evenkeel::nn {

torch::Tensor group_norm(const torch::Tensor& x, const torch::Tensor& weight,
                         const torch::Tensor& bias, const GroupNormOptions& options,
                         bool in_place) {
  check_channels("group_norm", x, weight, bias);
  return normalize_groups(x, weight, bias, options, in_place);
}

GroupNormImpl::GroupNormImpl(const torch::nn::GroupNormImpl& other)
    : torch::nn::GroupNormImpl(other) {
  adopt_state(*this, other);
}

torch::Tensor GroupNormImpl::forward(const torch::Tensor& x) {
  return nn::group_norm(
      x, weight, bias,
      {.groups = options.num_groups(), .eps = options.eps(), .activation = activation}, in_place);
}

std::shared_ptr<torch::nn::Module> GroupNormImpl::clone(
    const torch::optional<torch::Device>& device) const {
  const auto copy = clone_of<torch::nn::GroupNormImpl>(*this, device);
  copy->activation = activation;
  copy->in_place = in_place;
  return copy;
}

void GroupNormImpl::pretty_print(std::ostream& out) const {
  out << description_of(torch::nn::GroupNormImpl(options)) << description_of(activation);
}

}  // namespace evenkeel::nn
