// The processor's last level of cache, and what to do about it.
#pragma once

#include <cstdint>

#include "evenkeel/tensor.h"

namespace evenkeel {

// Whether the tensors of a pass, `bytes` in all, take five sixteenths of the last level of cache or
// more. Then outputs are written past the cache by non-temporal stores, and inputs are prefetched.
//
// Stored the usual way, each line of an output is read before it is written, and pushes other lines
// out of the cache. That costs more from well below the cache's size on, the more so if other
// programs share it. With 32 MB, and another layer before and after, LayerNorm's gradients on 3 x
// 4.8 MB took 1.2 to 1.4 times as long, and other layers of 10 to 20 MB 0.93 to 1.2 times.
// docs/performance-notes.md has more, and where plain stores win: in a layer that is repeated
// alone.
bool exceeds_cache(std::int64_t bytes);

// How far on values are prefetched then: alone, the hardware's prefetcher reaches half of the
// bandwidth of memory when values are summed.
inline constexpr std::int64_t kPrefetchBytes = std::int64_t{32} * 1024;

template <class T>
constexpr std::int64_t bytes_of(const Shape& shape) {
  return shape.size() * static_cast<std::int64_t>(sizeof(T));
}

}  // namespace evenkeel
