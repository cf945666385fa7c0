#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace evenkeel::lab {

/// Results in the shape of docs/results-format.md with made-up, smooth curves: 400 steps, a record
/// every 20, three hidden layers; sigmoid for a network named "mlp", ReLU for any other.
nlohmann::json synthetic_results(const std::vector<std::string>& networks,
                                 const std::vector<std::string>& norms,
                                 const std::vector<int>& seeds);

}  // namespace evenkeel::lab
