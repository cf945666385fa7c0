#include "reference/reference.h"

#include <algorithm>
#include <cmath>

namespace evenkeel::reference {
namespace {

double at_or(const Values& values, std::size_t i, double fallback) {
  return values.empty() ? fallback : values[i];
}

// A partition of a tensor into groups that are normalized together: the elements of each group, and
// of each element the index of its parameter.
struct Groups {
  std::vector<std::vector<std::size_t>> elements;
  std::vector<std::size_t> parameter;
  std::size_t parameters;
};

Groups channel_groups(const Shape& shape) {
  Groups groups{std::vector<std::vector<std::size_t>>(static_cast<std::size_t>(shape.c)),
                std::vector<std::size_t>(static_cast<std::size_t>(shape.size())),
                static_cast<std::size_t>(shape.c)};
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        const std::size_t i = index_of(shape, n, c, s);
        groups.elements[static_cast<std::size_t>(c)].push_back(i);
        groups.parameter[i] = static_cast<std::size_t>(c);
      }
    }
  }
  return groups;
}

Groups sample_groups(const Shape& shape) {
  const auto features = static_cast<std::size_t>(shape.c * shape.s);
  Groups groups{std::vector<std::vector<std::size_t>>(static_cast<std::size_t>(shape.n)),
                std::vector<std::size_t>(static_cast<std::size_t>(shape.size())), features};
  for (std::size_t i = 0; i < groups.parameter.size(); ++i) {
    groups.elements[i / features].push_back(i);
    groups.parameter[i] = i % features;
  }
  return groups;
}

// Each sample has groups of its own, sample by sample, of neighboring channels.
Groups blocks_of_channels(const Shape& shape, std::int64_t per_sample) {
  Groups groups{
      std::vector<std::vector<std::size_t>>(static_cast<std::size_t>(shape.n * per_sample)),
      std::vector<std::size_t>(static_cast<std::size_t>(shape.size())),
      static_cast<std::size_t>(shape.c)};
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      const std::int64_t group = n * per_sample + c / (shape.c / per_sample);
      for (std::int64_t s = 0; s < shape.s; ++s) {
        const std::size_t i = index_of(shape, n, c, s);
        groups.elements[static_cast<std::size_t>(group)].push_back(i);
        groups.parameter[i] = static_cast<std::size_t>(c);
      }
    }
  }
  return groups;
}

Normalized normalize(const Groups& groups, const Values& x, const Values& weight,
                     const Values& bias, double eps) {
  Normalized result;
  result.y.resize(x.size());
  for (const auto& group : groups.elements) {
    Values values;
    for (const std::size_t i : group) values.push_back(x[i]);
    const Statistics stats = statistics_of(values);
    const double rstd = 1 / std::sqrt(stats.variance + eps);
    for (const std::size_t i : group) {
      const std::size_t p = groups.parameter[i];
      result.y[i] = (x[i] - stats.mean) * rstd * at_or(weight, p, 1) + at_or(bias, p, 0);
    }
    result.mean.push_back(stats.mean);
    result.variance.push_back(stats.variance);
    result.rstd.push_back(rstd);
  }
  return result;
}

// The chain rule as it stands in the papers, through the variance and the mean one after the other
// (Ioffe & Szegedy 2015, section 3), not in the contracted form that the library computes.
Gradients normalize_backward(const Groups& groups, const Values& dy, const Values& x,
                             const Values& weight, double eps) {
  Gradients result{Values(x.size()), Values(groups.parameters), Values(groups.parameters)};
  for (const auto& group : groups.elements) {
    Values values;
    for (const std::size_t i : group) values.push_back(x[i]);
    const Statistics stats = statistics_of(values);
    const double rstd = 1 / std::sqrt(stats.variance + eps);
    const auto count = static_cast<double>(group.size());
    double d_variance = 0, d_mean = 0, sum_deviation = 0;
    for (const std::size_t i : group) {
      const double d_x_hat = dy[i] * at_or(weight, groups.parameter[i], 1);
      d_variance += d_x_hat * (x[i] - stats.mean) * -0.5 * rstd * rstd * rstd;
      d_mean += -d_x_hat * rstd;
      sum_deviation += x[i] - stats.mean;
    }
    d_mean += d_variance * -2 * sum_deviation / count;
    for (const std::size_t i : group) {
      const std::size_t p = groups.parameter[i];
      const double deviation = x[i] - stats.mean;
      result.dx[i] =
          dy[i] * at_or(weight, p, 1) * rstd + d_variance * 2 * deviation / count + d_mean / count;
      result.dweight[p] += dy[i] * deviation * rstd;
      result.dbias[p] += dy[i];
    }
  }
  return result;
}

