// Runs the real program and gives what it printed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace evenkeel::cli {

// A folder of its own for each test, removed at its end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  // Names of the files in it, in order.
  std::vector<std::string> names() const;

 private:
  std::filesystem::path path_;
};

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& content);

struct Outcome {
  int code = -1;  // exit code; 128 + signal if a signal ended it
  std::string out;
  std::string err;
};

struct RunOptions {
  std::vector<std::pair<std::string, std::string>> environment = {};  // added
  std::int64_t largest_file = -1;  // limit on the size of a file, in bytes (a multiple of 512)
  // Descriptors to print to; without them, files whose content Outcome has.
  int out = -1;
  int err = -1;
};

// A descriptor that cannot be written, closed at the end.
class Unwritable {
 public:
  static Unwritable full_disk();    // ENOSPC
  static Unwritable closed_pipe();  // SIGPIPE, or EPIPE where that is ignored
  ~Unwritable();
  Unwritable(const Unwritable&) = delete;
  Unwritable& operator=(const Unwritable&) = delete;

  operator int() const { return descriptor_; }

 private:
  explicit Unwritable(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

// A program that runs, with its output in files.
class Process {
 public:
  explicit Process(const std::vector<std::string>& arguments, const RunOptions& options = {});
  void send(int signal) const;
  bool running();
  // What it printed on stderr so far.
  std::string err() const;
  Outcome wait();

 private:
  TemporaryDirectory output_;
  pid_t pid_ = 0;
  bool ended_ = false;
  int status_ = 0;
};

Outcome run(const std::vector<std::string>& arguments, const RunOptions& options = {});

// A .npy file of version 1.0 made byte by byte here, independently of the program's writer.
std::string npy_bytes(const std::string& header, const std::string& elements);
// The dictionary of a header, e.g. npy_dictionary("<f4", "(3, 4)").
std::string npy_dictionary(const std::string& descr, const std::string& shape,
                           const std::string& fortran_order = "False");

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace evenkeel::cli
