// Layer normalization (Ba, Kiros & Hinton 2016, arXiv:1607.06450).
//
// Each sample is normalized over its own M = C*S features, the same in training and inference:
//
//   mu = mean_i x_i      var = mean_i (x_i - mu)^2  (biased)      rstd = 1 / sqrt(var + eps)
//   x^_i = (x_i - mu) * rstd             y_i = x^_i * weight_i + bias_i
//
// With a residual, it is the sum x + residual that is normalized, and that can be kept: the step
// between two blocks of a transformer, in one pass.
#pragma once

#include <span>

#include "evenkeel/tensor.h"

namespace evenkeel {

struct LayerNormOptions {
  double eps = 1e-5;  // finite and > 0
};

// Required: x, y. All others may be absent. The M = shape.c * shape.s features of a sample are
// contiguous; weight and bias follow their order in memory, so the layout does not matter.
template <class T = float>
struct LayerNormForward {
  TensorView<const T> x = {};
  std::span<const Wide<T>> weight = {};  // M; absent: 1
  std::span<const Wide<T>> bias = {};    // M; absent: 0
  std::span<double> mean = {};           // N, output: mu, for the backward
  std::span<double> rstd = {};           // N, output: rstd, for the backward
  TensorView<const T> residual = {};     // shape of x; absent: 0
  TensorView<T> sum = {};                // output: x + residual, rounded to T; may be either itself
  TensorView<T> y = {};                  // shape of x; may be x or the residual itself, not sum
};

// Sums are in Wide<T> over blocks and are merged in double; elements in Wide<T>. sum is allowed
// only with a residual. A sample's result is bitwise the same whatever else is in the batch and for
// every number of threads. Throws Error before any work if a size does not fit or eps is not a
// finite number above 0. An empty x is legal.
template <class T = float>
void layer_norm_forward(const LayerNormForward<T>& args, const LayerNormOptions& options = {});

// Required: dy, x, mean, rstd. Outputs that are absent are not computed.
template <class T = float>
struct LayerNormBackward {
  TensorView<const T> dy = {};
  TensorView<const T> x = {};            // the input of the forward; its sum, if it had a residual
  std::span<const Wide<T>> weight = {};  // M; absent: 1
  std::span<const double> mean = {};     // N, as the forward gave it
  std::span<const double> rstd = {};     // N, as the forward gave it
  TensorView<const T> dsum = {};         // gradient that reaches the sum by other ways; absent: 0
  TensorView<T> dx = {};                 // shape of x; may be dy or dsum itself, not x
  std::span<Wide<T>> dweight = {};       // M: sum over samples of dy*x^
  std::span<Wide<T>> dbias = {};         // M: sum over samples of dy
};

// With g = dy * weight:  dx = rstd * (g - mean_i g - x^ * mean_i(g*x^)) + dsum; it is the gradient
// of the residual as well. The sums of a sample are in Wide<T> over blocks and are merged in
// double; dweight and dbias likewise over blocks of samples. Needs no options: the forward's eps is
// in rstd.
template <class T = float>
void layer_norm_backward(const LayerNormBackward<T>& args);

}  // namespace evenkeel
