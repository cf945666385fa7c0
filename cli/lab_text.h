// What `evenkeel lab` prints on standard output, as text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lab/experiment.h"

namespace evenkeel::cli {

// A paragraph for each: id, claim, source and estimated time.
std::string list_of(const std::vector<lab::Experiment>& experiments);

// A line for each experiment of a results.json of the lab, then what one should know beside it.
std::string verdict_table(const nlohmann::json& results);

// "confirmed", "refuted" or "depends on the batch size".
std::string verdict_words(std::string_view answer, std::string_view depends_on);

}  // namespace evenkeel::cli
