// Prints the accuracy tables, and writes them into a page between its two markers.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "bench/accuracy/table.h"

namespace {

constexpr const char* kBegin = "<!-- tables by evenkeel_accuracy --write -->\n";
constexpr const char* kEnd = "<!-- end of the tables -->";

void write_between_markers(const std::string& path, const std::string& text) {
  std::ifstream in(path);
  std::string page((std::istreambuf_iterator<char>(in)), {});
  const auto begin = page.find(kBegin), end = page.find(kEnd);
  if (!in || begin == std::string::npos || end == std::string::npos || end < begin) {
    throw std::runtime_error(
        fmt::format("{} is no file with the lines {}and {}", path, kBegin, kEnd));
  }
  const auto after_begin = begin + std::string(kBegin).size();
  page.replace(after_begin, end - after_begin, "\n" + text);
  std::ofstream out(path);
  out << page;
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Errors of evenkeel, PyTorch and oneDNN against a reference in double.");
  std::string page;
  app.add_option("--write", page, "Also write the tables into this page, between its markers");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::string tables = evenkeel::accuracy::accuracy_tables();
    fmt::print("{}", tables);
    if (!page.empty()) write_between_markers(page, tables);
  } catch (const std::exception& error) {
    fmt::print(stderr, "evenkeel_accuracy: {}\n", error.what());
    return 1;
  }
}
