#include "src/passes/rows.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "src/base/cache.h"
#include "src/base/check.h"
#include "src/base/parallel.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/kernels/extended.h"
#include "src/passes/long_rows.h"

namespace evenkeel {
namespace {

// The kernels take several rows at a time: tasks begin at multiples of so many samples.
std::int64_t unit_of(std::int64_t features) { return features <= 128 ? 16 : 4; }

// Calls f(first, count) for all samples, some at a time. A row does not depend on the others, so
// each thread has its equal share of them, and takes about 64 KB of floats at a time.
template <class F>
void for_each_samples(std::int64_t samples, std::int64_t features, const F& f) {
  constexpr std::int64_t kShare = 4096, kValues = 16384;
  const std::int64_t unit =
      std::min(unit_of(features), std::max<std::int64_t>(1, kShare / features));
  const std::int64_t units = ceil_div(samples, unit);
  const std::int64_t most = std::max(unit, kValues / features / unit * unit);
  const auto take_range = [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t last = std::min(samples, end * unit);
    for (std::int64_t i = begin * unit; i < last; i += most) f(i, std::min(most, last - i));
  };
  parallel_ranges(units, threads_for(units, samples * features), take_range);
}

// The samples of a backward's tasks, each of which has a dweight and a dbias of its own that must
// be cleared and added up. So there are few: one for each of 64 threads, a number that most numbers
// of threads divide. They have about 8 samples at least, and 256 at most, which bounds the length
// of a sum in P.
struct Tasks {
  std::int64_t samples, unit, count;

  Tasks(std::int64_t n, std::int64_t features) : samples(n), unit(unit_of(features)) {
    constexpr std::int64_t kThreads = 64, kLeast = 8, kMost = 256;
    const std::int64_t most = ceil_div(ceil_div(samples, kMost), kThreads) * kThreads;
    count = std::min(std::clamp<std::int64_t>(samples / kLeast, 1, std::max(kThreads, most)),
                     ceil_div(samples, unit));
  }
  std::int64_t begin(std::int64_t task) const {
    return std::min(samples, ceil_div(samples, unit) * task / count * unit);
  }
  std::int64_t size(std::int64_t task) const { return begin(task + 1) - begin(task); }
};

// What stands for an absent weight, so that the kernels have no variant for it: `size` ones.
template <class P>
const P* ones(std::int64_t size) {
  thread_local std::vector<P> values;
  if (std::ssize(values) < size) values.assign(static_cast<std::size_t>(size), P{1});
  return values.data();
}
// And for an absent bias. It is -0, which leaves every value as it is when it is added, -0 too.
template <class P>
const P* negative_zeros(std::int64_t size) {
  thread_local std::vector<P> values;
  if (std::ssize(values) < size) values.assign(static_cast<std::size_t>(size), -P{0});
  return values.data();
}

// Values of a line of the cache.
template <class P>
inline constexpr auto kLineValues = static_cast<std::int64_t>(64 / sizeof(P));

// What each task adds to dweight or dbias: `features` values a task.
template <class T, Scratch purpose>
class TaskGradients {
 public:
  using P = Wide<T>;
  // Nothing is kept of a gradient that is not wanted.
  TaskGradients(std::span<P> gradient, std::int64_t tasks)
      : gradient_(gradient),
        tasks_(tasks),
        rows_(gradient.empty() ? nullptr : scratch<P, purpose>(tasks * features())) {}

  // A task's row, set to 0.
  P* start(std::int64_t task) const {
    if (!rows_) return nullptr;
    P* row = rows_ + task * features();
    std::fill_n(row, features(), P{0});
    return row;
  }

  // Lines of features: what threads share when the rows are added up.
  std::int64_t lines() const { return ceil_div(features(), kLineValues<P>); }
  // Sets some lines of the gradient to the sum of the rows, in the order of the tasks. Returns
  // whether all of it is finite. So many are taken at a time that their sums stay in L1 while the
  // rows pass by.
  bool add_up(std::int64_t first, std::int64_t last) const {
    constexpr std::int64_t kMost = kernels::kMaxAddUp;
    const std::int64_t end = std::min(last * kLineValues<P>, features());
    bool finite = true;
    for (std::int64_t begin = first * kLineValues<P>; begin < end; begin += kMost) {
      finite &= kernels::rows_backward<T>().add_up(rows_ + begin, tasks_, features(),
                                                   std::min(kMost, end - begin),
                                                   gradient_.data() + begin);
    }
    return finite;
  }

 private:
  std::int64_t features() const { return std::ssize(gradient_); }

