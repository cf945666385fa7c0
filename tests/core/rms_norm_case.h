// One batch for RMSNorm: data, weights, what the reference makes of them, and how far off a right
// result may be.
#pragma once

#include "tests/core/testing.h"

namespace evenkeel::testing {

struct RmsNormTraits {
  double mean = 0.3;
  bool weight = true, unit_offset = false;
  bool residual = false, dsum = false;
};

template <class T>
class RmsNormCase {
 public:
  Shape shape;
  std::int64_t features;
  RmsNormOptions options;
  std::vector<T> x, residual, dy, dsum;
  std::vector<T> sum;  // what is normalized: x, or x + residual rounded to T
  std::vector<Wide<T>> weight;
  reference::Normalized expected;
  reference::Gradients gradients;

  RmsNormCase(std::int64_t samples, std::int64_t of_features, const RmsNormTraits& traits)
      : shape{samples, of_features},
        features(of_features),
        options{.eps = 1e-5, .unit_offset = traits.unit_offset},
        x(random_values<T>(shape.size(), traits.mean, 2, 1)),
        dy(random_values<T>(shape.size(), 0.1, 1, 2)),
        sum(x) {
    if (traits.weight) {
      weight = random_values<Wide<T>>(features, traits.unit_offset ? 0 : 1, 0.5, 3);
      factor_ = to_double(weight);
      if (traits.unit_offset) factor_ = reference::add(factor_, Values(factor_.size(), 1));
    }
    if (traits.residual) {
      residual = random_values<T>(shape.size(), 0, 1, 5);
      // In double the sum of two floats is exact but for a rounding that T's own hides.
      for (std::size_t i = 0; i < x.size(); ++i) {
        sum[i] = from_double<T>(to_double(x[i]) + to_double(residual[i]));
      }
    }
    const Values wide = to_double(sum);
    expected = reference::rms_norm(shape, wide, factor_, options.eps);
    gradients = reference::rms_norm_backward(shape, to_double(dy), wide, factor_, options.eps);
    if (traits.dsum) {
      dsum = random_values<T>(shape.size(), 0, 1, 6);
      gradients.dx = reference::add(gradients.dx, to_double(dsum));
    }
    bound_sums();
  }

  RmsNormForward<T> forward(std::vector<T>& y) const {
    return {.x = view(x, shape),
            .weight = weight,
            .residual = view_or_absent(residual, shape),
            .y = view(y, shape)};
  }
  RmsNormBackward<T> backward(const std::vector<double>& rstd) const {
    return {.dy = view(dy, shape),
            .x = view(sum, shape),
            .weight = weight,
            .rstd = rstd,
            .dsum = view_or_absent(dsum, shape)};
  }

  // Squares are all positive, so their sum is off by sum_error relative to itself, and rstd by half
  // of that and its rounding. Two products, the rounded sum 1 + weight and the rounded coefficient
  // follow in y.
  double rstd_error() const { return sum_error<T>(features) / 2 + unit<T>(); }
  double y_bound(std::size_t i) const {
    return (rstd_error() + 4 * unit<T>()) * std::abs(expected.y[i]);
  }
  double rstd_bound(std::size_t r) const { return rstd_error() * expected.rstd[r]; }
  // dx = rstd * (g - x^ * mean(g*x^)): rstd stands in it three times, the mean is off as a sum is,
  // and there are eight roundings.
  double dx_bound(std::size_t i) const {
    const std::size_t r = row(i);
    const double g = std::abs(to_double(dy[i]) * factor_of(i));
    const double flow = std::abs(x_hat(i)) * sum_g_x_[r] / static_cast<double>(features);
    const double added = dsum.empty() ? 0 : 2 * unit<T>() * (std::abs(to_double(dsum[i])) + 1);
    return added + expected.rstd[r] * (3 * rstd_error() + sum_error<T>(features) + 8 * unit<T>()) *
                       (g + flow);
  }
  // Up to 256 rows are added in T, one after the other; x^ is as good as rstd.
  double dweight_bound(std::size_t j) const {
    const auto chain = static_cast<double>(std::min<std::int64_t>(shape.n, 256) + 3);
    return (chain * unit<T>() + rstd_error()) * column_x_[j];
  }

 private:
  std::size_t row(std::size_t i) const { return i / static_cast<std::size_t>(features); }
  std::size_t column(std::size_t i) const { return i % static_cast<std::size_t>(features); }
  double factor_of(std::size_t i) const { return factor_.empty() ? 1 : factor_[column(i)]; }
  double x_hat(std::size_t i) const { return to_double(sum[i]) * expected.rstd[row(i)]; }

  void bound_sums() {
    sum_g_x_.resize(static_cast<std::size_t>(shape.n));
    column_x_.resize(static_cast<std::size_t>(features));
    for (std::size_t i = 0; i < sum.size(); ++i) {
      const double dy_x = std::abs(to_double(dy[i]) * x_hat(i));
      sum_g_x_[row(i)] += dy_x * std::abs(factor_of(i));
      column_x_[column(i)] += dy_x;
    }
  }

  Values factor_;                 // of x^: the weight, or 1 + weight
  std::vector<double> sum_g_x_;   // of each row
  std::vector<double> column_x_;  // of each feature
};

}  // namespace evenkeel::testing
