#pragma once

#include <string_view>

namespace evenkeel::lab {

/// The text of a file embedded at build time, by its file name; empty if there is none.
std::string_view find_asset(std::string_view name);

}  // namespace evenkeel::lab
