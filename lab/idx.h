// The IDX format of MNIST and its relatives.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace evenkeel::lab {

// Gray images, one byte a pixel, in the order (image, row, column).
struct IdxImages {
  std::int64_t count = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<std::uint8_t> pixels;
};

// Both read a file that is gzipped or not, and throw Error, which names the file, what was expected
// and what came, if it is missing, unreadable, of another type, shorter or longer than its header
// says, or empty of images.
IdxImages read_idx_images(const std::filesystem::path& path);
std::vector<std::uint8_t> read_idx_labels(const std::filesystem::path& path);

}  // namespace evenkeel::lab
