#include "evenkeel/runtime.h"

#include <omp.h>

#include <cstdlib>
#include <fstream>

#include "hwy/highway.h"
#include "src/check.h"
#include "src/kernels/kernels.h"
#include "src/parallel.h"

namespace evenkeel {
namespace {

// Targets as bits, best (lowest) first.
std::vector<std::int64_t> bits_of(std::int64_t targets) {
  std::vector<std::int64_t> bits;
  for (; targets != 0; targets &= targets - 1) bits.push_back(targets & -targets);
  return bits;
}

std::vector<std::string> names_of(std::int64_t targets) {
  std::vector<std::string> names;
  for (const std::int64_t bit : bits_of(targets)) names.emplace_back(hwy::TargetName(bit));
  return names;
}

// What this processor supports, whatever is selected now.
std::int64_t runnable() {
  static const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return targets;
}

void select(const char* what, std::string_view name) {
  std::int64_t chosen = 0;  // 0 restores Highway's own choice
  if (!name.empty()) {
    std::string known;
    for (const std::int64_t bit : bits_of(runnable())) {
      if (name == hwy::TargetName(bit)) chosen = bit;
      known += std::string(known.empty() ? "" : ", ") + hwy::TargetName(bit);
    }
    Check(what).require(chosen != 0, "SIMD target '" + std::string(name) +
                                         "' cannot run here, expected one of " + known);
  }
  hwy::SetSupportedTargetsForTest(chosen);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

void select_from_environment() {
  // Unset, it must not touch Highway's choice, which other users in the process share.
  const char* name = std::getenv("EVENKEEL_SIMD");
  if (name && *name) select("EVENKEEL_SIMD", name);
}

}  // namespace

namespace kernels {

void select_target_from_environment() {
  [[maybe_unused]] static const bool selected = [] {
    runnable();
    select_from_environment();
    return true;
  }();
}

}  // namespace kernels

namespace {

// Bytes of the last level of cache that one core can fill, as the system describes it; 32 MB if it
// does not. Not sysconf, which adds up the caches of all cores of the package: 384 MB where a core
// has 32.
std::int64_t last_level_cache() {
  std::int64_t last_level = 0, size = 0;
  for (int index = 0; index < 10; ++index) {
    const std::string folder =
        "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    std::int64_t level = 0, units = 0;
    char unit = 'K';
    std::ifstream(folder + "level") >> level;
    std::ifstream(folder + "size") >> units >> unit;
    if (level <= last_level || units <= 0) continue;
    last_level = level;
    size = units << (unit == 'M' ? 20 : 10);
  }
  return size > 0 ? size : std::int64_t{32} << 20;
}

}  // namespace

bool exceeds_cache(std::int64_t bytes) {
  static const std::int64_t threshold = last_level_cache() / 8 * 5;
  return bytes >= threshold;
}

std::string_view version() { return EVENKEEL_VERSION; }

std::vector<std::string> compiled_simd_targets() { return names_of(HWY_TARGETS); }
std::vector<std::string> runnable_simd_targets() { return names_of(runnable()); }

std::string simd_target() {
  kernels::select_target_from_environment();
  return hwy::TargetName(bits_of(hwy::SupportedTargets() & HWY_TARGETS).front());
}

void set_simd_target(std::string_view name) {
  kernels::select_target_from_environment();
  select("set_simd_target", name);
  if (name.empty()) select_from_environment();
}

int num_threads() { return omp_get_max_threads(); }

void set_num_threads(int threads) {
  Check("set_num_threads")
      .require(threads >= 1, "threads is " + std::to_string(threads) + ", expected at least 1");
  omp_set_num_threads(threads);
}

}  // namespace evenkeel