double mean_square(const std::vector<std::size_t>& group, const Values& x) {
  long double sum = 0;
  for (const std::size_t i : group) sum += static_cast<long double>(x[i]) * x[i];
  return static_cast<double>(sum / static_cast<long double>(group.size()));
}

double relu6(double v) { return v <= 0 ? 0 : v >= 6 ? 6 : v; }
double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

double activated(double v, const Activation& activation) {
  switch (activation.kind) {
    case Activation::Kind::clamp:
      return v <= activation.low ? activation.low : v >= activation.high ? activation.high : v;
    case Activation::Kind::leaky_relu:
      return v > 0 ? v : activation.slope * v;
    case Activation::Kind::silu:
      return v * sigmoid(v);
    case Activation::Kind::hardswish:
      return v * relu6(v + 3) / 6;
  }
  return v;
}

double derivative(double v, const Activation& activation) {
  switch (activation.kind) {
    // An infinite bound is none: infinity itself passes.
    case Activation::Kind::clamp:
      return (v <= activation.low && std::isfinite(activation.low)) ||
                     (v >= activation.high && std::isfinite(activation.high))
                 ? 0
                 : 1;
    case Activation::Kind::leaky_relu:
      return v > 0 ? 1 : activation.slope;
    case Activation::Kind::silu:
      return sigmoid(v) + v * sigmoid(v) * (1 - sigmoid(v));
    // The product rule, with a derivative of relu6 that is 0 at both of its bounds.
    case Activation::Kind::hardswish:
      return relu6(v + 3) / 6 + (v <= -3 || v >= 3 ? 0 : v / 6);
  }
  return 1;
}

// Calls f(c, j) for every channel j in the window of channel c.
template <class F>
void for_each_in_window(const Shape& shape, const LocalResponseNormOptions& options, const F& f) {
  for (std::int64_t c = 0; c < shape.c; ++c) {
    for (std::int64_t j = 0; j < shape.c; ++j) {
      if (c - j <= options.behind && j - c <= options.ahead) f(c, j);
    }
  }
}

Values lrn_bases(const Shape& shape, const Values& x, const LocalResponseNormOptions& options) {
  Values base(x.size(), options.k);
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t s = 0; s < shape.s; ++s) {
      for_each_in_window(shape, options, [&](std::int64_t c, std::int64_t j) {
        const double v = x[index_of(shape, n, j, s)];
        base[index_of(shape, n, c, s)] += options.alpha * v * v;
      });
    }
  }
  return base;
}

}  // namespace

std::size_t index_of(const Shape& shape, std::int64_t n, std::int64_t c, std::int64_t s) {
  const std::int64_t i = shape.layout == Layout::channels_first ? (n * shape.c + c) * shape.s + s
                                                                : (n * shape.s + s) * shape.c + c;
  return static_cast<std::size_t>(i);
}

Statistics statistics_of(const Values& group) {
  const auto count = static_cast<long double>(group.size());
  long double mean = 0, variance = 0;
  for (const double v : group) mean += v;
  mean /= count;
  for (const double v : group) variance += (v - mean) * (v - mean);
  return {static_cast<double>(mean), static_cast<double>(variance / count)};
}

Values add(Values a, const Values& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

Values activate(Values before, const Activation& activation) {
  for (double& v : before) v = activated(v, activation);
  return before;
}

Values activate_backward(Values dy, const Values& before, const Activation& activation) {
  for (std::size_t i = 0; i < dy.size(); ++i) dy[i] *= derivative(before[i], activation);
  return dy;
}

Normalized batch_norm(const Shape& shape, const Values& x, const Values& weight, const Values& bias,
                      double eps) {
  return normalize(channel_groups(shape), x, weight, bias, eps);
}

Values batch_norm_inference(const Shape& shape, const Values& x, const Values& weight,
                            const Values& bias, const Values& mean, const Values& variance,
                            double eps) {
  const Groups groups = channel_groups(shape);
  Values y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = groups.parameter[i];
    y[i] =
        (x[i] - mean[c]) / std::sqrt(variance[c] + eps) * at_or(weight, c, 1) + at_or(bias, c, 0);
  }
  return y;
}

