// The table that `evenkeel compare` ends with.
#pragma once

#include "lab/results.h"

namespace evenkeel::cli {

// A line for each network and norm, over its seeds, on standard output.
void print_table(const lab::Results& results);

}  // namespace evenkeel::cli
