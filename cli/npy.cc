#include "cli/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <system_error>

#include "evenkeel/error.h"

namespace evenkeel::cli {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "elements are read as they lie");

constexpr std::string_view magic = "\x93NUMPY";
// Far above the header of any plain array; NumPy itself refuses a longer one.
constexpr std::uint32_t longest_header = 10000;

// The end of the quoted string that the text starts with: behind its closing quote, or that of the
// text.
std::size_t end_of_string(std::string_view text) {
  std::size_t at = 1;
  while (at < text.size() && text[at] != text.front()) at += text[at] == '\\' ? 2 : 1;
  return std::min(at + 1, text.size());
}

// The text from the value of `key` on, in the header's Python dictionary; empty if it is not there.
// The fields of a structured type lie deeper than the keys, and may be named as they are.
std::string_view value_of(std::string_view dictionary, std::string_view key) {
  int depth = 0;
  while (!dictionary.empty()) {
    const char first = dictionary.front();
    if (first != '\'' && first != '"') {
      depth += (first == '{' || first == '[' || first == '(') ? 1 : 0;
      depth -= (first == '}' || first == ']' || first == ')') ? 1 : 0;
      dictionary.remove_prefix(1);
      continue;
    }
    const std::size_t end = end_of_string(dictionary);
    const bool found =
        depth == 1 && dictionary.substr(1, key.size()) == key && end == key.size() + 2;
    dictionary.remove_prefix(end);
    const std::string_view behind =
        dictionary.substr(std::min(dictionary.find_first_not_of(' '), dictionary.size()));
    if (!found || !behind.starts_with(':')) continue;
    return behind.substr(std::min(behind.find_first_not_of(" :"), behind.size()));
  }
  return {};
}

// Sizes between parentheses, e.g. "(3, 4)", "(3,)", "()" or, from Python 2, "(3L, 4L)".
bool parse_shape(std::string_view text, std::vector<std::int64_t>& shape) {
  if (!text.starts_with('(') || text.find(')') == std::string_view::npos) return false;
  text = text.substr(1, text.find(')') - 1);
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(" ,L"), text.size()));
    if (text.empty()) return true;
    std::int64_t size = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (error != std::errc() || size < 0) return false;
    shape.push_back(size);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  }
}

// What to save instead of elements of a type that is not read, e.g. ">f8": what keeps all that they
// are, if there is such a type.
std::string remedy_of(std::string_view type) {
  type.remove_prefix(std::min(type.find_first_not_of("<>|="), type.size()));
  const char kind = type.empty() ? '?' : type.front();
  int bytes = 0;
  std::from_chars(type.data() + (type.empty() ? 0 : 1), type.data() + type.size(), bytes);
  if (kind == 'c') return "save its parts, numpy.stack([array.real, array.imag], axis=-1)";
  const bool integers = kind == 'i' || kind == 'u';
  if (!integers && kind != 'f' && kind != 'b') return "save an array of numbers";
  if (bytes <= (integers ? 2 : 4)) return "save array.astype('<f4'), which keeps every value";
  if (bytes <= (integers ? 4 : 8)) return "save array.astype('<f8'), which keeps every value";
  return integers ? "save array.astype('<f8'), which keeps integers up to 2^53"
                  : "save array.astype('<f8'), the most precise type that is read";
}

// Whether elements lie in the same order by rows and by columns.
bool is_in_any_order(const std::vector<std::int64_t>& shape) {
  return std::ranges::count_if(shape, [](std::int64_t size) { return size != 1; }) <= 1 ||
         std::ranges::count(shape, 0) > 0;
}

// The number of bytes of the elements, or false if it does not fit in 63 bits.
bool count_bytes(const NpyHeader& header, std::int64_t& bytes) {
  bytes = header.element_bytes();
  for (const std::int64_t size : header.shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return false;
  }
  return true;
}

}  // namespace