Gradients batch_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                              const Values& weight, double eps) {
  return normalize_backward(channel_groups(shape), dy, x, weight, eps);
}

Gradients batch_norm_given_backward(const Shape& shape, const Values& dy, const Values& x,
                                    const Values& weight, const Values& mean,
                                    const Values& variance, double eps) {
  const Groups groups = channel_groups(shape);
  Gradients result{Values(x.size()), Values(groups.parameters), Values(groups.parameters)};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = groups.parameter[i];
    const double rstd = 1 / std::sqrt(variance[c] + eps);
    result.dx[i] = dy[i] * at_or(weight, c, 1) * rstd;
    result.dweight[c] += dy[i] * (x[i] - mean[c]) * rstd;
    result.dbias[c] += dy[i];
  }
  return result;
}

Normalized layer_norm(const Shape& shape, const Values& x, const Values& weight, const Values& bias,
                      double eps) {
  return normalize(sample_groups(shape), x, weight, bias, eps);
}

Gradients layer_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                              const Values& weight, double eps) {
  return normalize_backward(sample_groups(shape), dy, x, weight, eps);
}

Normalized group_norm(const Shape& shape, std::int64_t groups, const Values& x,
                      const Values& weight, const Values& bias, double eps) {
  return normalize(blocks_of_channels(shape, groups), x, weight, bias, eps);
}

Gradients group_norm_backward(const Shape& shape, std::int64_t groups, const Values& dy,
                              const Values& x, const Values& weight, double eps) {
  return normalize_backward(blocks_of_channels(shape, groups), dy, x, weight, eps);
}

Normalized rms_norm(const Shape& shape, const Values& x, const Values& weight, double eps) {
  const Groups groups = sample_groups(shape);
  Normalized result;
  result.y.resize(x.size());
  for (const auto& group : groups.elements) {
    const double square = mean_square(group, x), rstd = 1 / std::sqrt(square + eps);
    for (const std::size_t i : group) {
      result.y[i] = x[i] * rstd * at_or(weight, groups.parameter[i], 1);
    }
    result.variance.push_back(square);
    result.rstd.push_back(rstd);
  }
  return result;
}

// Through the mean square alone: d rstd / d square = -rstd^3 / 2, and d square / d x_i = 2 x_i / M.
Gradients rms_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                            const Values& weight, double eps) {
  const Groups groups = sample_groups(shape);
  Gradients result{Values(x.size()), Values(groups.parameters), {}};
  for (const auto& group : groups.elements) {
    const double rstd = 1 / std::sqrt(mean_square(group, x) + eps);
    const auto count = static_cast<double>(group.size());
    double d_square = 0;
    for (const std::size_t i : group) {
      d_square += dy[i] * at_or(weight, groups.parameter[i], 1) * x[i] * -0.5 * rstd * rstd * rstd;
    }
    for (const std::size_t i : group) {
      const std::size_t p = groups.parameter[i];
      result.dx[i] = dy[i] * at_or(weight, p, 1) * rstd + d_square * 2 * x[i] / count;
      result.dweight[p] += dy[i] * x[i] * rstd;
    }
  }
  return result;
}

Values local_response_norm(const Shape& shape, const Values& x,
                           const LocalResponseNormOptions& options) {
  Values y = lrn_bases(shape, x, options);
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * std::pow(y[i], -options.beta);
  return y;
}

Values local_response_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                                    const LocalResponseNormOptions& options) {
  const Values base = lrn_bases(shape, x, options);
  Values dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) dx[i] = dy[i] * std::pow(base[i], -options.beta);
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t s = 0; s < shape.s; ++s) {
      // y_c depends on x_j through base_c for every j in the window of c.
      for_each_in_window(shape, options, [&](std::int64_t c, std::int64_t j) {
        const std::size_t i_c = index_of(shape, n, c, s), i_j = index_of(shape, n, j, s);
        dx[i_j] -= dy[i_c] * x[i_c] * options.beta * std::pow(base[i_c], -options.beta - 1) * 2 *
                   options.alpha * x[i_j];
      });
    }
  }
  return dx;
}

}  // namespace evenkeel::reference
