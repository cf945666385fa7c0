// Where and when a measurement was made, and with what.
#pragma once

#include <nlohmann/json.hpp>
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

nlohmann::json to_json(const Machine& machine);

// Of evenkeel, libtorch, the BLAS and the compiler of this library.
nlohmann::json versions_json();

// ISO 8601, e.g. 2024-01-31T10:00:00Z.
std::string utc_now();

// What compiled this library, e.g. "GCC 12.2.0".
std::string compiler_name();

}  // namespace evenkeel::lab
