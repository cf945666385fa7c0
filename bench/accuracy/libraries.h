// The libraries that are compared. Each runs forward and backward on plain channels-first memory;
// nothing comes back if it does not have the operation in that type.
#pragma once

#include <optional>

#include "bench/accuracy/problem.h"

namespace evenkeel::accuracy {

std::optional<Outputs> run_evenkeel(const Problem& problem);
std::optional<Outputs> run_torch(const Problem& problem);
std::optional<Outputs> run_onednn(const Problem& problem);

}  // namespace evenkeel::accuracy
