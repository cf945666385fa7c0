// Numbers as text.
#pragma once

#include <array>
#include <charconv>
#include <string>

namespace evenkeel {

// The shortest text that reads back as the same number, whatever the locale.
inline std::string exactly(double value) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

}  // namespace evenkeel
