#include "evenkeel/layer_norm.h"

#include <algorithm>

#include "src/check.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

// Rows of a task: about 64 KB of floats.
constexpr std::int64_t kTaskElements = 16384;

std::int64_t forward_rows(std::int64_t features) {
  return std::max<std::int64_t>(1, kTaskElements / features);
}
// For the backward also a 32nd of the samples, since each task has a dweight and a dbias that must
// be cleared and added up: with 16 rows a task that took a tenth of the time. At most 256, which
// bounds the length of a sum in P.
std::int64_t backward_rows(std::int64_t samples, std::int64_t features) {
  return std::clamp<std::int64_t>(std::max(kTaskElements / features, samples / 32), 16, 256);
}

// The place `offset` elements on in an array that may be absent.
template <class P>
P* at_or_null(P* data, std::int64_t offset) {
  return data ? data + offset : nullptr;
}

// The same in parameters; an empty span is absent wherever it points.
template <class P>
P* at_or_null(std::span<P> values, std::int64_t offset = 0) {
  return values.empty() ? nullptr : values.data() + offset;
}

// What each task adds to dweight or dbias: a row of `features` values a task.
template <class P, int slot>
class Parts {
 public:
  // With no features nothing is kept.
  Parts(std::int64_t features, std::int64_t tasks)
      : features_(features),
        tasks_(tasks),
        rows_(features == 0 ? nullptr : scratch<P, slot>(tasks * features)) {}

  // A task's row, set to 0.
  P* start(std::int64_t task) const {
    if (!rows_) return nullptr;
    P* row = rows_ + task * features_;
    std::fill_n(row, features_, P{0});
    return row;
  }

  // The sum of the rows in the order of the tasks; nothing if it is not wanted.
  template <class T>
  void add_up(std::span<P> gradient) const {
    if (gradient.empty()) return;
    // A block of columns at a time: its sums stay in L1 while the rows stream by.
    constexpr std::int64_t kBlock = kernels::kMaxAddUp;
    const std::int64_t blocks = ceil_div(features_, kBlock);
    const auto& kernel = kernels::rows<T>();
    parallel_for(blocks, threads_for(blocks, tasks_ * features_), [&](std::int64_t block, int) {
      const std::int64_t begin = block * kBlock;
      kernel.add_up(rows_ + begin, tasks_, features_, std::min(kBlock, features_ - begin),
                    gradient.data() + begin);
    });
  }

 private:
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
  check.same_shape_or_absent("residual", args.residual, shape);
  check.same_shape_or_absent("sum", args.sum, shape);
  check.require(args.sum.absent() || !args.residual.absent() || shape.size() == 0,
                "sum is given without a residual, expected both or no sum");
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
  const std::int64_t tensors = 2 + (args.residual.data ? 1 : 0) + (args.sum.data ? 1 : 0);
  const bool streams = exceeds_cache(tensors * bytes_of<T>(shape));
  const auto run = [&](std::int64_t task) {
    const std::int64_t row = task * task_rows, at = row * features;
    const bool needs_room = args.residual.data && !args.sum.data;
    kernel.forward({.x = args.x.data + at,
                    .residual = at_or_null(args.residual.data, at),
                    .sum = needs_room ? scratch<T, 2>(std::max(features, kernels::kRowsRoom))
                                      : at_or_null(args.sum.data, at),
                    .y = args.y.data + at,
                    .weight = at_or_null(args.weight),
                    .bias = at_or_null(args.bias),
                    .mean = at_or_null(args.mean, row),
                    .rstd = at_or_null(args.rstd, row),
                    .eps = eps,
                    .keeps_sum = !needs_room,
                    .streams = streams},
                   std::min(task_rows, samples - row), features);
  };
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task, int) { run(task); });
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
  check.same_shape_or_absent("dsum", args.dsum, shape);
  check.same_shape_or_absent("dx", args.dx, shape);
  check.size_or_absent("dweight", args.dweight, features, "features");
  check.size_or_absent("dbias", args.dbias, features, "features");
  if (shape.size() == 0) {
    std::ranges::fill(args.dweight, P{0});
    std::ranges::fill(args.dbias, P{0});
    return;
  }

  const auto& kernel = kernels::rows<T>();
  const std::int64_t task_rows = backward_rows(samples, features);
  const std::int64_t tasks = ceil_div(samples, task_rows);
  const bool parameters = !args.dweight.empty() || !args.dbias.empty();
  if (!parameters && args.dx.absent()) return;
  const Parts<P, 0> dweight(parameters ? features : 0, tasks);
  const Parts<P, 1> dbias(parameters ? features : 0, tasks);
  const bool streams = exceeds_cache((args.dsum.data ? 4 : 3) * bytes_of<T>(shape));
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task, int) {
    const std::int64_t row = task * task_rows, at = row * features;
    kernel.backward({.dy = args.dy.data + at,
                     .x = args.x.data + at,
                     .dsum = at_or_null(args.dsum.data, at),
                     .dx = at_or_null(args.dx.data, at),
                     .weight = at_or_null(args.weight),
                     .mean = args.mean.data() + row,
                     .rstd = args.rstd.data() + row,
                     .dweight = dweight.start(task),
                     .dbias = dbias.start(task),
                     .streams = streams},
                    std::min(task_rows, samples - row), features);
  });
  dweight.template add_up<T>(args.dweight);
  dbias.template add_up<T>(args.dbias);
}

#define EVENKEEL_INSTANTIATE(T)                                         \
  template void layer_norm_forward(const LayerNormForward<T>&, double); \
  template void layer_norm_backward(const LayerNormBackward<T>&);
EVENKEEL_INSTANTIATE(float)
EVENKEEL_INSTANTIATE(double)
EVENKEEL_INSTANTIATE(BFloat16)
EVENKEEL_INSTANTIATE(Float16)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
