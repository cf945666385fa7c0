#include "evenkeel/local_response_norm.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "src/check.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

// Positions of a channels-first tile: 256 bytes of each channel, so that a tile of 256 channels and
// its buffers stay in L2.
constexpr std::int64_t kTileCols = 64;
// Values of a channels-last task: rows are short, a task takes many.
constexpr std::int64_t kTaskElements = 16384;

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

// Calls run(tile, count, tile_stride, offset, thread) for every task of the activation.
template <class BufferSize, class Run>
void for_each_task(const Shape& shape, const BufferSize& buffer_size, const Run& run) {
  // Without several positions both layouts are the same memory.
  if (shape.layout == Layout::channels_last || shape.s == 1) {
    const kernels::Tile tile{1, shape.c, shape.c, 1};
    const std::int64_t rows = shape.n * shape.s;
    const std::int64_t task_rows = std::max<std::int64_t>(1, kTaskElements / shape.c);
    const std::int64_t tasks = ceil_div(rows, task_rows);
    const int threads = threads_for(tasks, shape.size());
    const auto buffers = buffer_size(tile, threads);
    parallel_for(tasks, threads, [&](std::int64_t task, int thread) {
      const std::int64_t row = task * task_rows;
      run(tile, std::min(task_rows, rows - row), shape.c, row * shape.c, buffers(thread));
    });
    return;
  }
  const std::int64_t tiles = ceil_div(shape.s, kTileCols);
  const std::int64_t tasks = shape.n * tiles;
  const int threads = threads_for(tasks, shape.size());
  const std::int64_t widest = std::min(kTileCols, shape.s);
  const auto buffers = buffer_size(kernels::Tile{shape.c, widest, shape.s, widest}, threads);
  parallel_for(tasks, threads, [&](std::int64_t task, int thread) {
    const std::int64_t begin = task % tiles * kTileCols;
    const std::int64_t cols = std::min(kTileCols, shape.s - begin);
    run(kernels::Tile{shape.c, cols, shape.s, cols}, 1, 0, task / tiles * shape.c * shape.s + begin,
        buffers(thread));
  });
}

kernels::Window window_of(const LocalResponseNormOptions& options, std::int64_t channels) {
  return {std::min(options.behind, channels - 1), std::min(options.ahead, channels - 1),
          options.alpha, options.beta, options.k};
}

// The calling thread's scratch, shared out to `threads` threads: size values each.
template <class T>
auto share_scratch(std::int64_t size, int threads) {
  T* buffers = scratch<T>(size * threads);
  return [buffers, size](int thread) { return buffers + thread * size; };
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
  for_each_task(
      shape,
      [&](const kernels::Tile& tile, int threads) {
        return share_scratch<T>(kernels::forward_buffer(tile, window), threads);
      },
      [&](const kernels::Tile& tile, std::int64_t count, std::int64_t stride, std::int64_t at,
          T* buffer) {
        kernel.forward(args.x.data + at, args.y.data + at, tile, count, stride, window, buffer);
      });
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
  for_each_task(
      shape,
      [&](const kernels::Tile& tile, int threads) {
        return share_scratch<T>(kernels::backward_buffer(tile, window), threads);
      },
      [&](const kernels::Tile& tile, std::int64_t count, std::int64_t stride, std::int64_t at,
          T* buffer) {
        kernel.backward(args.dy.data + at, args.x.data + at, args.dx.data + at, tile, count, stride,
                        window, buffer);
      });
}

#define EVENKEEL_INSTANTIATE(T)                                                   \
  template void local_response_norm_forward(const LocalResponseNormForward<T>&,   \
                                            const LocalResponseNormOptions&);     \
  template void local_response_norm_backward(const LocalResponseNormBackward<T>&, \
                                             const LocalResponseNormOptions&);
EVENKEEL_INSTANTIATE(float)
EVENKEEL_INSTANTIATE(double)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
