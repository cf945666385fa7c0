#include "cli/standardization_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "evenkeel/error.h"

namespace evenkeel::cli {
namespace {

constexpr const char* format_name = "evenkeel-standardization";
constexpr int format_version = 1;

// True if the values can have come from Standardization::from.
bool consistent(const Standardization& s) {
  if (s.count < 1 || s.std.size() != s.mean.size() || s.scale.size() != s.mean.size()) return false;
  for (std::size_t i = 0; i < s.mean.size(); ++i) {
    if (!std::isfinite(s.mean[i]) || !std::isfinite(s.std[i]) || s.std[i] < 0) return false;
    if (s.scale[i] != (s.std[i] == 0 ? 1 : s.std[i])) return false;
  }
  return true;
}

}  // namespace

std::string to_json(const Standardization& standardization) {
  // Ordered, so that a person sees first what the file is.
  const nlohmann::ordered_json json = {
      {"format", format_name},          {"format_version", format_version},
      {"count", standardization.count}, {"mean", standardization.mean},
      {"std", standardization.std},     {"scale", standardization.scale}};
  return json.dump(1) + "\n";
}

Standardization load_standardization(const std::filesystem::path& path) {
  const auto fail = [&](const std::string& what) -> Error {
    return Error(
        fmt::format("{}: {}; write it with evenkeel standardize --stats", path.string(), what));
  };
  std::ifstream in(path);
  if (!in) throw Error(fmt::format("{}: cannot be read: {}", path.string(), std::strerror(errno)));
  Standardization result;
  try {
    const auto json = nlohmann::json::parse(in);
    if (!json.is_object() || json.value("format", nlohmann::json()) != format_name) {
      throw fail("not a file of standardization statistics");
    }
    if (const int version = json.at("format_version"); version != format_version) {
      throw Error(fmt::format("{}: format version {}, this program reads version {}", path.string(),
                              version, format_version));
    }
    json.at("count").get_to(result.count);
    json.at("mean").get_to(result.mean);
    json.at("std").get_to(result.std);
    json.at("scale").get_to(result.scale);
  } catch (const nlohmann::json::exception&) {
    throw fail("damaged");
  }
  if (!consistent(result)) throw fail("damaged: its values contradict each other");
  return result;
}

}  // namespace evenkeel::cli
