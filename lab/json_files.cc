#include "lab/json_files.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>

#include "evenkeel/error.h"

namespace evenkeel::lab {

using nlohmann::json;

std::string to_text(const json& value) {
  return value.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

double number_of(const json& value) {
  const double number = value.is_null() ? NAN : value.get<double>();
  return std::isfinite(number) ? number : NAN;
}

json read_results(const std::filesystem::path& path, std::string_view writer,
                  std::string_view format, int version) {
  std::ifstream in(path);
  if (!in) throw Error(fmt::format("{}: cannot be read", path.string()));
  json results = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!results.is_object() || results.value("format", json()) != format ||
      results.value("format_version", json()) != version) {
    throw Error(fmt::format("{}: expected results of {}, format version {}", path.string(), writer,
                            version));
  }
  return results;
}

}  // namespace evenkeel::lab
