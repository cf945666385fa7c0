// The processor's last level of cache, and what to do about it.
#pragma once

#include <cstdint>

#include "evenkeel/tensor.h"

namespace evenkeel {

// Whether the tensors of a pass, `bytes` in all, take five eighths of the last level of cache or
// more. Then outputs are written past the cache by non-temporal stores, and inputs are prefetched.
//
// Stored the usual way, each line of an output is read before it is written, and pushes other lines
// out. That costs more from well below the cache's size on: with 32 MB of cache, an LRN of 2 x 15
// MB took 1.9 times as long. But 2 x 8 MB written past the cache took up to 2.3 times as long as in
// it.
bool exceeds_cache(std::int64_t bytes);

// How far on rows are prefetched then: alone, the hardware's prefetcher reaches half of the
// bandwidth of memory when values are summed.
inline constexpr std::int64_t kPrefetchBytes = std::int64_t{32} * 1024;

template <class T>
constexpr std::int64_t bytes_of(const Shape& shape) {
  return shape.size() * static_cast<std::int64_t>(sizeof(T));
}

}  // namespace evenkeel
