// Memory that an operation needs while it runs.
#pragma once

#include <cstdint>
#include <new>

#include "hwy/aligned_allocator.h"

namespace evenkeel {

// What a buffer is for. Buffers of one thread that are in use at once need different purposes. The
// thread that starts an operation works on its tasks too, so the operation's buffers and the tasks'
// must differ.
enum class Scratch {
  // Of the whole operation, in the thread that started it.
  affine,          // coefficients of the forward, per channel
  gradient,        // coefficients of the gradient, per channel
  affine_columns,  // the same as kernels take them, per column
  gradient_columns,
  channel_sums,   // gradient sums that an operation keeps, per channel
  batch_moments,  // moments that an operation keeps, per channel
  long_rows,      // statistics of rows that are cut
  partials,       // statistics of blocks and pieces, before they are merged
  dweight,        // parameter gradients of tasks over rows, before they are added up
  dbias,
  weight,  // a weight that is not used as it was given
  // Of one task.
  tile_partials,
  tile_affine,
  tile_gradient,
  tile_sums,
  checked_sums,  // gradient sums of the channels of a group
  row_sum,       // the sum of x and the residual, where it is not kept
  window,
};

// An aligned buffer of the calling thread that is kept between calls and only grows: no allocation
// in the steady state. Contents are undefined. Throws std::bad_alloc.
template <class T, Scratch purpose>
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
