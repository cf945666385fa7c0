// libtorch has a reader of its own, torch::data::datasets::MNIST, but it opens only files that are
// not compressed, under fixed names, and takes the header's word for what follows.
#include "lab/idx.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "evenkeel/error.h"

namespace evenkeel::lab {
namespace {

namespace fs = std::filesystem;

// 0x08 says unsigned bytes, the last byte the number of dimensions.
constexpr std::uint32_t magic_of(std::uint32_t dimensions) { return 0x0800 + dimensions; }

class IdxFile {
 public:
  explicit IdxFile(const fs::path& path) : path_(path) {
    if (!fs::exists(path)) fail("there is no such file");
    if (!fs::is_regular_file(path)) fail("is not a file");
    errno = 0;
    // gzopen reads a file that is not compressed as it is.
    file_.reset(gzopen(path.c_str(), "rb"));
    if (!file_) fail(fmt::format("cannot be opened: {}", std::strerror(errno)));
  }

  // The sizes of the dimensions.
  template <std::size_t Dimensions>
  std::array<std::int64_t, Dimensions> header(const char* what) {
    const std::uint32_t magic = big_endian();
    if (magic != magic_of(Dimensions)) {
      fail(fmt::format("expected an IDX file of {} (magic 0x{:08x}), got magic 0x{:08x}", what,
                       magic_of(Dimensions), magic));
    }
    std::array<std::int64_t, Dimensions> sizes;
    for (auto& size : sizes) size = big_endian();
    return sizes;
  }

  // All that follows the header, which must be exactly `count` bytes. Memory grows with what is
  // there, not with what a damaged header claims.
  std::vector<std::uint8_t> bytes(std::int64_t count) {
    constexpr std::int64_t chunk = std::int64_t{1} << 22;
    std::vector<std::uint8_t> content;
    std::int64_t have = 0;
    while (have < count) {
      const std::int64_t want = std::min(chunk, count - have);
      content.resize(static_cast<std::size_t>(have + want));
      const std::int64_t got = read(content.data() + have, want);
      have += got;
      if (got < want) {
        fail(fmt::format("expected {} bytes after the header, got {}: the file is truncated", count,
                         have));
      }
    }
    std::uint8_t extra = 0;
    if (read(&extra, 1) != 0) {
      fail(fmt::format("expected {} bytes after the header, got more", count));
    }
    return content;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(fmt::format("{}: {}", path_.string(), what));
  }

 private:
  // Reads up to `count` bytes (at most a chunk); fewer only at the end of the file.
  std::int64_t read(std::uint8_t* out, std::int64_t count) {
    const int got = gzread(file_.get(), out, static_cast<unsigned>(count));
    int code = Z_OK;
    const char* message = gzerror(file_.get(), &code);
    // Z_BUF_ERROR: the compressed stream ends too early, which shows as too few bytes.
    if (code == Z_ERRNO) fail(fmt::format("cannot be read: {}", std::strerror(errno)));
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
      fail(fmt::format("cannot be unpacked: {}", message));
    }
    return std::max(got, 0);
  }

  std::uint32_t big_endian() {
    std::array<std::uint8_t, 4> b;
    if (read(b.data(), 4) != 4) fail("the file ends within its header");
    return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
  }

  struct Close {
    void operator()(gzFile file) const { gzclose(file); }
  };

  fs::path path_;
  std::unique_ptr<gzFile_s, Close> file_;
};

}  // namespace

IdxImages read_idx_images(const fs::path& path) {
  IdxFile file(path);
  const auto [count, rows, cols] = file.header<3>("images");
  constexpr std::int64_t largest_side = 4096;
  if (count == 0 || rows == 0 || cols == 0 || rows > largest_side || cols > largest_side) {
    file.fail(fmt::format("expected images of 1 to {0} x 1 to {0} pixels, got {1} of {2} x {3}",
                          largest_side, count, rows, cols));
  }
  return {count, rows, cols, file.bytes(count * rows * cols)};
}

std::vector<std::uint8_t> read_idx_labels(const fs::path& path) {
  IdxFile file(path);
  const auto [count] = file.header<1>("labels");
  return file.bytes(count);
}

}  // namespace evenkeel::lab
