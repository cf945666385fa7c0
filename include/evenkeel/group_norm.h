// Group normalization (Wu & He 2018, arXiv:1803.08494).
//
// The C channels of a sample are cut into G groups of C/G neighbors. Each group of each sample is
// normalized over its own M = C/G * S values, the same in training and inference:
//
//   mu = mean_i x_i      var = mean_i (x_i - mu)^2  (biased)      rstd = 1 / sqrt(var + eps)
//   x^ = (x - mu) * rstd             y = activation(x^ * weight_c + bias_c)
//
// With as many groups as channels it is instance normalization (evenkeel/instance_norm.h), with one
// group LayerNorm with parameters per channel.
#pragma once

#include <cstdint>
#include <span>

#include "evenkeel/activation.h"
#include "evenkeel/tensor.h"

namespace evenkeel {

struct GroupNormOptions {
  std::int64_t groups = 32;  // G; divides C
  double eps = 1e-5;         // finite and > 0
  Activation activation = Activation::none;
};

// Required: x, y. All others may be absent.
template <class T = float>
struct GroupNormForward {
  TensorView<const T> x = {};            // any N, C, S, either layout
  std::span<const Wide<T>> weight = {};  // C; absent: 1
  std::span<const Wide<T>> bias = {};    // C; absent: 0
  std::span<double> mean = {};           // N*G, sample by sample; output: mu, for the backward
  std::span<double> rstd = {};           // N*G, output: rstd, for the backward
  TensorView<T> y = {};                  // shape of x; may be x itself
};

// Sums are in Wide<T> over blocks and are merged in double, the coefficients are computed in
// double, and the elements in Wide<T>. A sample's result is bitwise the same whatever else is in
// the batch and for every number of threads. Throws Error before any work if a size does not fit,
// if the number of groups is below 1 or does not divide C, if eps is not a finite number above 0,
// or if the activation is not valid. A group of one value, whose x^ is 0, is legal, as is an empty
// x.
template <class T = float>
void group_norm_forward(const GroupNormForward<T>& args, const GroupNormOptions& options = {});

// Required: dy, x, mean, rstd. Outputs that are absent are not computed.
template <class T = float>
struct GroupNormBackward {
  TensorView<const T> dy = {};
  TensorView<const T> x = {};            // the input of the forward
  std::span<const Wide<T>> weight = {};  // C; absent: 1
  std::span<const Wide<T>> bias = {};    // C, of the forward; read only with an activation
  std::span<const double> mean = {};     // N*G, as the forward gave it
  std::span<const double> rstd = {};     // N*G, as the forward gave it
  TensorView<T> dx = {};                 // shape of x; may be dy itself, not x
  std::span<Wide<T>> dweight = {};       // C: sum over samples and positions of dy*x^
  std::span<Wide<T>> dbias = {};         // C: sum over samples and positions of dy
};

// With g = dy * weight_c:  dx = rstd * (g - mean(g) - x^ * mean(g*x^)), the means over the group.
// With an activation, dy is first multiplied by its derivative at the value before it, which is
// computed again from x, so give the bias that the forward had. options.eps is not read.
template <class T = float>
void group_norm_backward(const GroupNormBackward<T>& args, const GroupNormOptions& options = {});

}  // namespace evenkeel
