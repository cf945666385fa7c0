// Results as JSON files.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace evenkeel::lab {

// Indented text. What is not UTF-8 is written with replacement characters.
std::string to_text(const nlohmann::json& json);

// In a file a number that is not finite is null. This reads it as NaN, and one that was never in a
// file likewise.
double number_of(const nlohmann::json& json);

template <class T>
nlohmann::json or_null(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

// Results of the program `writer` ("evenkeel compare"), told by the values of "format" and
// "format_version". Throws Error if the file cannot be read or is something else.
nlohmann::json read_results(const std::filesystem::path& path, std::string_view writer,
                            std::string_view format, int version);

}  // namespace evenkeel::lab
