// One batch for BatchNorm: data, parameters, what the reference makes of them, and how far off a
// right result may be.
#pragma once

#include "tests/core/testing.h"

namespace evenkeel::testing {

struct BatchNormTraits {
  double mean = 0.3, std = 2;
  bool weight = true, bias = true;
  bool residual = false;
  Activation activation = Activation::none;
};

// A mean in double is rounded once for each merge, of at most 16 blocks in the shapes of these
// tests, and when it is made of a shift and an offset.
inline constexpr double kMergeRoundings = 18;

template <class T>
class BatchNormCase {
 public:
  Shape shape;
  double eps = 1e-5;
  Activation activation;
  std::vector<T> x, residual, dy;
  std::vector<Stat<T>> weight, bias;
  reference::Normalized normalized;  // before what follows the normalization
  Values y;                          // after it
  Values masked;                     // dy as it passes the activation, which is dresidual
  reference::Gradients gradients;

  BatchNormCase(const Shape& of_shape, const BatchNormTraits& traits)
      : shape(of_shape),
        activation(traits.activation),
        x(random_values<T>(shape.size(), traits.mean, traits.std, 1)),
        dy(random_values<T>(shape.size(), 0.1, 1, 2)) {
    if (traits.weight) weight = random_values<Stat<T>>(shape.c, 1, 0.5, 3);
    if (traits.bias) bias = random_values<Stat<T>>(shape.c, 0, 0.5, 4);
    if (traits.residual) residual = random_values<T>(shape.size(), 0, 1, 5);
    const Values wide = to_double(x);
    normalized = reference::batch_norm(shape, wide, to_double(weight), to_double(bias), eps);
    largest_.resize(static_cast<std::size_t>(shape.c));
    for (std::size_t i = 0; i < x.size(); ++i) {
      largest_[channel(i)] = std::max(largest_[channel(i)], std::abs(x_hat(i)));
    }
    y = traits.residual ? reference::add(normalized.y, to_double(residual)) : normalized.y;
    masked = to_double(dy);
    if (activation == Activation::relu) {
      // Where rounding may decide what passes, there is nothing to pass.
      for (std::size_t i = 0; i < dy.size(); ++i) {
        if (std::abs(y[i]) <= y_bound(i)) dy[i] = from_double<T>(0);
      }
      y = reference::relu(y);
      masked = reference::relu_backward(to_double(dy), y);
    }
    gradients = reference::batch_norm_backward(shape, masked, wide, to_double(weight), eps);
    sum_gradients();
  }

  BatchNormForward<T> forward(std::vector<T>& out) const {
    return {.x = view(x, shape),
            .weight = weight,
            .bias = bias,
            .residual = view_or_absent(residual, shape),
            .y = view(out, shape)};
  }
  BatchNormOptions options() const { return {.eps = eps, .activation = activation}; }
  BatchNormBackward<T> backward(const std::vector<Stat<T>>& mean,
                                const std::vector<Stat<T>>& rstd) const {
    return {.dy = view(dy, shape),
            .x = view(x, shape),
            .weight = weight,
            .mean = mean,
            .rstd = rstd,
            .bias = bias,
            .residual = view_or_absent(residual, shape)};
  }

  // x^ is as good as the statistics; the roundings of the four operations, of the coefficients and
  // of the merged mean (in double) come on top. An activation makes no error larger.
  double y_bound(std::size_t i) const {
    const std::size_t c = channel(i);
    const double x_hat_i = std::abs(x_hat(i)), w = std::abs(weight_of(c));
    return error(c).x_hat(x_hat_i) * w +
           4 * unit<T>() * (x_hat_i * w + std::abs(normalized.y[i]) + std::abs(y[i]) + 1) +
           kMergeRoundings * unit<double>() * std::abs(normalized.mean[c]) * normalized.rstd[c] * w;
  }
  double mean_bound(std::size_t c) const {
    return error(c).mean() / normalized.rstd[c] +
           (unit<T>() + kMergeRoundings * unit<double>()) * std::abs(normalized.mean[c]);
  }
  double rstd_bound(std::size_t c) const {
    return (error(c).rstd() + unit<T>()) * normalized.rstd[c];
  }
  // Sums of |dy| and |dy*x^| bound the sums' errors, and x^ is off by x_error.
  double dbias_bound(std::size_t c) const { return (error(c).sum + unit<T>()) * sum_[c]; }
  double dweight_bound(std::size_t c) const {
    return (error(c).sum + unit<T>()) * sum_x_[c] + x_error(c) * sum_[c];
  }
  double dx_bound(std::size_t i) const {
    const std::size_t c = channel(i);
    const auto count = static_cast<double>(shape.per_channel());
    return std::abs(weight_of(c)) * normalized.rstd[c] *
           error(c).dx(std::abs(masked[i]), sum_[c] / count, std::abs(x_hat(i)), sum_x_[c] / count,
                       x_error(c));
  }

  std::size_t channel(std::size_t i) const { return channel_of(shape, i); }
  double weight_of(std::size_t c) const {
    return weight.empty() ? 1 : static_cast<double>(weight[c]);
  }
  double x_hat(std::size_t i) const {
    const std::size_t c = channel(i);
    return (to_double(x[i]) - normalized.mean[c]) * normalized.rstd[c];
  }

 private:
  StatisticsError<T> error(std::size_t c) const { return {shape.per_channel(), largest_[c]}; }
  // The backward's x^: off by the rounding of the stored mean, by its error from merging in double,
  // and by the errors of the statistics.
  double x_error(std::size_t c) const {
    return (unit<T>() + kMergeRoundings * unit<double>()) * std::abs(normalized.mean[c]) *
               normalized.rstd[c] +
           error(c).x_hat(largest_[c]);
  }
  void sum_gradients() {
    sum_.resize(largest_.size());
    sum_x_.resize(largest_.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum_[channel(i)] += std::abs(masked[i]);
      sum_x_[channel(i)] += std::abs(masked[i] * x_hat(i));
    }
  }

  std::vector<double> largest_;      // |x^| of each channel
  std::vector<double> sum_, sum_x_;  // |dy| and |dy*x^| of each channel, dy masked
};

// Calls f(shape) for each of the test shapes that has a variance.
template <class F>
void for_each_batch(const F& f) {
  for (const Shape& shape : test_shapes()) {
    if (shape.per_channel() == 1) continue;
    SCOPED_TRACE(name_of(shape));
    f(shape);
    if (::testing::Test::HasFailure()) return;
  }
}

// An offset at which T still resolves a standard deviation of 2.
template <class T>
constexpr double large_mean() {
  return std::is_same_v<T, BFloat16> ? 40 : std::is_same_v<T, Float16> ? 600 : 1e4;
}

}  // namespace evenkeel::testing
