// The experiments there are.
#pragma once

#include <string_view>
#include <vector>

#include "lab/experiment.h"

namespace evenkeel::lab {

// One for each file in lab/experiments/, cheapest first. A file name.cc there defines
// `Experiment experiment()` in the namespace evenkeel::lab::name; nothing else has to know of it.
const std::vector<Experiment>& experiments();

// Throws Error, which lists the known ids.
const Experiment& experiment(std::string_view id);

}  // namespace evenkeel::lab
