// evenkeel info: versions, SIMD targets and threads.
#pragma once

#include <CLI/App.hpp>

namespace evenkeel::cli {

void add_info(CLI::App& app);

}  // namespace evenkeel::cli
