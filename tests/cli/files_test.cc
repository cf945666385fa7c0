#include "lab/files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "evenkeel/error.h"
#include "tests/cli/testing.h"

namespace evenkeel::lab {
namespace {

namespace fs = std::filesystem;
using cli::read_file;
using cli::TemporaryDirectory;

template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Stands for a full disk: with a limit of 4096 bytes on the size of a file, write(2) fails halfway,
// as with ENOSPC, but with EFBIG. It needs neither root nor a file system of its own.
class SmallFiles {
 public:
  SmallFiles() : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit small{4096, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallFiles() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST(AtomicFile, ReplacesTheTargetOnlyWhenCommitted) {
  const TemporaryDirectory folder;
  const std::string path = folder / "target";
  cli::write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
    EXPECT_EQ(read_file(path), "old");
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"target"});

  AtomicFile file(path);
  file.write("new ");
  file.write("content", 7);
  file.commit();
  EXPECT_EQ(read_file(path), "new content");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"target"});
}

TEST(AtomicFile, AFullDiskKeepsTheOldFile) {
  const TemporaryDirectory folder;
  const std::string path = folder / "target";
  cli::write_file(path, "old");
  {
    const SmallFiles small;
    const std::string error = error_of([&] { write_file(path, std::string(5000, 'x')); });
    EXPECT_TRUE(contains(error, path)) << error;
    EXPECT_TRUE(contains(error, "File too large")) << error;
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"target"});
}

TEST(AtomicFile, TwoAtOnceDoNotMeet) {
  const TemporaryDirectory folder;
  AtomicFile first(folder / "target");
  AtomicFile second(folder / "target");
  first.write("first");
  second.write("second");
  first.commit();
  EXPECT_EQ(read_file(folder / "target"), "first");
  second.commit();
  EXPECT_EQ(read_file(folder / "target"), "second");
}

TEST(AtomicFile, KeepsPermissionsAndFollowsLinks) {
  const TemporaryDirectory folder;
  fs::create_directory(folder / "elsewhere");
  cli::write_file(folder / "elsewhere/target", "old");
  fs::permissions(folder / "elsewhere/target", fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("elsewhere/target", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "elsewhere/target"), "new");
  EXPECT_EQ(fs::status(folder / "elsewhere/target").permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST(AtomicFile, ANewFileGetsThePermissionsOfTheUmask) {
  const TemporaryDirectory folder;
  const mode_t old = ::umask(027);
  write_file(folder / "target", "x");
  ::umask(old);
  EXPECT_EQ(static_cast<int>(fs::status(folder / "target").permissions()), 0640);
}

TEST(AtomicFile, NamesTheFileThatCannotBeWritten) {
  const TemporaryDirectory folder;
  const std::string missing = folder / "missing/target";
  EXPECT_EQ(error_of([&] { AtomicFile file(missing); }),
            missing + ": cannot be written: No such file or directory");
  EXPECT_TRUE(contains(error_of([] { AtomicFile file("/dev/full"); }), "not a regular file"));
  EXPECT_TRUE(contains(error_of([&] { AtomicFile file(folder.path()); }), "not a regular file"));
}

TEST(RequireWritableDirectory, MakesItWithItsParents) {
  const TemporaryDirectory folder;
  require_writable_directory(folder / "a/b/c");
  EXPECT_TRUE(fs::is_empty(folder / "a/b/c"));
  require_writable_directory(folder / "a/b/c");
}

// Not by permissions, which root does not heed.
TEST(RequireWritableDirectory, RefusesAPathBelowAFileAndAFile) {
  const TemporaryDirectory folder;
  cli::write_file(folder / "file", "");
  EXPECT_TRUE(contains(error_of([&] { require_writable_directory(folder / "file/below"); }),
                       folder / "file/below: "));
  EXPECT_TRUE(
      contains(error_of([&] { require_writable_directory(folder / "file"); }), folder / "file: "));
  // A directory in which nobody can make a file.
  EXPECT_TRUE(contains(error_of([] { require_writable_directory("/proc/self"); }), "/proc/self: "));
}

}  // namespace
}  // namespace evenkeel::lab
