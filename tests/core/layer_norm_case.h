// One batch for LayerNorm: data, parameters, what the reference makes of them, and how far off a
// right result may be.
#pragma once

#include "tests/core/testing.h"

namespace evenkeel::testing {

struct LayerNormTraits {
  double mean = 0.3;
  bool weight = true, bias = true;
  bool residual = false, dsum = false;
};

template <class T>
class LayerNormCase {
 public:
  Shape shape;
  std::int64_t features;
  double eps = 1e-5;
  std::vector<T> x, residual, dy, dsum;
  std::vector<T> sum;  // what is normalized: x, or x + residual rounded to T
  std::vector<Wide<T>> weight, bias;
  reference::Normalized expected;
  reference::Gradients gradients;

  LayerNormCase(std::int64_t samples, std::int64_t of_features, const LayerNormTraits& traits)
      : shape{samples, of_features},
        features(of_features),
        x(random_values<T>(shape.size(), traits.mean, 2, 1)),
        dy(random_values<T>(shape.size(), 0.1, 1, 2)),
        sum(x) {
    if (traits.weight) weight = random_values<Wide<T>>(features, 1, 0.5, 3);
    if (traits.bias) bias = random_values<Wide<T>>(features, 0, 0.5, 4);
    if (traits.residual) {
      residual = random_values<T>(shape.size(), 0, 1, 5);
      // In double the sum of two floats is exact but for a rounding that T's own hides.
      for (std::size_t i = 0; i < x.size(); ++i) {
        sum[i] = from_double<T>(to_double(x[i]) + to_double(residual[i]));
      }
    }
    const Values wide = to_double(sum);
    expected = reference::layer_norm(shape, wide, to_double(weight), to_double(bias), eps);
    gradients = reference::layer_norm_backward(shape, to_double(dy), wide, to_double(weight), eps);
    if (traits.dsum) {
      dsum = random_values<T>(shape.size(), 0, 1, 6);
      gradients.dx = reference::add(gradients.dx, to_double(dsum));
    }
    bound_sums();
  }

  LayerNormForward<T> forward(std::vector<T>& y) const {
    return {.x = view(x, shape),
            .weight = weight,
            .bias = bias,
            .residual = view_or_absent(residual, shape),
            .y = view(y, shape)};
  }
  LayerNormBackward<T> backward(const std::vector<double>& mean,
                                const std::vector<double>& rstd) const {
    return {.dy = view(dy, shape),
            .x = view(sum, shape),
            .weight = weight,
            .mean = mean,
            .rstd = rstd,
            .dsum = view_or_absent(dsum, shape)};
  }

  // As in batch_norm_case.h.
  double y_bound(std::size_t i) const {
    const double x_hat_i = std::abs(x_hat(i)), w = std::abs(weight_of(i));
    return (error(row(i)).x_hat(x_hat_i) + 4 * unit<double>() * mean_in_stds(row(i))) * w +
           5 * unit<T>() * (x_hat_i * w + std::abs(expected.y[i]) + 1);
  }
  double mean_bound(std::size_t r) const {
    return error(r).mean() / expected.rstd[r] +
           (unit<T>() + 4 * unit<double>()) * std::abs(expected.mean[r]);
  }
  double rstd_bound(std::size_t r) const {
    return (error(r).rstd() + unit<T>()) * expected.rstd[r];
  }
  double dx_bound(std::size_t i) const {
    const std::size_t r = row(i);
    const auto n = static_cast<double>(features);
    const double g = std::abs(to_double(dy[i]) * weight_of(i));
    const double added = dsum.empty() ? 0 : 2 * unit<T>() * (std::abs(to_double(dsum[i])) + 1);
    return added + expected.rstd[r] * error(r).dx(g, sum_g_[r] / n, std::abs(x_hat(i)),
                                                  sum_g_x_[r] / n, x_error_[r]);
  }
  double dbias_bound(std::size_t j) const { return chain() * column_[j]; }
  double dweight_bound(std::size_t j) const {
    return (chain() + unit<T>()) * column_x_[j] + column_error_[j];
  }

 private:
  std::size_t row(std::size_t i) const { return i / static_cast<std::size_t>(features); }
  std::size_t column(std::size_t i) const { return i % static_cast<std::size_t>(features); }
  StatisticsError<T> error(std::size_t r) const { return {features, largest_[r]}; }
  // Up to 256 rows are added in T, one after the other.
  double chain() const {
    return (static_cast<double>(std::min<std::int64_t>(shape.n, 256)) + 2) * unit<T>();
  }
  double weight_of(std::size_t i) const {
    return weight.empty() ? 1 : static_cast<double>(weight[column(i)]);
  }
  double x_hat(std::size_t i) const {
    return (to_double(sum[i]) - expected.mean[row(i)]) * expected.rstd[row(i)];
  }
  double mean_in_stds(std::size_t r) const { return std::abs(expected.mean[r]) * expected.rstd[r]; }

  void bound_sums() {
    const auto rows = static_cast<std::size_t>(shape.n),
               columns = static_cast<std::size_t>(features);
    for (auto* per_row : {&largest_, &sum_g_, &sum_g_x_, &x_error_}) per_row->resize(rows);
    for (auto* per_column : {&column_, &column_x_, &column_error_}) per_column->resize(columns);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      const double g = std::abs(to_double(dy[i]) * weight_of(i));
      largest_[row(i)] = std::max(largest_[row(i)], std::abs(x_hat(i)));
      sum_g_[row(i)] += g;
      sum_g_x_[row(i)] += g * std::abs(x_hat(i));
    }
    for (std::size_t r = 0; r < rows; ++r) {
      x_error_[r] =
          (unit<T>() + 4 * unit<double>()) * mean_in_stds(r) + error(r).x_hat(largest_[r]);
    }
    for (std::size_t i = 0; i < sum.size(); ++i) {
      const double g = std::abs(to_double(dy[i]));
      column_[column(i)] += g;
      column_x_[column(i)] += g * std::abs(x_hat(i));
      column_error_[column(i)] += g * x_error_[row(i)];
    }
  }

  std::vector<double> largest_, sum_g_, sum_g_x_, x_error_;  // of each row
  std::vector<double> column_, column_x_, column_error_;     // of each feature
};

// samples x features
inline std::vector<std::array<std::int64_t, 2>> layer_norm_sizes() {
  return {{1, 1},     {3, 2},    {5, 7},    {4, 15},    {4, 16},    {4, 17},   {2, 63},
          {2, 64},    {2, 65},   {1, 768},  {37, 100},  {257, 129}, {3, 4095}, {2, 4097},
          {5, 20011}, {300, 3},  {50, 32},  {129, 255}, {2, 256},   {50, 257}, {2, 2048},
          {35, 64},   {35, 128}, {35, 256}, {19, 512}};
}

}  // namespace evenkeel::testing
