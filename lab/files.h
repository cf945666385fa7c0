// Files that are written whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace evenkeel::lab {

// A file that replaces its target only when it is complete. Writes go to a temporary file in the
// target's folder; commit() makes them last on disk and renames the temporary over the target.
// Until then, and after any failure, an old target is as it was, and the destructor removes the
// temporary. Every failure throws Error with the path and the system's reason. A target that is a
// symbolic link is replaced where it points, and an existing target keeps its permissions.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

// Replaces the content of a file by way of AtomicFile.
void write_file(const std::filesystem::path& path, std::string_view content);

// Creates the directory, and its parents, if missing, and proves that a file can be made in it.
// Throws Error otherwise.
void require_writable_directory(const std::filesystem::path& directory);

}  // namespace evenkeel::lab