NpyReader::NpyReader(const fs::path& path) : path_(path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) fail("no such file");
  if (!fs::is_regular_file(status)) fail("is not a regular file; .npy is read more than once");
  file_.reset(std::fopen(path.c_str(), "rbe"));
  if (!file_) fail(std::strerror(errno));

  const std::string text = read_header_text();
  const std::string_view descr = value_of(text, "descr");
  const std::string_view order = value_of(text, "fortran_order");
  if (descr.starts_with('[')) {
    fail("holds a structured array; save one plain array of float32 or float64");
  }
  if (!(descr.starts_with('\'') || descr.starts_with('"')) ||
      !(order.starts_with("True") || order.starts_with("False")) ||
      !parse_shape(value_of(text, "shape"), header_.shape)) {
    fail("damaged .npy header");
  }
  const std::string_view type = descr.substr(1, end_of_string(descr) - 2);
  if (type == "<f4") {
    header_.type = NpyHeader::Type::float32;
  } else if (type == "<f8") {
    header_.type = NpyHeader::Type::float64;
  } else {
    fail(fmt::format("holds elements of type '{}', expected float32 ('<f4') or float64 ('<f8'); {}",
                     type, remedy_of(type)));
  }
  if (order.starts_with("True") && !is_in_any_order(header_.shape)) {
    fail("is in Fortran (column) order; save numpy.ascontiguousarray(array)");
  }

  std::int64_t expected = 0;
  if (!count_bytes(header_, expected)) fail("damaged .npy header: the shape is too large");
  const auto found = static_cast<std::int64_t>(fs::file_size(path)) - data_offset_;
  if (found < expected) {
    fail(fmt::format("truncated: {} bytes of elements, the header announces {}", found, expected));
  }
  if (found > expected) {
    fail(fmt::format("{} bytes more than the header announces; one array a file is expected",
                     found - expected));
  }
}

void NpyReader::fail(const std::string& what) const {
  throw Error(fmt::format("{}: {}", path_.string(), what));
}

// Magic, version, length of the header (2 bytes in version 1, 4 later), header.
std::string NpyReader::read_header_text() {
  std::array<char, magic.size() + 2> start = {};
  if (std::fread(start.data(), 1, start.size(), file_.get()) != start.size() ||
      std::string_view(start.data(), magic.size()) != magic) {
    fail("is not a .npy file (wrong magic); write it with numpy.save");
  }
  const int version = static_cast<unsigned char>(start[magic.size()]);
  if (version < 1 || version > 3) {
    fail(fmt::format("version {} of the .npy format is not known, expected 1, 2 or 3", version));
  }
  std::uint32_t length = 0;
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  if (std::fread(&length, 1, length_bytes, file_.get()) != length_bytes) {
    fail("truncated .npy header");
  }
  if (length > longest_header) {
    fail(fmt::format("damaged .npy header: a length of {} bytes", length));
  }
  std::string text(length, '\0');
  if (std::fread(text.data(), 1, length, file_.get()) != length) fail("truncated .npy header");
  data_offset_ = static_cast<std::int64_t>(start.size() + length_bytes + length);
  return text;
}

void NpyReader::read(void* data, std::int64_t bytes) {
  const auto wanted = static_cast<std::size_t>(bytes);
  if (std::fread(data, 1, wanted, file_.get()) == wanted) return;
  fail(std::ferror(file_.get()) != 0 ? std::strerror(errno) : "truncated while it was read");
}

void NpyReader::rewind() {
  if (::fseeko(file_.get(), data_offset_, SEEK_SET) != 0) fail(std::strerror(errno));
}

NpyWriter::NpyWriter(const fs::path& path, const NpyHeader& header) : file_(path) {
  // A comma follows every size: Python needs it for one.
  std::string shape;
  for (const std::int64_t size : header.shape) shape += fmt::format("{},", size);
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                 header.type == NpyHeader::Type::float32 ? "<f4" : "<f8", shape);
  // The format pads the header with spaces and ends it with a line feed, so that the elements are
  // aligned to 64 bytes.
  const std::size_t before = magic.size() + 4;
  const std::size_t total = (before + text.size() + 1 + 63) / 64 * 64;
  text.resize(total - before - 1, ' ');
  text += '\n';
  const auto length = static_cast<std::uint16_t>(text.size());
  file_.write(magic);
  file_.write(std::string_view("\x01\x00", 2));
  file_.write(&length, sizeof length);
  file_.write(text);
}

void NpyWriter::write(const void* data, std::int64_t bytes) {
  file_.write(data, static_cast<std::size_t>(bytes));
}

}  // namespace evenkeel::cli
