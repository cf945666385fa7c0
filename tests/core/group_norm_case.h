// One batch for GroupNorm, and for InstanceNorm, which has as many groups as channels: data,
// parameters, what the reference makes of them, and how far off a right result may be.
#pragma once

#include "tests/core/activations.h"
#include "tests/core/testing.h"

namespace evenkeel::testing {

struct GroupNormTraits {
  double mean = 0.3, std = 2;
  bool weight = true, bias = true;
  Activation activation = Activation::none;
};

template <class T>
class GroupNormCase {
 public:
  Shape shape;
  std::int64_t groups;
  double eps = 1e-5;
  Activation activation;
  std::vector<T> x, dy;
  std::vector<Wide<T>> weight, bias;
  reference::Normalized normalized;  // before the activation
  Values y;                          // after it
  Passed passed;                     // dy as it passes the activation
  reference::Gradients gradients;

  GroupNormCase(const Shape& of_shape, std::int64_t of_groups, const GroupNormTraits& traits)
      : shape(of_shape),
        groups(of_groups),
        activation(traits.activation),
        x(random_values<T>(shape.size(), traits.mean, traits.std, 1)),
        dy(random_values<T>(shape.size(), 0.1, 1, 2)) {
    if (traits.weight) weight = random_values<Wide<T>>(shape.c, 1, 0.5, 3);
    if (traits.bias) bias = random_values<Wide<T>>(shape.c, 0, 0.5, 4);
    const Values wide = to_double(x), wide_weight = to_double(weight);
    normalized = reference::group_norm(shape, groups, wide, wide_weight, to_double(bias), eps);
    largest_.resize(normalized.rstd.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      largest_[group(i)] = std::max(largest_[group(i)], std::abs(x_hat(i)));
    }
    y = reference::activate(normalized.y, activation);
    // Where rounding may decide what passes, there is nothing to pass.
    passed =
        pass_back(dy, normalized.y, activation, [&](std::size_t i) { return before_bound(i); });
    gradients = reference::group_norm_backward(shape, groups, passed.dy, wide, wide_weight, eps);
    sum_gradients();
  }

  GroupNormForward<T> forward(std::vector<T>& out) const {
    return {.x = view(x, shape), .weight = weight, .bias = bias, .y = view(out, shape)};
  }
  GroupNormOptions options() const {
    return {.groups = groups, .eps = eps, .activation = activation};
  }
  GroupNormBackward<T> backward(const std::vector<double>& mean,
                                const std::vector<double>& rstd) const {
    return {.dy = view(dy, shape),
            .x = view(x, shape),
            .weight = weight,
            .bias = bias,
            .mean = mean,
            .rstd = rstd};
  }

  // As in batch_norm_case.h.
  double before_bound(std::size_t i) const {
    const std::size_t g = group(i);
    const double x_hat_i = std::abs(x_hat(i)), w = std::abs(weight_of(i));
    return (error(g).x_hat(x_hat_i) + merging() * mean_in_stds(g) * (1 + x_hat_i)) * w +
           4 * unit<T>() * (x_hat_i * w + 2 * std::abs(normalized.y[i]) + 1);
  }
  double y_bound(std::size_t i) const {
    return activation_error<T>(activation, normalized.y[i], before_bound(i));
  }
  double mean_bound(std::size_t g) const {
    return error(g).mean() / normalized.rstd[g] +
           (unit<T>() + merging()) * std::abs(normalized.mean[g]);
  }
  double rstd_bound(std::size_t g) const {
    return (error(g).rstd() + unit<T>() + merging() * mean_in_stds(g)) * normalized.rstd[g];
  }
  double dbias_bound(std::size_t c) const {
    return (channel_sum_error() + unit<T>()) * channel_[c] + channel_off_[c];
  }
  double dweight_bound(std::size_t c) const {
    return (channel_sum_error() + unit<T>()) * channel_x_[c] + channel_error_[c];
  }
  double dx_bound(std::size_t i) const {
    const std::size_t g = group(i);
    const auto count = static_cast<double>(per_group());
    const double x_hat_i = std::abs(x_hat(i)), w = std::abs(weight_of(i));
    return normalized.rstd[g] *
           (merging() * mean_in_stds(g) *
                (std::abs(passed.dy[i]) * w + sum_[g] / count + x_hat_i * sum_x_[g] / count) +
            error(g).dx(std::abs(passed.dy[i]) * w, sum_[g] / count, x_hat_i, sum_x_[g] / count,
                        x_error(g)) +
            passed.error[i] * w + off_[g] / count + x_hat_i * off_x_[g] / count);
  }

  std::int64_t per_group() const { return shape.c / groups * shape.s; }

