#include "evenkeel/local_response_norm.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "src/check.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

// Positions of a channels-first task: for a window of 5 the kernels' buffers, 4 rows of floats
// forward and 10 backward, stay in L1 beside the rows of x.
constexpr std::int64_t kTileCols = 512;
// Values of a channels-last block: squares, terms and operands together fill a half of L1 at most.
constexpr std::int64_t kBlockValues = 512;

void check_options(const Check& check, const LocalResponseNormOptions& options) {
  check.require(options.behind >= 0 && options.ahead >= 0,
                "the window reaches " + std::to_string(options.behind) + " behind and " +
                    std::to_string(options.ahead) + " ahead, expected none to be negative");
  check.require(
      std::isfinite(options.alpha) && std::isfinite(options.beta) && std::isfinite(options.k),
      "alpha is " + std::to_string(options.alpha) + ", beta " + std::to_string(options.beta) +
          ", k " + std::to_string(options.k) + ", expected finite numbers");
}

void check_at_least(std::int64_t least, const char* name, std::int64_t value) {
  Check("local_response_norm")
      .require(value >= least, std::string(name) + " is " + std::to_string(value) +
                                   ", expected at least " + std::to_string(least));
}

// Without several positions both layouts are the same memory.
bool channels_along(const Shape& shape) {
  return shape.layout == Layout::channels_last || shape.s == 1;
}

// Calls run(block, offset) for every block of a channels-first activation.
template <class T, class Run>
void for_each_across(const Shape& shape, const Run& run) {
  const std::int64_t tiles = ceil_div(shape.s, kTileCols);
  const auto line = static_cast<std::int64_t>(64 / sizeof(T));
  const std::int64_t cols = ceil_div(ceil_div(shape.s, line), tiles) * line;  // equal, whole lines
  const std::int64_t tasks = shape.n * tiles;
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task, int) {
    const std::int64_t begin = task % tiles * cols;
    if (begin >= shape.s) return;
    run(typename kernels::Windows<T>::Across{shape.c, std::min(cols, shape.s - begin), shape.s},
        task / tiles * shape.c * shape.s + begin);
  });
}

// The same for channels-last.
template <class T, class Run>
void for_each_along(const Shape& shape, const Run& run) {
  const std::int64_t rows = shape.n * shape.s;
  const std::int64_t block = std::max<std::int64_t>(1, kBlockValues / shape.c);
  const std::int64_t tasks = ceil_div(rows, block);
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task, int) {
    const std::int64_t row = task * block;
    run(typename kernels::Windows<T>::Along{std::min(block, rows - row), shape.c}, row * shape.c);
  });
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
  const Check check("local_response_norm");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape("y", args.y, shape);
  check_options(check, options);
  if (shape.size() == 0) return;

  const auto& kernel = kernels::windows<T>();
  const auto window = window_of(options, shape.c);
  const bool streams = exceeds_cache(2 * bytes_of<T>(shape));
  if (channels_along(shape)) {
    for_each_along<T>(shape, [&](const auto& block, std::int64_t at) {
      kernel.forward_along(args.x.data + at, args.y.data + at, block, window,
                           scratch<Stat<T>>(block.forward_buffer(window)), streams);
    });
  } else {
    for_each_across<T>(shape, [&](const auto& block, std::int64_t at) {
      kernel.forward_across(args.x.data + at, args.y.data + at, block, window,
                            scratch<Stat<T>>(block.forward_buffer(window)), streams);
    });
  }
}

template <class T>
void local_response_norm_backward(const LocalResponseNormBackward<T>& args,
                                  const LocalResponseNormOptions& options) {
  const Check check("local_response_norm_backward");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape("dy", args.dy, shape);
  check.same_shape("dx", args.dx, shape);
  check_options(check, options);
  if (shape.size() == 0) return;

  const auto& kernel = kernels::windows<T>();
  const auto window = window_of(options, shape.c);
  const bool streams = exceeds_cache(3 * bytes_of<T>(shape));
  if (channels_along(shape)) {
    for_each_along<T>(shape, [&](const auto& block, std::int64_t at) {
      kernel.backward_along(args.dy.data + at, args.x.data + at, args.dx.data + at, block, window,
                            scratch<Stat<T>>(block.backward_buffer(window)), streams);
    });
  } else {
    for_each_across<T>(shape, [&](const auto& block, std::int64_t at) {
      kernel.backward_across(args.dy.data + at, args.x.data + at, args.dx.data + at, block, window,
                             scratch<Stat<T>>(block.backward_buffer(window)), streams);
    });
  }
}

#define EVENKEEL_INSTANTIATE(T)                                                   \
  template void local_response_norm_forward(const LocalResponseNormForward<T>&,   \
                                            const LocalResponseNormOptions&);     \
  template void local_response_norm_backward(const LocalResponseNormBackward<T>&, \
                                             const LocalResponseNormOptions&);
EVENKEEL_INSTANTIATE(float)
EVENKEEL_INSTANTIATE(double)
EVENKEEL_INSTANTIATE(BFloat16)
EVENKEEL_INSTANTIATE(Float16)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
