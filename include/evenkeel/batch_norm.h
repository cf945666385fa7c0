// Batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167).
//
// Each channel is normalized over the K = N*S values that it has in the batch:
//
//   mu = mean_k x_k      var = mean_k (x_k - mu)^2  (biased)      rstd = 1 / sqrt(var + eps)
//   x^ = (x - mu) * rstd                 y = activation(x^ * weight + bias + residual)
//
// Three decisions that other interfaces tie together are separate here:
//
// - Which statistics normalize: the batch's in batch_norm_forward, given ones in
//   batch_norm_inference.
// - How the running statistics move: BatchNormOptions::update, not at all, by a moving average, or
//   cumulatively.
// - Whether the parameters train: ask batch_norm_backward for dweight and dbias, or do not.
//
// A batch that is spread over several processes takes the same steps one by one: each process adds
// its values to a ChannelMoments, the moments are merged, and batch_norm_forward takes them; in the
// backward batch_norm_gradient_sums gives the sums, which are added up, and batch_norm_backward
// takes them.
//
// How far the results may be off is in docs/numerics.md.
#pragma once

#include <cstdint>
#include <span>

#include "evenkeel/activation.h"
#include "evenkeel/moments.h"
#include "evenkeel/tensor.h"

namespace evenkeel {

// How a training batch moves the running statistics.
struct RunningUpdate {
  enum class Kind : std::uint8_t { none, moving_average, cumulative };
  Kind kind = Kind::none;
  double new_batch_weight = 0;

