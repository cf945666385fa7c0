#include "evenkeel/torch/rms_norm.h"

#include <limits>

#include "evenkeel/torch/functional.h"
#include "torch/bridge.h"
#include "torch/rows.h"

namespace evenkeel::nn {
namespace {

RowNorm row_norm(const RmsNormOptions& options) {
  return {.kind = RowNorm::Kind::rms_norm, .eps = options.eps, .unit_offset = options.unit_offset};
}

// The core's options for this x.
RmsNormOptions options_for(const torch::Tensor& x, const RMSNormOptions& options) {
  const bool is_double = x.defined() && x.scalar_type() == torch::kFloat64;
  const double machine_epsilon =
      is_double ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  return {.eps = options.eps().value_or(machine_epsilon), .unit_offset = options.unit_offset()};
}

}  // namespace

torch::Tensor rms_norm(const torch::Tensor& x, std::span<const std::int64_t> normalized_shape,
                       const torch::Tensor& weight, const RmsNormOptions& options, bool in_place) {
  const auto y =
      normalize_rows(row_norm(options), x, {}, normalized_shape, weight, {}, in_place)[0];
  return or_input(y, x);
}

RMSNormSum rms_norm_residual(const torch::Tensor& x, const torch::Tensor& residual,
                             std::span<const std::int64_t> normalized_shape,
                             const torch::Tensor& weight, const RmsNormOptions& options,
                             bool in_place) {
  const RowNorm norm = row_norm(options);
  check_floating_cpu(norm.op(), "residual", residual);
  const auto both = normalize_rows(norm, x, residual, normalized_shape, weight, {}, in_place);
  return {or_input(both[0], x), or_input(both[1], residual)};
}

torch::Tensor RMSNormImpl::forward(const torch::Tensor& x) {
  return nn::rms_norm(x, options.normalized_shape(), weight, options_for(x, options), in_place);
}

RMSNormSum RMSNormImpl::forward_residual(const torch::Tensor& x, const torch::Tensor& residual) {
  return rms_norm_residual(x, residual, options.normalized_shape(), weight, options_for(x, options),
                           in_place);
}

void RMSNormImpl::reset() {
  const bool affine = options.elementwise_affine();
  weight = register_parameter(
      "weight", affine ? torch::empty(options.normalized_shape()) : torch::Tensor(), affine);
  reset_parameters();
}

void RMSNormImpl::reset_parameters() {
  const torch::NoGradGuard no_grad;
  if (weight.defined()) weight.fill_(options.unit_offset() ? 0 : 1);
}

void RMSNormImpl::pretty_print(std::ostream& out) const {
  const auto flag = [](bool on) { return on ? "true" : "false"; };
  out << "evenkeel::nn::RMSNorm(" << torch::IntArrayRef(options.normalized_shape()) << ", eps=";
  if (options.eps()) {
    out << *options.eps();
  } else {
    out << "machine epsilon";
  }
  out << ", elementwise_affine=" << flag(options.elementwise_affine())
      << ", unit_offset=" << flag(options.unit_offset()) << ')';
}

}  // namespace evenkeel::nn
