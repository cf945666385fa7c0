#include "evenkeel/runtime.h"

#include <omp.h>

#include <cstdlib>

#include "hwy/highway.h"
#include "src/base/check.h"
#include "src/base/parallel.h"
#include "src/kernels/dispatch.h"

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

// What this processor supports.
std::int64_t runnable() {
  static const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return targets;
}

// This library's own choice: Highway's, which other users in the process share, stays as it is.
hwy::ChosenTarget chosen;
std::int64_t selected = 0;  // the bit of the target

void select(const char* what, std::string_view name) {
  std::int64_t targets = runnable();
  if (!name.empty()) {
    targets = 0;
    std::string known;
    for (const std::int64_t bit : bits_of(runnable())) {
      if (name == hwy::TargetName(bit)) targets = bit;
      known += std::string(known.empty() ? "" : ", ") + hwy::TargetName(bit);
    }
    Check(what).require(targets != 0, "SIMD target '" + std::string(name) +
                                          "' cannot run here, expected one of " + known);
  }
  selected = bits_of(targets).front();
  chosen.Update(selected);
}

void select_from_environment() {
  const char* name = std::getenv("EVENKEEL_SIMD");
  select("EVENKEEL_SIMD", name ? name : "");
}

}  // namespace

namespace kernels {

const hwy::ChosenTarget& active_target() {
  [[maybe_unused]] static const bool is_selected = [] {
    select_from_environment();
    return true;
  }();
  return chosen;
}

}  // namespace kernels

std::string_view version() { return EVENKEEL_VERSION; }

std::vector<std::string> compiled_simd_targets() { return names_of(HWY_TARGETS); }
std::vector<std::string> runnable_simd_targets() { return names_of(runnable()); }

std::string simd_target() {
  kernels::active_target();
  return hwy::TargetName(selected);
}

void set_simd_target(std::string_view name) {
  kernels::active_target();
  if (name.empty()) {
    select_from_environment();
  } else {
    select("set_simd_target", name);
  }
}

int num_threads() { return max_threads(); }

void set_num_threads(int threads) {
  Check("set_num_threads")
      .require(threads >= 1, "threads is " + std::to_string(threads) + ", expected at least 1");
  omp_set_num_threads(threads);
}

}  // namespace evenkeel
