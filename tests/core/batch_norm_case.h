// One batch for BatchNorm: data, parameters, what the reference makes of them, and how far off a
// right result may be.
#pragma once

#include "tests/core/activations.h"
#include "tests/core/testing.h"

namespace evenkeel::testing {

struct BatchNormTraits {
  double mean = 0.3, std = 2;
  bool weight = true, bias = true;
  bool residual = false;
  Activation activation = Activation::none;
};

// A mean in double is rounded once for each merge, of at most 16 blocks in the shapes of these
// tests, and when it is made of a shift and an offset. A merge squares a difference of two such
// means, whose deviations from the channel's mean weigh a standard deviation at most, so the
// variance takes twice as much of the means' errors, relative to itself, and rstd as much.
inline constexpr double kMergeRoundings = 18;

template <class T>
class BatchNormCase {
 public:
  Shape shape;
  double eps = 1e-5;
  Activation activation;
  std::vector<T> x, residual, dy;
  std::vector<Wide<T>> weight, bias;
  reference::Normalized normalized;  // before what follows the normalization
  Values before;                     // the same and the residual: what the activation sees
  Values y;                          // after it
  Passed passed;                     // dy as it passes the activation, which is dresidual
  reference::Gradients gradients;

  BatchNormCase(const Shape& of_shape, const BatchNormTraits& traits)
      : shape(of_shape),
        activation(traits.activation),
        x(random_values<T>(shape.size(), traits.mean, traits.std, 1)),
        dy(random_values<T>(shape.size(), 0.1, 1, 2)) {
    if (traits.weight) weight = random_values<Wide<T>>(shape.c, 1, 0.5, 3);
    if (traits.bias) bias = random_values<Wide<T>>(shape.c, 0, 0.5, 4);
    if (traits.residual) residual = random_values<T>(shape.size(), 0, 1, 5);
    const Values wide = to_double(x);
    normalized = reference::batch_norm(shape, wide, to_double(weight), to_double(bias), eps);
    largest_.resize(static_cast<std::size_t>(shape.c));
    for (std::size_t i = 0; i < x.size(); ++i) {
      largest_[channel(i)] = std::max(largest_[channel(i)], std::abs(x_hat(i)));
    }
    before = traits.residual ? reference::add(normalized.y, to_double(residual)) : normalized.y;
    y = reference::activate(before, activation);
    // Where rounding may decide what passes, there is nothing to pass.
    passed = pass_back(dy, before, activation, [&](std::size_t i) { return before_bound(i); });
    gradients = reference::batch_norm_backward(shape, passed.dy, wide, to_double(weight), eps);
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
  BatchNormBackward<T> backward(const std::vector<double>& mean,
                                const std::vector<double>& rstd) const {
    return {.dy = view(dy, shape),
            .x = view(x, shape),
            .weight = weight,
            .bias = bias,
            .mean = mean,
            .rstd = rstd,
            .residual = view_or_absent(residual, shape)};
  }

  // x^ is as good as the statistics; the roundings of the four operations, of the coefficients and
  // of the merged mean (in double) come on top.
  double before_bound(std::size_t i) const {
    const std::size_t c = channel(i);
    const double x_hat_i = std::abs(x_hat(i)), w = std::abs(weight_of(c));
    return error(c).x_hat(x_hat_i) * w +
           4 * unit<T>() * (x_hat_i * w + std::abs(normalized.y[i]) + std::abs(before[i]) + 1) +
           merging(c) * (1 + x_hat_i) * w;
  }
  double y_bound(std::size_t i) const {
    return activation_error<T>(activation, before[i], before_bound(i));
  }
  double mean_bound(std::size_t c) const {
    return error(c).mean() / normalized.rstd[c] +
           (unit<T>() + kMergeRoundings * unit<double>()) * std::abs(normalized.mean[c]);
  }
  double rstd_bound(std::size_t c) const {
    return (error(c).rstd() + unit<T>() + merging(c)) * normalized.rstd[c];
  }
  // Sums of |dy| and |dy*x^| bound the sums' errors, and x^ is off by x_error. What passes the
  // activation is off by passed.error.
  double dbias_bound(std::size_t c) const { return (error(c).sum + unit<T>()) * sum_[c] + off_[c]; }
  double dweight_bound(std::size_t c) const {
    return (error(c).sum + unit<T>()) * sum_x_[c] + x_error(c) * sum_[c] + off_x_[c];
  }
  double dx_bound(std::size_t i) const {
    const std::size_t c = channel(i);
    const auto count = static_cast<double>(shape.per_channel());
    const double x_hat_i = std::abs(x_hat(i));
    return std::abs(weight_of(c)) * normalized.rstd[c] *
           (merging(c) * (std::abs(passed.dy[i]) + sum_[c] / count + x_hat_i * sum_x_[c] / count) +
            error(c).dx(std::abs(passed.dy[i]), sum_[c] / count, x_hat_i, sum_x_[c] / count,
                        x_error(c)) +
            passed.error[i] + off_[c] / count + x_hat_i * off_x_[c] / count);
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
  // What merging in double adds to the error of the mean, in standard deviations, and to that of
  // rstd, relative to itself.
  double merging(std::size_t c) const {
    return kMergeRoundings * unit<double>() * std::abs(normalized.mean[c]) * normalized.rstd[c];
  }
  // The backward's x^: off by the rounding of the stored mean, by its error from merging in double,
  // and by the errors of the statistics.
  double x_error(std::size_t c) const {
    return unit<T>() * std::abs(normalized.mean[c]) * normalized.rstd[c] +
           merging(c) * (1 + largest_[c]) + error(c).x_hat(largest_[c]);
  }
  void sum_gradients() {
    for (auto* sums : {&sum_, &sum_x_, &off_, &off_x_}) sums->resize(largest_.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t c = channel(i);
      sum_[c] += std::abs(passed.dy[i]);
      sum_x_[c] += std::abs(passed.dy[i] * x_hat(i));
      off_[c] += passed.error[i];
      off_x_[c] += passed.error[i] * std::abs(x_hat(i));
    }
  }

  std::vector<double> largest_;      // |x^| of each channel
  std::vector<double> sum_, sum_x_;  // |dy| and |dy*x^| of each channel, dy passed back
  std::vector<double> off_, off_x_;  // what they may be off by for the activation's derivative
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

}  // namespace evenkeel::testing
