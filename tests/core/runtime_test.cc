#include "evenkeel/runtime.h"

#include <thread>

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

TEST(Runtime, TargetsCanBeSelectedAndRestored) {
  const auto runnable = runnable_simd_targets(), compiled = compiled_simd_targets();
  ASSERT_FALSE(runnable.empty());
  const std::string best = simd_target();
  for (const std::string& target : runnable) {
    EXPECT_NE(std::ranges::find(compiled, target), compiled.end());
    set_simd_target(target);
    EXPECT_EQ(simd_target(), target);
  }
  set_simd_target("");
  EXPECT_EQ(simd_target(), best);
}

TEST(Runtime, UnknownTargetsAreRefused) {
  const std::string before = simd_target();
  expect_error([] { set_simd_target("MMX"); }, {"'MMX' cannot run here", simd_target()});
  EXPECT_EQ(simd_target(), before);
}

TEST(Runtime, ThreadsAreThoseOfTheCallingThread) {
  const int before = num_threads();
  set_num_threads(3);
  EXPECT_EQ(num_threads(), 3);
  std::thread([] {
    set_num_threads(1);
    EXPECT_EQ(num_threads(), 1);
  }).join();
  EXPECT_EQ(num_threads(), 3);
  set_num_threads(before);
  expect_error([] { set_num_threads(0); }, {"threads is 0", "at least 1"});
}

TEST(Runtime, VersionHasThreeParts) { EXPECT_EQ(std::ranges::count(version(), '.'), 2); }

}  // namespace
}  // namespace evenkeel::testing
