#include "lab/machine.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <torch/version.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <string_view>
#include <thread>

#include "evenkeel/runtime.h"
#include "lab/blas.h"

namespace evenkeel::lab {
namespace {

// The text after `separator` on the first line of a file that starts with `key`.
std::string field(const char* path, std::string_view key, char separator) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const auto start = line.find_first_not_of(" \t\"", line.find(separator) + 1);
    const auto end = line.find_last_not_of(" \t\"");
    if (start != std::string::npos && end >= start) return line.substr(start, end - start + 1);
  }
  return "unknown";
}

double memory_gib() {
  const double bytes = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                       static_cast<double>(::sysconf(_SC_PAGE_SIZE));
  return std::round(bytes / (1 << 30) * 10) / 10;
}

}  // namespace

Machine this_machine() {
  return {.cpu = field("/proc/cpuinfo", "model name", ':'),
          .cores = static_cast<int>(std::thread::hardware_concurrency()),
          .memory_gib = memory_gib(),
          .os = field("/etc/os-release", "PRETTY_NAME", '='),
          .simd_target = simd_target()};
}

std::string compiler_name() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

nlohmann::json to_json(const Machine& machine) {
  return {{"cpu", machine.cpu},
          {"cores", machine.cores},
          {"memory_gib", machine.memory_gib},
          {"os", machine.os},
          {"simd_target", machine.simd_target}};
}

nlohmann::json versions_json() {
  return {{"evenkeel", version()},
          {"libtorch", TORCH_VERSION},
          {"blas", blas_name()},
          {"compiler", compiler_name()}};
}

std::string utc_now() {
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

}  // namespace evenkeel::lab
