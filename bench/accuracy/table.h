// The tables of docs/numerics.md.
#pragma once

#include <string>

namespace evenkeel::accuracy {

// Runs every library on every problem, and returns the tables as Markdown.
std::string accuracy_tables();

}  // namespace evenkeel::accuracy
