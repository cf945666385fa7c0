#include "evenkeel/layer_norm.h"

#include <algorithm>

#include "src/check.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

// Rows of a task: about 64 KB of floats, and for the backward at least 16 rows, so that the partial
// dweight and dbias stay small beside the data, and at most 256, which bounds the length of a sum
// in T.
constexpr std::int64_t kTaskElements = 16384;

std::int64_t forward_rows(std::int64_t features) {
  return std::max<std::int64_t>(1, kTaskElements / features);
}
std::int64_t backward_rows(std::int64_t features) {
  return std::clamp<std::int64_t>(kTaskElements / features, 16, 256);
}

template <class P>
const P* data_or_null(std::span<const P> values) {
  return values.empty() ? nullptr : values.data();
}

// What each task adds to dweight or dbias: a row of `features` values a task. The rows are added in
// double, in the order of the tasks. Does nothing if the gradient is not wanted.
template <class P, int slot>
class Parts {
 public:
  Parts(std::span<P> gradient, std::int64_t tasks)
      : gradient_(gradient),
        features_(std::ssize(gradient)),
        tasks_(tasks),
        rows_(gradient.empty() ? nullptr : scratch<P, slot>(tasks * features_)) {}

  // A task's row, set to 0; null if not wanted.
  P* start(std::int64_t task) const {
    if (!rows_) return nullptr;
    P* row = rows_ + task * features_;
    std::fill_n(row, features_, P{0});
    return row;
  }

  void finish() const {
    // A block of columns at a time: its sums stay in L1 while the rows stream by.
    constexpr std::int64_t kBlock = 512;
    const std::int64_t blocks = ceil_div(features_, kBlock);
    parallel_for(blocks, threads_for(blocks, tasks_ * features_), [&](std::int64_t block, int) {
      const std::int64_t begin = block * kBlock, width = std::min(kBlock, features_ - begin);
      double sum[kBlock] = {};
      for (std::int64_t task = 0; task < tasks_; ++task) {
        const P* row = rows_ + task * features_ + begin;
        for (std::int64_t i = 0; i < width; ++i) sum[i] += static_cast<double>(row[i]);
      }
      for (std::int64_t i = 0; i < width; ++i) {
        gradient_[static_cast<std::size_t>(begin + i)] = static_cast<P>(sum[i]);
      }
    });
  }

 private:
  std::span<P> gradient_;
  std::int64_t features_, tasks_;
  P* rows_;
};

}  // namespace

template <class T>
void layer_norm_forward(const LayerNormForward<T>& args, double eps) {
  const Check check("layer_norm");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  const std::int64_t samples = shape.n, features = shape.c * shape.s;
  check.same_shape("y", args.y, shape);
  check.size_or_absent("weight", args.weight, features, "features");
  check.size_or_absent("bias", args.bias, features, "features");
  check.size_or_absent("mean", args.mean, samples, "samples");
  check.size_or_absent("rstd", args.rstd, samples, "samples");
  check.eps(eps);
  if (shape.size() == 0) return;

  const auto& kernel = kernels::rows<T>();
  const std::int64_t task_rows = forward_rows(features);
  const std::int64_t tasks = ceil_div(samples, task_rows);
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task, int) {
    const std::int64_t row = task * task_rows, at = row * features;
    kernel.forward(args.x.data + at, args.y.data + at, std::min(task_rows, samples - row), features,
                   data_or_null(args.weight), data_or_null(args.bias),
                   args.mean.empty() ? nullptr : &args.mean[static_cast<std::size_t>(row)],
                   args.rstd.empty() ? nullptr : &args.rstd[static_cast<std::size_t>(row)], eps);
  });
}

template <class T>
void layer_norm_backward(const LayerNormBackward<T>& args) {
  using P = Stat<T>;
  const Check check("layer_norm_backward");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  const std::int64_t samples = shape.n, features = shape.c * shape.s;
  check.same_shape("dy", args.dy, shape);
  check.size_or_absent("weight", args.weight, features, "features");
  check.size("mean", args.mean, samples, "samples");
  check.size("rstd", args.rstd, samples, "samples");
  check.same_shape_or_absent("dx", args.dx, shape);
  check.size_or_absent("dweight", args.dweight, features, "features");
  check.size_or_absent("dbias", args.dbias, features, "features");
  if (shape.size() == 0) {
    std::ranges::fill(args.dweight, P{0});
    std::ranges::fill(args.dbias, P{0});
    return;
  }

  const auto& kernel = kernels::rows<T>();
  const std::int64_t task_rows = backward_rows(features);
  const std::int64_t tasks = ceil_div(samples, task_rows);
  const Parts<P, 0> dweight(args.dweight, tasks);
  const Parts<P, 1> dbias(args.dbias, tasks);
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task, int) {
    const std::int64_t row = task * task_rows, at = row * features;
    kernel.backward(args.dy.data + at, args.x.data + at, args.dx.data ? args.dx.data + at : nullptr,
                    std::min(task_rows, samples - row), features, data_or_null(args.weight),
                    &args.mean[static_cast<std::size_t>(row)],
                    &args.rstd[static_cast<std::size_t>(row)], dweight.start(task),
                    dbias.start(task));
  });
  dweight.finish();
  dbias.finish();
}

#define EVENKEEL_INSTANTIATE(T)                                         \
  template void layer_norm_forward(const LayerNormForward<T>&, double); \
  template void layer_norm_backward(const LayerNormBackward<T>&);
EVENKEEL_INSTANTIATE(float)
EVENKEEL_INSTANTIATE(double)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
