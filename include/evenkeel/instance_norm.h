// Instance normalization (Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022).
//
// Each channel of each sample is normalized over its own S positions:
//
//   mu = mean_s x_s      var = mean_s (x_s - mu)^2  (biased)      rstd = 1 / sqrt(var + eps)
//   x^ = (x - mu) * rstd             y = x^ * weight_c + bias_c
//
// Normalizing with given (running) statistics, which are per channel, is the same as for BatchNorm:
// batch_norm_inference, and batch_norm_backward with Statistics::given.
#pragma once

#include <span>

#include "evenkeel/batch_norm.h"
#include "evenkeel/tensor.h"

namespace evenkeel {

struct InstanceNormOptions {
  double eps = 1e-5;  // finite and > 0
  RunningUpdate update = RunningUpdate::none();
};

// Required: x, y. All others may be absent.
template <class T = float>
struct InstanceNormForward {
  TensorView<const T> x = {};            // any N, C, S, either layout
  std::span<const Wide<T>> weight = {};  // C; absent: 1
  std::span<const Wide<T>> bias = {};    // C; absent: 0
  std::span<double> mean = {};           // N*C, sample by sample; output: mu, for the backward
  std::span<double> rstd = {};           // N*C, output: rstd, for the backward
  // Per channel, moved as options.update says by the averages over the samples of the mean and of
  // the unbiased variance, as PyTorch does.
  RunningStatistics<T> running = {};
  TensorView<T> y = {};  // shape of x; may be x itself
};

// Sums are in Wide<T> over blocks and are merged in double, the coefficients are computed in
// double, and the elements in Wide<T>. A sample's result is bitwise the same whatever else is in
// the batch and for every number of threads. Throws Error before any work if a size does not fit,
// if eps is not a finite number above 0, if C > 0 and there is exactly one position, or if an
// update is asked for without running statistics. An empty x is legal and does nothing.
template <class T = float>
void instance_norm_forward(const InstanceNormForward<T>& args,
                           const InstanceNormOptions& options = {});

// Required: dy, x, mean, rstd. Outputs that are absent are not computed.
template <class T = float>
struct InstanceNormBackward {
  TensorView<const T> dy = {};
  TensorView<const T> x = {};            // the input of the forward
  std::span<const Wide<T>> weight = {};  // C; absent: 1
  std::span<const double> mean = {};     // N*C, as the forward gave it
  std::span<const double> rstd = {};     // N*C, as the forward gave it
  TensorView<T> dx = {};                 // shape of x; may be dy itself, not x
  std::span<Wide<T>> dweight = {};       // C: sum over samples and positions of dy*x^
  std::span<Wide<T>> dbias = {};         // C: sum over samples and positions of dy
};

// dx = weight*rstd * (dy - mean(dy) - x^ * mean(dy*x^)), the means over the positions. Needs no
// options: the forward's eps is in rstd.
template <class T = float>
void instance_norm_backward(const InstanceNormBackward<T>& args);

}  // namespace evenkeel
