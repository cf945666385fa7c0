#include "lab/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "evenkeel/error.h"

namespace evenkeel::lab {
namespace fs = std::filesystem;
namespace {

// Makes and opens a new file whose name starts with `prefix`; `path` receives its name. Unlike
// mkostemp's, its permissions are those that the user's umask gives to any new file.
int open_new_file(const std::string& prefix, fs::path& path) {
  for (int attempt = 0;; ++attempt) {
    path = fmt::format("{}.{}-{}", prefix, ::getpid(), attempt);
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0 || errno != EEXIST) return descriptor;
  }
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& target) : target_(target) {
  std::error_code ignored;
  if (fs::is_symlink(target_, ignored)) {
    const fs::path resolved = fs::weakly_canonical(target_, ignored);
    if (!ignored) target_ = resolved;
  }
  if (fs::exists(target_, ignored) && !fs::is_regular_file(target_, ignored)) {
    throw Error(fmt::format("{}: is not a regular file and cannot be replaced", target_.string()));
  }
  fs::path name;
  descriptor_ = open_new_file(target_.string() + ".partial", name);
  if (descriptor_ < 0) fail("cannot be written");
  temporary_ = name;
  struct stat old {};
  if (::stat(target_.c_str(), &old) == 0) ::fchmod(descriptor_, old.st_mode & 0777);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* what) const {
  throw Error(fmt::format("{}: {}: {}", target_.string(), what, std::strerror(errno)));
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, next, bytes);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("writing failed, an old file is kept");
    }
    next += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::commit() {
  // Some file systems report a full disk only now.
  if (::fsync(descriptor_) != 0) fail("writing failed, an old file is kept");
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0) fail("writing failed, an old file is kept");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("cannot be replaced");
  temporary_.clear();
}

void write_file(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

void require_writable_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    throw Error(fmt::format("{}: cannot be made: {}", directory.string(), error.message()));
  }
  fs::path probe;
  const int descriptor = open_new_file((directory / ".evenkeel").string(), probe);
  if (descriptor < 0) {
    throw Error(
        fmt::format("{}: no file can be made in it: {}", directory.string(), std::strerror(errno)));
  }
  ::close(descriptor);
  ::unlink(probe.c_str());
}

}  // namespace evenkeel::lab
