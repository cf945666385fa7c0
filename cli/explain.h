// evenkeel explain: what each layer computes, worked out on a few numbers.
#pragma once

#include <CLI/App.hpp>

namespace evenkeel::cli {

void add_explain(CLI::App& app);

}  // namespace evenkeel::cli