 private:
  std::size_t group(std::size_t i) const {
    const std::size_t sample = i / static_cast<std::size_t>(shape.c * shape.s);
    return sample * static_cast<std::size_t>(groups) +
           channel_of(shape, i) / static_cast<std::size_t>(shape.c / groups);
  }
  double weight_of(std::size_t i) const {
    return weight.empty() ? 1 : static_cast<double>(weight[channel_of(shape, i)]);
  }
  double x_hat(std::size_t i) const {
    return (to_double(x[i]) - normalized.mean[group(i)]) * normalized.rstd[group(i)];
  }
  double mean_in_stds(std::size_t g) const {
    return std::abs(normalized.mean[g]) * normalized.rstd[g];
  }
  // A part of a group, such as one of its channels, has a pivot and a mean of its own, which lie
  // between the group's extremes: at most twice the largest x^ apart.
  StatisticsError<T> error(std::size_t g) const { return {per_group(), 2 * largest_[g]}; }
  double channel_sum_error() const { return sum_error<T>(shape.per_channel()); }
  // A mean in double is rounded once for each merge, of channels and of blocks of 4096 values, and
  // when it is made of a pivot and an offset. A merge squares a difference of two such means, whose
  // deviations from the group's mean weigh a standard deviation at most, so the variance takes
  // twice as much of the means' errors, relative to itself, and rstd as much.
  double merging() const {
    return unit<double>() * static_cast<double>(shape.c / groups + per_group() / 4096 + 4);
  }
  // The backward's x^: off by the rounding of the stored mean, by its error from merging in double,
  // and by the errors of the statistics.
  double x_error(std::size_t g) const {
    return (unit<T>() + merging() * (1 + largest_[g])) * mean_in_stds(g) +
           error(g).x_hat(largest_[g]);
  }
  void sum_gradients() {
    for (auto* of_groups : {&sum_, &sum_x_, &off_, &off_x_}) of_groups->resize(largest_.size());
    for (auto* of_channels : {&channel_, &channel_x_, &channel_off_, &channel_error_}) {
      of_channels->resize(static_cast<std::size_t>(shape.c));
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t g = group(i), c = channel_of(shape, i);
      const double w = std::abs(weight_of(i)), x_hat_i = std::abs(x_hat(i));
      const double value = std::abs(passed.dy[i]), off = passed.error[i];
      sum_[g] += value * w;
      sum_x_[g] += value * w * x_hat_i;
      off_[g] += off * w;
      off_x_[g] += off * w * x_hat_i;
      channel_[c] += value;
      channel_x_[c] += value * x_hat_i;
      channel_off_[c] += off;
      channel_error_[c] += off * x_hat_i + value * x_error(g);
    }
  }

  std::vector<double> largest_;      // |x^| of each group
  std::vector<double> sum_, sum_x_;  // |g| and |g*x^| of each group, with g = dy * weight
  std::vector<double> off_, off_x_;  // what they may be off by for the activation's derivative
  // The same of dy and dy*x^ of each channel, and the error of x^.
  std::vector<double> channel_, channel_x_, channel_off_, channel_error_;
};

// 1, C and numbers between them that divide C.
inline std::vector<std::int64_t> group_counts(std::int64_t channels) {
  std::vector<std::int64_t> counts = {1};
  for (const std::int64_t groups : {std::int64_t{2}, std::int64_t{3}, std::int64_t{32}, channels}) {
    if (groups > counts.back() && groups <= channels && channels % groups == 0) {
      counts.push_back(groups);
    }
  }
  return counts;
}

// Narrow and wide groups; one position, few and many; planes of networks; several blocks.
inline std::vector<Shape> group_norm_shapes() {
  std::vector<Shape> shapes;
  for (const auto& [n, c, s] : std::vector<std::array<std::int64_t, 3>>{
           {1, 1, 1},    {3, 1, 2},     {5, 6, 1},    {2, 15, 1},   {3, 16, 1},   {2, 17, 1},
           {9, 32, 1},   {65, 64, 1},   {2, 768, 1},  {2, 2048, 1}, {3, 4, 2},    {2, 33, 3},
           {17, 12, 7},  {3, 64, 15},   {2, 17, 16},  {2, 96, 17},  {4, 32, 49},  {2, 64, 49},
           {1, 6, 63},   {300, 4, 9},   {2, 3, 255},  {2, 32, 257}, {1, 12, 784}, {2, 2, 3025},
           {1, 1, 4097}, {1, 3, 20011}, {1, 64, 1024}}) {
    shapes.push_back({n, c, s, Layout::channels_first});
    shapes.push_back({n, c, s, Layout::channels_last});
  }
  return shapes;
}

// Calls f(shape, groups) for each of these shapes and the numbers of groups that it may have.
template <class F>
void for_each_grouping(const F& f) {
  for (const Shape& shape : group_norm_shapes()) {
    for (const std::int64_t groups : group_counts(shape.c)) {
      SCOPED_TRACE(name_of(shape) + ", " + std::to_string(groups) + " groups");
      f(shape, groups);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace evenkeel::testing
