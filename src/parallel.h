// Threads and their scratch memory.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <new>

#include "hwy/aligned_allocator.h"

namespace evenkeel {

// Below this many elements a thread, forking costs more than it saves: a fork and join takes some
// microseconds, as long as streaming about 64 KB.
inline constexpr std::int64_t kElementsPerThread = 16384;

// Threads worth using for that many independent tasks over that many elements.
inline int threads_for(std::int64_t tasks, std::int64_t elements) {
  const std::int64_t useful = std::min(tasks, elements / kElementsPerThread);
  return static_cast<int>(std::clamp<std::int64_t>(useful, 1, omp_get_max_threads()));
}

// Calls f(task, thread) for every task in [0, tasks), on `threads` threads; thread < threads. The
// caller cuts work into tasks by shape alone, so that no result depends on the number of threads.
template <class F>
void parallel_for(std::int64_t tasks, int threads, const F& f) {
  if (threads == 1) {
    for (std::int64_t task = 0; task < tasks; ++task) f(task, 0);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t task = 0; task < tasks; ++task) f(task, omp_get_thread_num());
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// An aligned buffer of the calling thread that is kept between calls and only grows: no allocation
// in the steady state. Buffers that live at once need different slots. Contents are undefined.
template <class T, int slot = 0>
T* scratch(std::int64_t size) {
  thread_local hwy::AlignedFreeUniquePtr<T[]> buffer;
  thread_local std::int64_t capacity = 0;
  if (size > capacity) {
    capacity = 0;
    buffer = hwy::AllocateAligned<T>(static_cast<std::size_t>(size));
    if (!buffer) throw std::bad_alloc();
    capacity = size;
  }
  return buffer.get();
}

}  // namespace evenkeel
