// Threads and their scratch memory.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <new>

#include "evenkeel/tensor.h"
#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"

namespace evenkeel {

// Below this many elements a thread, forking costs more than it saves: a fork and join takes some
// microseconds, as long as streaming about 64 KB.
inline constexpr std::int64_t kElementsPerThread = 16384;

// Threads worth using for that many independent tasks over that many elements.
inline int threads_for(std::int64_t tasks, std::int64_t elements) {
  const std::int64_t useful = std::min(tasks, elements / kElementsPerThread);
  return static_cast<int>(std::clamp<std::int64_t>(useful, 1, omp_get_max_threads()));
}

// Calls f(begin, end, thread) for consecutive ranges of tasks, one a thread; thread < threads. The
// caller cuts work into tasks by shape alone, so that no result depends on the number of threads.
template <class F>
void parallel_ranges(std::int64_t tasks, int threads, const F& f) {
  const auto range = [&](int thread) {
    f(tasks * thread / threads, tasks * (thread + 1) / threads, thread);
    hwy::FlushStream();  // what was streamed past the cache becomes visible to other threads
  };
  if (threads == 1) {
    range(0);
    return;
  }
  std::exception_ptr failed;  // scratch memory may run out, and nothing may leave a parallel region
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (int thread = 0; thread < threads; ++thread) {
    try {
      range(thread);
    } catch (...) {
#pragma omp critical(evenkeel_parallel_ranges)
      failed = std::current_exception();
    }
  }
  if (failed) std::rethrow_exception(failed);
}

// Calls f(task, thread) for every task in [0, tasks).
template <class F>
void parallel_for(std::int64_t tasks, int threads, const F& f) {
  parallel_ranges(tasks, threads, [&](std::int64_t begin, std::int64_t end, int thread) {
    for (std::int64_t task = begin; task < end; ++task) f(task, thread);
  });
}

// Whether outputs should go past the cache: if the tensors of a pass, `bytes` in all, take five
// eighths of the last level of cache or more. Stored the usual way, each line of an output is read
// before it is written, and pushes other lines out. That costs more from well below the cache's
// size on: with 32 MB of cache, an LRN of 2 x 15 MB took 1.9 times as long. But 2 x 8 MB streamed
// took up to 2.3 times as long as in cache.
bool exceeds_cache(std::int64_t bytes);

template <class T>
constexpr std::int64_t bytes_of(const Shape& shape) {
  return shape.size() * static_cast<std::int64_t>(sizeof(T));
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
