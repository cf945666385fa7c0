// NumPy's .npy files, read and written in pieces.
//
// The one C++ library of Debian 12 that reads .npy, xtensor, holds the whole array in memory.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "lab/files.h"

namespace evenkeel::cli {

struct NpyHeader {
  enum class Type : std::uint8_t { float32, float64 };
  Type type = Type::float32;
  std::vector<std::int64_t> shape;  // empty: a single value

  std::int64_t element_bytes() const { return type == Type::float32 ? 4 : 8; }
};

// Reads versions 1.0, 2.0 and 3.0 of the format; little-endian float32 and float64 in C order, or
// in Fortran order where that is the same. Everything else is refused with an Error that says what
// came and what to do about it.
class NpyReader {
 public:
  // Reads the header, and checks that the file holds exactly the elements that it announces.
  explicit NpyReader(const std::filesystem::path& path);

  const NpyHeader& header() const { return header_; }
  // Reads the next `bytes` bytes of elements. Throws Error if the file ends before.
  void read(void* data, std::int64_t bytes);
  // Back to the first element.
  void rewind();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  [[noreturn]] void fail(const std::string& what) const;
  std::string read_header_text();

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
  NpyHeader header_;
  std::int64_t data_offset_ = 0;
};

// Writes version 1.0, whole or not at all (lab::AtomicFile). The caller writes all elements, in
// order, then commits.
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, const NpyHeader& header);
  void write(const void* data, std::int64_t bytes);
  void commit() { file_.commit(); }

 private:
  lab::AtomicFile file_;
};

}  // namespace evenkeel::cli