  std::span<P> gradient_;
  std::int64_t tasks_;
  P* rows_;
};

}  // namespace

template <class T>
void forward_rows(const kernels::RowsForward<T>& args, std::int64_t samples,
                  std::int64_t features) {
  using P = Wide<T>;
  const auto& kernel = kernels::rows_forward<T>();
  const std::int64_t tensors = 2 + (args.residual ? 1 : 0) + (args.sum ? 1 : 0);
  kernels::RowsForward<T> all = args;
  if (!all.weight) all.weight = ones<P>(features);
  if (!all.bias) all.bias = negative_zeros<P>(features);
  all.keeps_sum = args.sum != nullptr;
  all.non_temporal =
      exceeds_cache(tensors * samples * features * static_cast<std::int64_t>(sizeof(T)));
  if (all.groups == 1 && are_long_rows(samples, features) && (!all.residual || all.sum)) {
    forward_long_rows(all, samples, features);
    return;
  }
  for_each_samples(samples, features, [&](std::int64_t sample, std::int64_t count) {
    const std::int64_t at = sample * features, row = sample * all.groups;
    kernels::RowsForward<T> of_task = all;
    of_task.x += at;
    of_task.y += at;
    of_task.residual = at_or_null(all.residual, at);
    of_task.sum = at_or_null(all.sum, at);
    if (all.residual && !all.sum) {
      of_task.sum = scratch<T, Scratch::row_sum>(std::max(features, kernels::kRowsRoom));
    }
    of_task.mean = at_or_null(all.mean, row);
    of_task.rstd = at_or_null(all.rstd, row);
    kernel.forward(of_task, count * all.groups, features / all.groups);
  });
}

template <class T>
void backward_rows(const kernels::RowsBackward<T>& args, std::int64_t samples,
                   std::int64_t features, std::span<Wide<T>> dweight, std::span<Wide<T>> dbias) {
  if (dweight.empty() && dbias.empty() && !args.dx) return;
  const auto& kernel = kernels::rows_backward<T>();
  kernels::RowsBackward<T> all = args;
  if (!all.weight) all.weight = ones<Wide<T>>(features);
  all.non_temporal = exceeds_cache((args.dsum ? 4 : 3) * samples * features *
                                   static_cast<std::int64_t>(sizeof(T)));
  if (all.groups == 1 && are_long_rows(samples, features) &&
      backward_long_rows(all, samples, features, dweight, dbias)) {
    return;
  }
  const Tasks tasks(samples, features);
  const TaskGradients<T, Scratch::dweight> dweights(dweight, tasks.count);
  const TaskGradients<T, Scratch::dbias> dbiases(dbias, tasks.count);
  const int threads = threads_for(tasks.count, samples * features);
  parallel_for(tasks.count, threads, [&](std::int64_t task) {
    const std::int64_t sample = tasks.begin(task);
    const std::int64_t at = sample * features, row = sample * all.groups;
    kernels::RowsBackward<T> of_task = all;
    of_task.dy += at;
    of_task.x += at;
    of_task.mean = at_or_null(all.mean, row);
    of_task.rstd += row;
    of_task.dsum = at_or_null(all.dsum, at);
    of_task.dx = at_or_null(all.dx, at);
    of_task.dweight = dweights.start(task);
    of_task.dbias = dbiases.start(task);
    kernel.backward(of_task, tasks.size(task) * all.groups, features / all.groups);
  });
  const std::int64_t weight_lines = dweights.lines(), lines = weight_lines + dbiases.lines();
  std::atomic<bool> finite = true;
  const auto add_up = [&](std::int64_t begin, std::int64_t end) {
    const bool of_weight = dweights.add_up(begin, std::min(end, weight_lines));
    const bool of_bias = dbiases.add_up(std::max(begin - weight_lines, std::int64_t{0}),
                                        std::max(end - weight_lines, std::int64_t{0}));
    if (!of_weight || !of_bias) finite = false;
  };
  parallel_ranges(lines, threads, add_up);
  // Sums of a task may overflow where those of all do not. If dx took its place, dy is gone.
  if (!finite && args.dx != args.dy) {
    kernels::ExtendedRange<T>::row_parameters(all, samples * all.groups, features / all.groups,
                                              data_or_null(dweight), data_or_null(dbias));
  }
}

#define EVENKEEL_INSTANTIATE(T)                                                            \
  template void forward_rows(const kernels::RowsForward<T>&, std::int64_t, std::int64_t);  \
  template void backward_rows(const kernels::RowsBackward<T>&, std::int64_t, std::int64_t, \
                              std::span<Wide<T>>, std::span<Wide<T>>);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
