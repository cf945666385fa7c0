// The statistics of a data set as a JSON file.
#pragma once

#include <filesystem>
#include <string>

#include "evenkeel/standardization.h"

namespace evenkeel::cli {

// An object: format "evenkeel-standardization", format_version 1, count, and the arrays mean, std
// and scale, one number a feature. The numbers restore the same doubles.
std::string to_json(const Standardization& standardization);

// Throws Error, naming the file, if it cannot be read, is not of this format, or contradicts
// itself.
Standardization load_standardization(const std::filesystem::path& path);

}  // namespace evenkeel::cli
