// Kernels that compute nothing: they count the values that each thread is given.
#pragma once

#include <cstdint>
#include <vector>

namespace evenkeel::testing {

// A kind of pass: balance matters for each by itself, since threads wait for each other between
// them.
enum class Pass : std::uint8_t { sum, merge, write };
inline constexpr int kPasses = 3;

// Values by thread, of a kind of pass.
struct Counts {
  std::vector<std::int64_t> of_thread;
  std::int64_t serial = 0;  // outside of parallel regions

  std::int64_t total() const;
  std::int64_t largest() const;
};

// Starts counting for so many threads, which operations then use.
void start_counting(int threads);
// What was counted since.
const Counts& counted(Pass pass);

}  // namespace evenkeel::testing
