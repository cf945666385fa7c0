// evenkeel lab: every claim about normalization, tested.
#pragma once

#include <CLI/App.hpp>

namespace evenkeel::cli {

void add_lab(CLI::App& app);

}  // namespace evenkeel::cli
