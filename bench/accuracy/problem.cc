#include "bench/accuracy/problem.h"

#include <cmath>
#include <random>

namespace evenkeel::accuracy {
namespace {

Values random_values(Type type, std::int64_t size, double mean, double std, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(mean, std);
  Values values(static_cast<std::size_t>(size));
  with_type(type, [&](auto t) {
    for (double& v : values) v = widen(narrow<decltype(t)>(normal(engine)));
  });
  return values;
}

Shape shape_of(Operation operation) {
  switch (operation) {
    case Operation::batch_norm:
      return {32, 16, 28 * 28};
    case Operation::layer_norm:
      return {512, 768};
    default:
      return {4, 32, 27 * 27};
  }
}

// Of each group the mean and rstd, as a library stores them beside activations of the type.
struct Stored {
  Values mean, rstd;
};
Stored stored(const Problem& problem, const reference::Normalized& normalized) {
  return with_type(problem.type, [&](auto t) {
    using P = Wide<decltype(t)>;
    return Stored{widen(narrow<P>(normalized.mean)), widen(narrow<P>(normalized.rstd))};
  });
}

}  // namespace

Problem make_problem(Operation operation, Type type, double mean) {
  Problem problem{operation, type, mean, shape_of(operation), {}, {}, {}, {}};
  problem.x = random_values(type, problem.shape.size(), mean, 1, 1);
  problem.dy = random_values(type, problem.shape.size(), 0, 1, 2);
  if (operation != Operation::local_response_norm) {
    const std::int64_t parameters =
        operation == Operation::batch_norm ? problem.shape.c : problem.shape.c * problem.shape.s;
    problem.weight = random_values(type, parameters, 1, 0.5, 3);
    problem.bias = random_values(type, parameters, 0, 0.5, 4);
  }
  return problem;
}

Outputs exact(const Problem& p) {
  const auto outputs = [](const reference::Normalized& forward, const reference::Gradients& back) {
    return Outputs{forward.y, back.dx, back.dweight};
  };
  switch (p.operation) {
    case Operation::batch_norm:
      return outputs(reference::batch_norm(p.shape, p.x, p.weight, p.bias, kEps),
                     reference::batch_norm_backward(p.shape, p.dy, p.x, p.weight, kEps));
    case Operation::layer_norm:
      return outputs(reference::layer_norm(p.shape, p.x, p.weight, p.bias, kEps),
                     reference::layer_norm_backward(p.shape, p.dy, p.x, p.weight, kEps));
    default: {
      const auto options = LocalResponseNormOptions::torch(kWindow, kAlpha, kBeta, kK);
      return {reference::local_response_norm(p.shape, p.x, options),
              reference::local_response_norm_backward(p.shape, p.dy, p.x, options),
              {}};
    }
  }
}

Outputs exact_from_stored_statistics(const Problem& p) {
  if (p.operation == Operation::local_response_norm) return {};
  const bool batch = p.operation == Operation::batch_norm;
  const auto channel = static_cast<std::size_t>(p.shape.s),
             channels = static_cast<std::size_t>(p.shape.c);
  const std::size_t features = p.weight.size();
  const auto group = [&](std::size_t i) { return batch ? i / channel % channels : i / features; };
  const auto parameter = [&](std::size_t i) { return batch ? group(i) : i % features; };
  const Stored s = stored(p, batch ? reference::batch_norm(p.shape, p.x, {}, {}, kEps)
                                   : reference::layer_norm(p.shape, p.x, {}, {}, kEps));
  Values sum(s.mean.size()), sum_x(sum.size());
  Outputs out{{}, Values(p.x.size()), Values(features)};
  const auto x_hat = [&](std::size_t i) { return (p.x[i] - s.mean[group(i)]) * s.rstd[group(i)]; };
  for (std::size_t i = 0; i < p.x.size(); ++i) {
    const double g = p.dy[i] * p.weight[parameter(i)];
    sum[group(i)] += g;
    sum_x[group(i)] += g * x_hat(i);
    out.dweight[parameter(i)] += p.dy[i] * x_hat(i);
  }
  const double count = static_cast<double>(p.x.size()) / static_cast<double>(sum.size());
  with_type(p.type, [&](auto t) {
    using T = decltype(t);
    for (std::size_t i = 0; i < p.x.size(); ++i) {
      const std::size_t k = group(i);
      out.dx[i] = widen(narrow<T>(s.rstd[k] * (p.dy[i] * p.weight[parameter(i)] - sum[k] / count -
                                               x_hat(i) * sum_x[k] / count)));
    }
    for (double& v : out.dweight) v = widen(narrow<Wide<T>>(v));
  });
  return out;
}

}  // namespace evenkeel::accuracy
