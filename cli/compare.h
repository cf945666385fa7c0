// evenkeel compare: the same networks trained with each normalization, side by side.
#pragma once

#include <CLI/App.hpp>

namespace evenkeel::cli {

void add_compare(CLI::App& app);

}  // namespace evenkeel::cli
