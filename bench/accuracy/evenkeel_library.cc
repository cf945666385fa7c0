#include "bench/accuracy/libraries.h"
#include "evenkeel/evenkeel.h"

namespace evenkeel::accuracy {
namespace {

template <class T>
Outputs run(const Problem& p) {
  using P = Wide<T>;
  const auto x = narrow<T>(p.x), dy = narrow<T>(p.dy);
  const auto weight = narrow<P>(p.weight), bias = narrow<P>(p.bias);
  std::vector<T> y(x.size()), dx(x.size());
  const TensorView<const T> x_view(x.data(), p.shape), dy_view(dy.data(), p.shape);
  const TensorView<T> y_view(y.data(), p.shape), dx_view(dx.data(), p.shape);
  const std::int64_t groups = p.operation == Operation::batch_norm ? p.shape.c : p.shape.n;
  std::vector<double> mean(static_cast<std::size_t>(groups)), rstd(mean.size());
  std::vector<P> dweight(weight.size());
  switch (p.operation) {
    case Operation::batch_norm:
      batch_norm_forward<T>(
          {.x = x_view, .weight = weight, .bias = bias, .mean = mean, .rstd = rstd, .y = y_view},
          {.eps = kEps});
      batch_norm_backward<T>({.dy = dy_view,
                              .x = x_view,
                              .weight = weight,
                              .mean = mean,
                              .rstd = rstd,
                              .dx = dx_view,
                              .dweight = dweight});
      break;
    case Operation::layer_norm:
      layer_norm_forward<T>(
          {.x = x_view, .weight = weight, .bias = bias, .mean = mean, .rstd = rstd, .y = y_view},
          {.eps = kEps});
      layer_norm_backward<T>({.dy = dy_view,
                              .x = x_view,
                              .weight = weight,
                              .mean = mean,
                              .rstd = rstd,
                              .dx = dx_view,
                              .dweight = dweight});
      break;
    default: {
      const auto options = LocalResponseNormOptions::torch(kWindow, kAlpha, kBeta, kK);
      local_response_norm_forward<T>({.x = x_view, .y = y_view}, options);
      local_response_norm_backward<T>({.dy = dy_view, .x = x_view, .dx = dx_view}, options);
    }
  }
  return {widen(y), widen(dx), widen(dweight)};
}

}  // namespace

std::optional<Outputs> run_evenkeel(const Problem& problem) {
  return with_type(problem.type, [&](auto t) { return run<decltype(t)>(problem); });
}

}  // namespace evenkeel::accuracy
