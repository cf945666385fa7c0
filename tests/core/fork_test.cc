// Operations in the child of a fork(), which has none of its parent's threads but the one that
// called it.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "tests/core/testing.h"

#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#endif

namespace evenkeel::testing {
namespace {

// Enough for four threads.
const Shape kShape{64, 8, 512};

std::vector<float> normalized(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  batch_norm_forward<float>({.x = view(x, kShape), .y = view(y, kShape)});
  return y;
}

// Whether f() is true in a child of this process. One that hangs is ended.
template <class F>
::testing::AssertionResult holds_in_child(const F& f) {
  const pid_t child = fork();
  if (child == 0) _exit(f() ? 0 : 1);
  if (child < 0) return ::testing::AssertionFailure() << "fork failed";
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return ::testing::AssertionFailure() << "the child hangs";
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "the child ended with status " << status;
}

class Fork : public ::testing::Test {
 protected:
  Fork() { set_num_threads(4); }
  ~Fork() override { set_num_threads(before_); }

 private:
  int before_ = num_threads();
};

TEST_F(Fork, AChildOfAProcessWithThreadsRunsOnOne) {
  const auto x = random_values<float>(kShape.size());
  const auto expected = normalized(x);
  EXPECT_TRUE(holds_in_child([&] { return normalized(x) == expected && num_threads() == 1; }));
  // What it sets changes nothing, nor does a thread or a child of its own.
  EXPECT_TRUE(holds_in_child([&] {
    set_num_threads(2);
    bool same = num_threads() == 1;
    std::thread([&] { same = same && normalized(x) == expected; }).join();
    return same && holds_in_child([&] { return normalized(x) == expected; });
  }));
  EXPECT_EQ(num_threads(), 4);
  EXPECT_EQ(normalized(x), expected);
}

#ifdef __GLIBC__
// In a process of its own, which has had no thread yet.
TEST_F(Fork, AChildOfAProcessWithoutThreadsMayHaveThem) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const int expected = __libc_single_threaded ? 4 : 1;
        const auto x = random_values<float>(kShape.size());
        const bool holds = static_cast<bool>(holds_in_child([&] {
          return num_threads() == expected && !normalized(x).empty() &&
                 // Now it has threads, and its own child none.
                 holds_in_child([&] { return num_threads() == 1 && !normalized(x).empty(); });
        }));
        _exit(holds ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}
#endif

}  // namespace
}  // namespace evenkeel::testing
