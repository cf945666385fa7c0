#pragma once

#include <nlohmann/json.hpp>

namespace evenkeel::lab {

/// Results in the shape that `evenkeel lab` writes, with made-up numbers of three seeds: an
/// experiment for each verdict, "curves" (confirmed; lines and bands), "rates" (refuted; dots with
/// whiskers on logarithmic axes) and "settings" (depends; categories), then "stopped", of which
/// half was measured, and "broken", of which a trial failed.
nlohmann::json synthetic_lab_results();

}  // namespace evenkeel::lab
