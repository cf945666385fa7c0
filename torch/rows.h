// Normalization of rows: LayerNorm and RMSNorm.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <string_view>

namespace evenkeel::nn {

// The arguments of a call that autograd does not track.
struct RowNorm {
  enum class Kind : std::uint8_t { layer_norm, rms_norm };

  Kind kind;
  double eps;
  bool unit_offset = false;  // rms_norm: the weight is stored as its difference from 1

  std::string_view op() const { return kind == Kind::layer_norm ? "layer_norm" : "rms_norm"; }
};

// Checks the arguments and normalizes over the trailing dimensions; differentiable. Gives {y}, or
// with a residual {y, sum}. weight, bias (layer_norm only) and residual may be undefined.
torch::autograd::variable_list normalize_rows(const RowNorm& norm, const torch::Tensor& x,
                                              const torch::Tensor& residual,
                                              std::span<const std::int64_t> normalized_shape,
                                              const torch::Tensor& weight,
                                              const torch::Tensor& bias, bool in_place);

}  // namespace evenkeel::nn
