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

// sum[i] = the sum over parts of part[p * stride + i], in double, in the order of the parts.
template <class P>
void add_parts(const P* part, std::int64_t parts, std::int64_t stride, std::span<P> sum) {
  for (std::size_t i = 0; i < sum.size(); ++i) {
    double total = 0;
    for (std::int64_t p = 0; p < parts; ++p) {
      total += static_cast<double>(part[p * stride + static_cast<std::int64_t>(i)]);
    }
    sum[i] = static_cast<P>(total);
  }
}

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
  // A task's own dweight and dbias, one after the other.
  const std::int64_t stride = 2 * features;
  P* parts = scratch<P>(tasks * stride);
  parallel_for(tasks, threads_for(tasks, shape.size()), [&](std::int64_t task, int) {
    const std::int64_t row = task * task_rows, at = row * features;
    P* dweight = args.dweight.empty() ? nullptr : parts + task * stride;
    P* dbias = args.dbias.empty() ? nullptr : parts + task * stride + features;
    if (dweight) std::fill_n(dweight, features, P{0});
    if (dbias) std::fill_n(dbias, features, P{0});
    kernel.backward(args.dy.data + at, args.x.data + at, args.dx.data ? args.dx.data + at : nullptr,
                    std::min(task_rows, samples - row), features, data_or_null(args.weight),
                    &args.mean[static_cast<std::size_t>(row)],
                    &args.rstd[static_cast<std::size_t>(row)], dweight, dbias);
  });
  add_parts(parts, tasks, stride, args.dweight);
  add_parts(parts + features, tasks, stride, args.dbias);
}

#define EVENKEEL_INSTANTIATE(T)                                         \
  template void layer_norm_forward(const LayerNormForward<T>&, double); \
  template void layer_norm_backward(const LayerNormBackward<T>&);
EVENKEEL_INSTANTIATE(float)
EVENKEEL_INSTANTIATE(double)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
