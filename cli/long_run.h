// What the commands that train for minutes have in common.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace evenkeel::cli {

// The command line as it can be given to a shell again.
std::string command_line();

inline std::filesystem::path report_in(const std::filesystem::path& directory) {
  return directory / "report.html";
}

// Where the results are, on standard output; `others` are the files beside results.json.
void print_paths(const std::filesystem::path& directory, std::string_view others);

// If the loaded BLAS allows no more than one job, says on standard error that `what`, e.g. "arms
// train", one at a time.
void warn_of_serial_blas(std::string_view what);

}  // namespace evenkeel::cli
