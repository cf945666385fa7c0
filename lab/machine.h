// The machine that a measurement was made on.
#pragma once

#include <string>

namespace evenkeel::lab {

struct Machine {
  std::string cpu;
  int cores = 0;
  double memory_gib = 0;
  std::string os;
  std::string simd_target;  // of evenkeel's kernels
};

// What cannot be found out is "unknown" or 0.
Machine this_machine();

// What compiled this library, e.g. "GCC 12.2.0".
std::string compiler_name();

}  // namespace evenkeel::lab
