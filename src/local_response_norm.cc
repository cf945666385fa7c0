#include "evenkeel/local_response_norm.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "src/base/cache.h"
#include "src/base/check.h"
#include "src/base/types.h"
#include "src/passes/channels.h"
#include "src/passes/windows.h"

namespace evenkeel {
namespace {

void check_options(const Check& check, const LocalResponseNormOptions& options) {
  check.require(options.behind >= 0 && options.ahead >= 0,
                "the window reaches " + std::to_string(options.behind) + " behind and " +
                    std::to_string(options.ahead) + " ahead, expected none to be negative");
  check.require(
      std::isfinite(options.alpha) && std::isfinite(options.beta) && std::isfinite(options.k),
      "alpha is " + exactly(options.alpha) + ", beta " + exactly(options.beta) + ", k " +
          exactly(options.k) + ", expected finite numbers");
}

void check_at_least(std::int64_t least, const char* name, std::int64_t value) {
  Check("local_response_norm")
      .require(value >= least, std::string(name) + " is " + std::to_string(value) +
                                   ", expected at least " + std::to_string(least));
}

// With alpha or beta 0 no other value matters: the factor of x, and of dy.
std::optional<double> constant_factor(const LocalResponseNormOptions& options) {
  if (options.alpha != 0 && options.beta != 0) return std::nullopt;
  return std::pow(options.k, -options.beta);
}
template <class T>
void multiply(const Shape& shape, const T* x, double factor, T* y) {
  const ChannelAffine<T> affine(0, factor, 1, -0.0);
  Planes<T>(1, 1, shape.size())
      .forward({.x = x,
                .residual = nullptr,
                .y = y,
                .activation = Activation::none,
                .non_temporal = exceeds_cache(2 * bytes_of<T>(shape))},
               &affine);
}

kernels::Window window_of(const LocalResponseNormOptions& options, std::int64_t channels) {
  return {std::min(options.behind, channels - 1), std::min(options.ahead, channels - 1),
          options.alpha, options.beta, options.k};
}

}  // namespace

LocalResponseNormOptions LocalResponseNormOptions::paper(std::int64_t n, double alpha, double beta,
                                                         double k) {
  check_at_least(1, "n", n);
  return {n / 2, n / 2, alpha, beta, k};
}
LocalResponseNormOptions LocalResponseNormOptions::torch(std::int64_t size, double alpha,
                                                         double beta, double k) {
  check_at_least(1, "size", size);
  return {size / 2, (size - 1) / 2, alpha / static_cast<double>(size), beta, k};
}
LocalResponseNormOptions LocalResponseNormOptions::onnx(std::int64_t size, double alpha,
                                                        double beta, double bias) {
  check_at_least(1, "size", size);
  return {(size - 1) / 2, size / 2, alpha / static_cast<double>(size), beta, bias};
}
LocalResponseNormOptions LocalResponseNormOptions::cudnn(std::int64_t n, double alpha, double beta,
                                                         double k) {
  check_at_least(1, "n", n);
  return onnx(n, alpha, beta, k);
}
LocalResponseNormOptions LocalResponseNormOptions::caffe(std::int64_t local_size, double alpha,
                                                         double beta, double k) {
  check_at_least(1, "local_size", local_size);
  Check("local_response_norm")
      .require(local_size % 2 == 1, "local_size is " + std::to_string(local_size) +
                                        ", expected an odd number, as in Caffe");
  return torch(local_size, alpha, beta, k);
}
LocalResponseNormOptions LocalResponseNormOptions::tensorflow(std::int64_t depth_radius,
                                                              double bias, double alpha,
                                                              double beta) {
  check_at_least(0, "depth_radius", depth_radius);
  return {depth_radius, depth_radius, alpha, beta, bias};
}

template <class T>
void local_response_norm_forward(const LocalResponseNormForward<T>& args,
                                 const LocalResponseNormOptions& options) {
  Check check("local_response_norm");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape("y", args.y, shape, {"x"});
  check_options(check, options);
  if (shape.size() == 0) return;
  if (const auto factor = constant_factor(options)) {
    multiply(shape, args.x.data, *factor, args.y.data);
    return;
  }
  forward_windows(shape, args.x.data, args.y.data, window_of(options, shape.c));
}

template <class T>
void local_response_norm_backward(const LocalResponseNormBackward<T>& args,
                                  const LocalResponseNormOptions& options) {
  Check check("local_response_norm_backward");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape("dy", args.dy, shape);
  check.same_shape("dx", args.dx, shape, {"dy"});
  check_options(check, options);
  if (shape.size() == 0) return;
  if (const auto factor = constant_factor(options)) {
    multiply(shape, args.dy.data, *factor, args.dx.data);
    return;
  }
  backward_windows(shape, args.dy.data, args.x.data, args.dx.data, window_of(options, shape.c));
}

#define EVENKEEL_INSTANTIATE(T)                                                   \
  template void local_response_norm_forward(const LocalResponseNormForward<T>&,   \
                                            const LocalResponseNormOptions&);     \
  template void local_response_norm_backward(const LocalResponseNormBackward<T>&, \
                                             const LocalResponseNormOptions&);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
