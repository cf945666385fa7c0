// IDX files and whole data sets made up by the tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "evenkeel/error.h"

namespace evenkeel::lab {

// A directory that is removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "evenkeel-lab-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw Error("no temporary directory");
    path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

using Bytes = std::vector<std::uint8_t>;

// 0, 0, 8 (unsigned bytes), the number of dimensions; their sizes, big endian; the content.
inline Bytes idx_bytes(const std::vector<std::uint32_t>& sizes, const Bytes& content) {
  Bytes bytes = {0, 0, 8, static_cast<std::uint8_t>(sizes.size())};
  for (const std::uint32_t size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      bytes.push_back(static_cast<std::uint8_t>(size >> shift & 0xff));
    }
  }
  bytes.insert(bytes.end(), content.begin(), content.end());
  return bytes;
}

inline void write_plain(const std::filesystem::path& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

inline void write_gzipped(const std::filesystem::path& path, const Bytes& bytes) {
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
}

// Images of `side` x `side` noise in which the label's own row and column are brighter: easy, but
// not so easy that a network is done at once. Labels go round.
inline void write_split(const std::filesystem::path& directory, const std::string& prefix,
                        std::uint32_t count, std::uint32_t side, unsigned seed) {
  std::mt19937 random(seed);
  Bytes pixels;
  Bytes labels;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t label = i % 10;
    labels.push_back(static_cast<std::uint8_t>(label));
    for (std::uint32_t row = 0; row < side; ++row) {
      for (std::uint32_t col = 0; col < side; ++col) {
        const bool bright = row == label % side || col == label * 3 % side;
        pixels.push_back(static_cast<std::uint8_t>(random() % 128 + (bright ? 100 : 0)));
      }
    }
  }
  write_gzipped(directory / (prefix + "-images-idx3-ubyte.gz"),
                idx_bytes({count, side, side}, pixels));
  write_plain(directory / (prefix + "-labels-idx1-ubyte"), idx_bytes({count}, labels));
}

inline void write_dataset(const std::filesystem::path& directory, std::uint32_t train = 600,
                          std::uint32_t test = 100, std::uint32_t side = 8) {
  write_split(directory, "train", train, side, 1);
  write_split(directory, "t10k", test, side, 2);
}

// The message of the Error that a call throws; fails the test if it throws none.
template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an evenkeel::Error";
  return "";
}

}  // namespace evenkeel::lab
