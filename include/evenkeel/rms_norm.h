// Root mean square normalization (Zhang & Sennrich 2019, arXiv:1910.07467).
//
// LayerNorm without a mean and a bias: each sample is divided by the root of the mean square of its
// own M = C*S features.
//
//   rstd = 1 / sqrt(mean_i x_i^2 + eps)        x^_i = x_i * rstd        y_i = x^_i * weight_i
//
// With a residual, it is the sum x + residual that is normalized, and that can be kept.
#pragma once

#include <span>

#include "evenkeel/tensor.h"

namespace evenkeel {

struct RmsNormOptions {
  // Finite and > 0. PyTorch's default, eps=None, is the machine epsilon of the type that it
  // computes in: 1.1920929e-07 for float and 16 bits, 2.220446049250313e-16 for double.
  double eps = 1e-5;
  // The weight is stored as its difference from 1, so that y = x^ * (1 + weight); as in Gemma.
  bool unit_offset = false;
};

// Required: x, y. All others may be absent. The M = shape.c * shape.s features of a sample are
// contiguous; the weight follows their order in memory, so the layout does not matter.
template <class T = float>
struct RmsNormForward {
  TensorView<const T> x = {};
  std::span<const Wide<T>> weight = {};  // M; absent: a factor of 1
  std::span<double> rstd = {};           // N, output, for the backward
  TensorView<const T> residual = {};     // shape of x; absent: 0
  TensorView<T> sum = {};                // output: x + residual, rounded to T; may be either itself
  TensorView<T> y = {};                  // shape of x; may be x or the residual itself, not sum
};

// Sums are in Wide<T> over blocks and are merged in double; elements in Wide<T>. sum is allowed
// only with a residual. A sample's result is bitwise the same whatever else is in the batch and for
// every number of threads. Throws Error before any work if a size does not fit or eps is not a
// finite number above 0. An empty x is legal.
template <class T = float>
void rms_norm_forward(const RmsNormForward<T>& args, const RmsNormOptions& options = {});

// Required: dy, x, rstd. Outputs that are absent are not computed.
template <class T = float>
struct RmsNormBackward {
  TensorView<const T> dy = {};
  TensorView<const T> x = {};            // the input of the forward; its sum, if it had a residual
  std::span<const Wide<T>> weight = {};  // M; absent: a factor of 1
  std::span<const double> rstd = {};     // N, as the forward gave it
  TensorView<const T> dsum = {};         // gradient that reaches the sum by other ways; absent: 0
  TensorView<T> dx = {};                 // shape of x; may be dy or dsum itself, not x
  std::span<Wide<T>> dweight = {};       // M: sum over samples of dy*x^
};

// With g = dy * weight (or 1 + weight, by options.unit_offset; options.eps is not read):
// dx = rstd * (g - x^ * mean_i(g*x^)) + dsum; it is the gradient of the residual as well.
template <class T = float>
void rms_norm_backward(const RmsNormBackward<T>& args, const RmsNormOptions& options = {});

}  // namespace evenkeel
