// Threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cfenv>
#include <cstdint>
#include <exception>

#include "hwy/cache_control.h"

namespace evenkeel {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Below this many elements a thread, forking costs more than it saves: a fork and join takes some
// microseconds, as long as streaming about 64 KB.
inline constexpr std::int64_t kElementsPerThread = 16384;

// The threads that operations of the calling thread may use: OpenMP's setting, or 1 in a process
// whose threads fork() left behind.
int max_threads();

// Threads worth using for that many independent tasks over that many elements.
inline int threads_for(std::int64_t tasks, std::int64_t elements) {
  const std::int64_t useful = std::min(tasks, elements / kElementsPerThread);
  return static_cast<int>(std::clamp<std::int64_t>(useful, 1, max_threads()));
}

// Calls f(begin, end) for consecutive ranges of tasks, one a thread; some are empty if there are
// fewer tasks than threads. So that no result depends on the number of threads, partial sums, and
// what is computed again in a wider type, are of tasks that depend on the shape alone. The parallel
// regions of an operation have one number of threads: GNU's OpenMP ends the threads that a smaller
// region does not need, and starts new ones for the next.
template <class F>
void parallel_ranges(std::int64_t tasks, int threads, const F& f) {
  const auto range = [&](int thread) {
    f(tasks * thread / threads, tasks * (thread + 1) / threads);
    hwy::FlushStream();  // non-temporal stores become visible to other threads
  };
  if (threads == 1) {
    range(0);
    return;
  }
  // The threads take over the caller's rounding and flushing of subnormal numbers, on which results
  // would else depend by which thread computed them.
  std::fenv_t of_caller;
  std::fegetenv(&of_caller);
  std::exception_ptr failed;  // scratch memory may run out, and nothing may leave a parallel region
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (int thread = 0; thread < threads; ++thread) {
    std::fenv_t of_thread;
    std::fegetenv(&of_thread);
    std::fesetenv(&of_caller);
    try {
      range(thread);
    } catch (...) {
#pragma omp critical(evenkeel_parallel_ranges)
      failed = std::current_exception();
    }
    std::fesetenv(&of_thread);
  }
  if (failed) std::rethrow_exception(failed);
}

// Calls f(task) for every task in [0, tasks).
template <class F>
void parallel_for(std::int64_t tasks, int threads, const F& f) {
  parallel_ranges(tasks, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) f(task);
  });
}

}  // namespace evenkeel
