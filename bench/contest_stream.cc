// The streaming limit: what memory gives to the simplest loops over the same buffers.
//
//   copy  out = x         2 streams
//   add   out = x + dy    3 streams
//
// And what it gives to the simplest loops that a normalization can be: each group is read for a
// sum, and read again to write the output, in the order of the operation. No statistics, no
// parameters.
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

// How the groups of an operation lie in memory.
struct Groups {
  std::int64_t count, stride;
  std::int64_t runs, run_stride, length;  // a group is runs of contiguous values
};

Groups groups_of(const Case& of) {
  const std::int64_t positions = of.h * of.w;
  if (of.is_of_rows()) return {of.n, of.c, 1, 0, of.c};
  if (of.order == Order::nchw) return {of.c, positions, of.n, of.c * positions, positions};
  // No column can be read alone: each thread takes its share of the rows through one pass, then
  // through the other.
  constexpr std::int64_t kRun = 8192;
  const std::int64_t runs = of.size() / kRun / of.threads;
  return {of.threads, runs * kRun, runs, kRun, kRun};
}

// A place to put a sum, so that it is not left out.
volatile float sink = 0;

template <int kStreams, bool kPrefetch>
void two_passes(const Problem& p) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const Groups groups = groups_of(p.of);
  const float* HWY_RESTRICT x = p.x.as<float>();
  const float* HWY_RESTRICT dy = p.dy.as<float>();
  float* HWY_RESTRICT out = p.out.as<float>();
  const auto prefetch = [&](std::int64_t at) {
    if constexpr (!kPrefetch) return;
    __builtin_prefetch(x + at, 0, 2);
    if constexpr (kStreams == 3) __builtin_prefetch(dy + at, 0, 2);
  };
#pragma omp parallel for schedule(static) num_threads(p.of.threads)
  for (std::int64_t g = 0; g < groups.count; ++g) {
    const std::int64_t start = g * groups.stride;
    hn::Vec<decltype(d)> sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    for (std::int64_t r = 0; r < groups.runs; ++r) {
      const std::int64_t begin = start + r * groups.run_stride;
      for (std::int64_t i = 0; i + 4 * lanes <= groups.length; i += 4 * lanes) {
        for (std::int64_t j = 0; j < 4; ++j) {
          const std::int64_t at = begin + i + j * lanes;
          if (groups.runs > 1) prefetch(at + groups.run_stride);
          sums[j] = hn::Add(sums[j], hn::LoadU(d, x + at));
          if constexpr (kStreams == 3) sums[j] = hn::Add(sums[j], hn::LoadU(d, dy + at));
        }
      }
    }
    sink = hn::GetLane(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
    // From the end: what was read last is still in cache.
    for (std::int64_t r = groups.runs; r-- > 0;) {
      const std::int64_t begin = start + r * groups.run_stride;
      for (std::int64_t i = 0; i + lanes <= groups.length; i += lanes) {
        const std::int64_t at = begin + i;
        prefetch(at + groups.stride);
        auto value = hn::LoadU(d, x + at);
        if constexpr (kStreams == 3) value = hn::Add(value, hn::LoadU(d, dy + at));
        hn::Stream(value, d, out + at);
      }
    }
  }
  hwy::FlushStream();
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

std::vector<Contestant> two_pass_contestants(Problem& p) {
  const Case& of = p.of;
  const Groups groups = groups_of(of);
  const auto line = static_cast<std::int64_t>(16);
  const bool trains = !of.fused() && !of.is_of_samples() && of.op != Op::local_response_norm &&
                      of.direction != Direction::inference;
  // Runs that start within a line cannot simply be streamed.
  if (!trains || of.dtype != Dtype::f32 || groups.runs == 0 || groups.length % line != 0) return {};
  if (of.direction == Direction::forward) {
    return {{"two_passes", [&p] { two_passes<2, false>(p); }},
            {"two_passes_prefetched", [&p] { two_passes<2, true>(p); }}};
  }
  return {{"two_passes", [&p] { two_passes<3, false>(p); }},
          {"two_passes_prefetched", [&p] { two_passes<3, true>(p); }}};
}

}  // namespace evenkeel::bench
