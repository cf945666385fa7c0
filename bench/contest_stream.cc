// The streaming limit: what memory gives to the simplest loops over the same buffers.
//
//   copy  out = x         2 streams
//   add   out = x + dy    3 streams
//
// Compiled for the machine that it runs on (-march=native), so Highway's static target is the best.
#define HWY_COMPILE_ONLY_STATIC
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>

#include "bench/contestant.h"

namespace evenkeel::bench {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

enum class Store : std::uint8_t { plain, non_temporal };

template <int kStreams, Store kStore>
void stream(const Problem& p) {
  const hn::ScalableTag<float> d;
  const auto step = 4 * static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t steps = p.of.tensor_bytes() / static_cast<std::int64_t>(sizeof(float)) / step;
  // As with any operation, a fork must be worth it.
  const auto threads = static_cast<int>(
      std::clamp<std::int64_t>(p.of.tensor_bytes() / (std::int64_t{1} << 16), 1, p.of.threads));
  const float* HWY_RESTRICT x = p.x.as<float>();
  const float* HWY_RESTRICT dy = p.dy.as<float>();
  float* HWY_RESTRICT out = p.out.as<float>();
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static) nowait
    for (std::int64_t i = 0; i < steps; ++i) {
      for (std::int64_t j = i * step; j < (i + 1) * step; j += step / 4) {
        auto value = hn::Load(d, x + j);
        if constexpr (kStreams == 3) value = hn::Add(value, hn::Load(d, dy + j));
        if constexpr (kStore == Store::plain) {
          hn::Store(value, d, out + j);
        } else {
          hn::Stream(value, d, out + j);
        }
      }
    }
    hwy::FlushStream();
  }
}

}  // namespace

std::vector<Contestant> streaming_contestants(Problem& p, int streams) {
  if (streams_moved(streams) == 2) {
    return {{"copy", [&p] { stream<2, Store::plain>(p); }},
            {"copy_nt", [&p] { stream<2, Store::non_temporal>(p); }}};
  }
  return {{"add", [&p] { stream<3, Store::plain>(p); }},
          {"add_nt", [&p] { stream<3, Store::non_temporal>(p); }}};
}

}  // namespace evenkeel::bench
