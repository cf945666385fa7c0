#include "tests/cli/fashion_mnist.h"

#include <zlib.h>

#include <filesystem>
#include <stdexcept>

#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace fs = std::filesystem;

void write_slice(const std::string& name, unsigned count, const std::string& folder) {
  const std::string source = "/usr/share/datasets/fashion-mnist/" + name + ".gz";
  const bool images = name.find("images") != std::string::npos;
  const std::size_t header = images ? 16 : 8;
  std::string bytes(header + count * (images ? 28 * 28 : 1), '\0');
  gzFile file = gzopen(source.c_str(), "rb");
  const int got =
      file == nullptr ? -1 : gzread(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  if (got != static_cast<int>(bytes.size())) throw std::runtime_error("cannot read " + source);
  // The number of items, big endian.
  bytes.replace(4, 4, {'\0', '\0', static_cast<char>(count / 256), static_cast<char>(count % 256)});
  write_file(fs::path(folder) / name, bytes);
}

void write_small_fashion_mnist(const std::string& folder) {
  fs::create_directory(folder);
  write_slice("train-images-idx3-ubyte", 600, folder);
  write_slice("train-labels-idx1-ubyte", 600, folder);
  write_slice("t10k-images-idx3-ubyte", 100, folder);
  write_slice("t10k-labels-idx1-ubyte", 100, folder);
}

}  // namespace evenkeel::cli
