#include "evenkeel/torch/layer_norm.h"

#include "evenkeel/torch/functional.h"
#include "torch/bridge.h"
#include "torch/rows.h"

namespace evenkeel::nn {

torch::Tensor layer_norm(const torch::Tensor& x, std::span<const std::int64_t> normalized_shape,
                         const torch::Tensor& weight, const torch::Tensor& bias, double eps,
                         bool in_place) {
  const RowNorm norm{.kind = RowNorm::Kind::layer_norm, .eps = eps};
  return or_input(normalize_rows(norm, x, {}, normalized_shape, weight, bias, in_place)[0], x);
}

LayerNormSum layer_norm_residual(const torch::Tensor& x, const torch::Tensor& residual,
                                 std::span<const std::int64_t> normalized_shape,
                                 const torch::Tensor& weight, const torch::Tensor& bias, double eps,
                                 bool in_place) {
  const RowNorm norm{.kind = RowNorm::Kind::layer_norm, .eps = eps};
  check_floating_cpu(norm.op(), "residual", residual);
  const auto both = normalize_rows(norm, x, residual, normalized_shape, weight, bias, in_place);
  return {or_input(both[0], x), or_input(both[1], residual)};
}

LayerNormImpl::LayerNormImpl(const torch::nn::LayerNormImpl& other)
    : torch::nn::LayerNormImpl(other) {
  adopt_state(*this, other);
}

torch::Tensor LayerNormImpl::forward(const torch::Tensor& x) {
  return nn::layer_norm(x, options.normalized_shape(), weight, bias, options.eps(), in_place);
}

LayerNormSum LayerNormImpl::forward_residual(const torch::Tensor& x,
                                             const torch::Tensor& residual) {
  return layer_norm_residual(x, residual, options.normalized_shape(), weight, bias, options.eps(),
                             in_place);
}

std::shared_ptr<torch::nn::Module> LayerNormImpl::clone(
    const torch::optional<torch::Device>& device) const {
  const auto copy = clone_of<torch::nn::LayerNormImpl>(*this, device);
  copy->in_place = in_place;
  return copy;
}

void LayerNormImpl::pretty_print(std::ostream& out) const {
  out << description_of(torch::nn::LayerNormImpl(options));
}

}  // namespace evenkeel::nn
