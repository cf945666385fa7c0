#include "lab/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>

#include "evenkeel/error.h"

namespace evenkeel::lab {

// experiments.inc, which CMake writes, has a line EVENKEEL_EXPERIMENT(name) for each file.
#define EVENKEEL_EXPERIMENT(name) \
  namespace name {                \
  Experiment experiment();        \
  }
#include "lab/experiments.inc"
#undef EVENKEEL_EXPERIMENT

const std::vector<Experiment>& experiments() {
  static const std::vector<Experiment> all = [] {
    std::vector<Experiment> found;
#define EVENKEEL_EXPERIMENT(name) found.push_back(name::experiment());
#include "lab/experiments.inc"
#undef EVENKEEL_EXPERIMENT
    std::ranges::stable_sort(found, {}, &Experiment::full_minutes);
    return found;
  }();
  return all;
}

const Experiment& experiment(std::string_view id) {
  const auto& all = experiments();
  const auto found = std::ranges::find(all, id, &Experiment::id);
  if (found != all.end()) return *found;
  std::vector<std::string> ids;
  for (const auto& one : all) ids.push_back(one.id);
  throw Error(fmt::format("unknown experiment '{}', expected one of {}", id, fmt::join(ids, ", ")));
}

}  // namespace evenkeel::lab
