// The processor's last level of cache, and what to do about it.
#pragma once

#include <cstdint>

#include "evenkeel/tensor.h"

namespace evenkeel {

// Whether the tensors of a pass, `bytes` in all, take five sixteenths of the last level of cache or
// more. Then outputs are written past the cache by non-temporal stores, and inputs are prefetched.
//
// Stored the usual way, each line of an output is read before it is written, and pushes other lines
// out, of which a network's next layer reads the input. That costs more from well below the cache's
// size on, which others share: with 32 MB of it, between a layer that writes the input and one that
// reads the output, the gradients of LayerNorm on 3 x 4.8 MB took 1.2 to 1.4 times as long, and no
// layer on 10 to 20 MB was faster by more than 2%. Where the output's pages are new, and thus in
// cache, non-temporal stores cost up to a sixth.
bool exceeds_cache(std::int64_t bytes);

// How far on rows are prefetched then: alone, the hardware's prefetcher reaches half of the
// bandwidth of memory when values are summed.
inline constexpr std::int64_t kPrefetchBytes = std::int64_t{32} * 1024;

template <class T>
constexpr std::int64_t bytes_of(const Shape& shape) {
  return shape.size() * static_cast<std::int64_t>(sizeof(T));
}

}  // namespace evenkeel