  static constexpr RunningUpdate none() { return {}; }
  // running <- (1 - new_batch_weight) * running + new_batch_weight * batch, weight in [0, 1].
  // PyTorch's default `momentum` of 0.1 is new_batch_weight 0.1.
  static constexpr RunningUpdate moving_average(double new_batch_weight) {
    return {Kind::moving_average, new_batch_weight};
  }
  // The plain average of all batches so far. Needs RunningStatistics::batches.
  static constexpr RunningUpdate cumulative() { return {Kind::cumulative, 0}; }
};

// Running statistics in the caller's memory, C values each; absent if both spans are empty. `var`
// is the *unbiased* variance, as PyTorch stores it. A batch with any mean or variance that is not
// finite changes nothing; it is counted in `skipped`. Throws Error if a count is negative, or so
// large that the next would overflow.
template <class T>
struct RunningStatistics {
  std::span<Wide<T>> mean = {};
  std::span<Wide<T>> var = {};
  std::int64_t* batches = nullptr;  // optional; incremented by each batch that was used
  std::int64_t* skipped = nullptr;  // optional; incremented by each batch that was not
};

struct BatchNormOptions {
  double eps = 1e-5;  // finite and > 0
  RunningUpdate update = RunningUpdate::none();
  Activation activation = Activation::none;
};

// Training forward. Required: x, y. All others may be absent.
template <class T = float>
struct BatchNormForward {
  TensorView<const T> x = {};            // any N, C, S, either layout
  std::span<const Wide<T>> weight = {};  // C; absent: 1
  std::span<const Wide<T>> bias = {};    // C; absent: 0
  std::span<double> mean = {};           // C, output: mu, for the backward
  std::span<double> rstd = {};           // C, output: rstd, for the backward
  RunningStatistics<T> running = {};     // updated as options.update says
  TensorView<const T> residual = {};     // shape of x; absent: 0
  TensorView<T> y = {};                  // shape of x; may be x itself, or the residual
};

// Normalizes with the statistics of the batch. Sums are in Wide<T> over blocks and are merged in
// double, the coefficients are computed in double, and the elements in Wide<T>. Throws Error before
// any work if a size does not fit, if eps is not a finite number above 0, if the activation is not
// valid, if C > 0 and there is exactly one value per channel, or if an update is asked for without
// running statistics. An empty x is legal and does nothing.
template <class T = float>
void batch_norm_forward(const BatchNormForward<T>& args, const BatchNormOptions& options = {});

// The same with given moments of the batch, for example those of all processes that hold a part of
// it. They take the place of x's own in everything: y, mean, rstd and the running statistics. x may
// then be empty or have one value per channel; the moments need two or more.
template <class T = float>
void batch_norm_forward(const BatchNormForward<T>& args, const ChannelMoments& batch,
                        const BatchNormOptions& options = {});

struct BatchNormInferenceOptions {
  double eps = 1e-5;  // finite and > 0
  Activation activation = Activation::none;
};

// Inference: normalizes with given statistics. Required: x, y, mean, var.
template <class T = float>
struct BatchNormInference {
  TensorView<const T> x = {};
  std::span<const Wide<T>> weight = {};  // C; absent: 1
  std::span<const Wide<T>> bias = {};    // C; absent: 0
  std::span<const Wide<T>> mean = {};    // C: a moving average, or the exact mean of a data set
  std::span<const Wide<T>> var = {};     // C: the variance that goes with it
  std::span<double> rstd = {};        // C, optional output: 1 / sqrt(var + eps), for the backward
  TensorView<const T> residual = {};  // shape of x; absent: 0
  TensorView<T> y = {};               // shape of x; may be x itself, or the residual
};

template <class T = float>
void batch_norm_inference(const BatchNormInference<T>& args,
                          const BatchNormInferenceOptions& options = {});

// Which statistics the forward normalized with: they decide whether gradients flow through them.
enum class Statistics : std::uint8_t {
  batch,  // mu and rstd depend on x:  dx = weight*rstd * (dy - mean(dy) - x^ * mean(dy*x^))
  given,  // they are constants:       dx = weight*rstd * dy
};

struct BatchNormBackwardOptions {
  Statistics statistics = Statistics::batch;
  Activation activation = Activation::none;  // that of the forward
};

// Required: dy, x, mean, rstd. Outputs that are absent are not computed.
template <class T = float>
struct BatchNormBackward {
  TensorView<const T> dy = {};
  TensorView<const T> x = {};            // the input of the forward
  std::span<const Wide<T>> weight = {};  // C; absent: 1
  std::span<const Wide<T>> bias = {};    // C, of the forward; read only with an activation
  std::span<const double> mean = {};     // C, as the forward gave it
  std::span<const double> rstd = {};     // C, as the forward gave it
  TensorView<const T> residual = {};     // that of the forward; read only with an activation
  TensorView<T> dx = {};                 // shape of x; may be dy itself, not x
  TensorView<T> dresidual = {};          // shape of x; may be dy or the residual itself, not dx
  std::span<Wide<T>> dweight = {};       // C: sum dy*x^
  std::span<Wide<T>> dbias = {};         // C: sum dy
};

// With an activation, dy is first multiplied by its derivative at the value before it. That value
// is computed again from x, so give the bias and the residual that the forward had. dresidual is
// that product.
//
// The sums are of centered values, dy * (x - mean), accumulated in Wide<T> over blocks and merged
// in double. Throws Error as the forward does, but one value per channel is legal with
// Statistics::given.
template <class T = float>
void batch_norm_backward(const BatchNormBackward<T>& args,
                         const BatchNormBackwardOptions& options = {});

// What batch_norm_backward needs to know of the whole batch, per channel, in the caller's memory.
// Those of several processes are added up, element by element.
template <class P>
struct BatchNormSums {
  std::span<P> dy = {};    // C: sum dy, behind the activation's derivative
  std::span<P> dy_x = {};  // C: sum dy * (x - mean), likewise
};

// Sets the sums over this x. Needs dy, x, mean and rstd; of the outputs in args it sets dweight and
// dbias, which are those of this x alone.
template <class T = float>
void batch_norm_gradient_sums(const BatchNormBackward<T>& args, const BatchNormSums<double>& sums,
                              const BatchNormBackwardOptions& options = {});

// The gradient of Statistics::batch with given sums over a batch of `count` values per channel,
// for example those of all processes. Sets dx and dresidual; dweight and dbias must be absent,
// since batch_norm_gradient_sums sets them. x may be empty.
template <class T = float>
void batch_norm_backward(const BatchNormBackward<T>& args, const BatchNormSums<const double>& sums,
                         double count, const BatchNormBackwardOptions& options = {});

// Moves running statistics by the moments of one batch; what batch_norm_forward does with its own.
// Useful to normalize with given statistics while still tracking the batches. Channels with a
// count below 2 have no unbiased variance, so such a batch is refused with an Error.
template <class T = float>
void update_running_statistics(const ChannelMoments& batch, RunningUpdate update,
                               const RunningStatistics<T>& running);

// Sets weight = sqrt(var + eps) and bias = mean of the given (biased) moments: the layer that then
// normalizes with the same statistics returns its input, up to rounding.
template <class T = float>
void batch_norm_identity_init(const ChannelMoments& batch, double eps, std::span<Wide<T>> weight,
                              std::span<Wide<T>> bias);

}  // namespace evenkeel
