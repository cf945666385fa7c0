#include "cli/long_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <fstream>
#include <regex>

#include "cli/write_text.h"
#include "lab/blas.h"

namespace evenkeel::cli {

std::string command_line() {
  std::ifstream in("/proc/self/cmdline");
  std::string command = "evenkeel";
  std::string word;
  std::getline(in, word, '\0');  // the program's path
  while (std::getline(in, word, '\0')) {
    const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 ||
             std::string_view("-_=.,/:+").find(static_cast<char>(c)) != std::string_view::npos;
    });
    command += plain ? " " + word
                     : fmt::format(" '{}'", std::regex_replace(word, std::regex("'"), "'\\''"));
  }
  return command;
}

void print_paths(const std::filesystem::path& directory, std::string_view others) {
  fmt::print("\nReport:  {}\nNumbers: {} and {} beside it\n", report_in(directory).string(),
             (directory / "results.json").string(), others);
}

void warn_of_serial_blas(std::string_view what) {
  if (lab::blas_is_thread_safe()) return;
  write_text(stderr,
             fmt::format("evenkeel: {} one at a time, as the loaded BLAS, {}, is not safe for "
                         "several threads; libopenblas0-openmp is\n",
                         what, lab::blas_name()));
}

}  // namespace evenkeel::cli
