// Text to a stream that may have gone: a closed pipe, a full disk, a terminal that hung up.
#pragma once

#include <cstdio>
#include <string_view>

namespace evenkeel::cli {

// Writes what can be written. Unlike fmt::print it never throws, so that a destructor, a catch
// handler and any thread may use it; a failure stays with the stream, where std::ferror sees it.
inline void write_text(std::FILE* out, std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), out);
}

}  // namespace evenkeel::cli
