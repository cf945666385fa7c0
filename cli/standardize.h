// evenkeel standardize: x~ = (x - mean) / std per feature of a user's own array.
#pragma once

#include <CLI/App.hpp>

namespace evenkeel::cli {

void add_standardize(CLI::App& app);

}  // namespace evenkeel::cli
