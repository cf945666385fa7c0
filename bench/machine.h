// The machine that the figures are of.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

namespace evenkeel::bench {

// In bytes, as the kernel reports them; the last level is what all cores share, L2 that of a core.
struct Caches {
  std::int64_t l2 = 0;
  std::int64_t last_level = 0;
};

// Throws std::runtime_error where Linux does not tell.
Caches caches();

// Processor, cores, caches, compiler, SIMD target, versions and the date.
nlohmann::json describe_machine();

}  // namespace evenkeel::bench
