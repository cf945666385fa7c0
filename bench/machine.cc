#include "bench/machine.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <algorithm>
#include <ctime>
#include <dnnl.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>

#include "evenkeel/runtime.h"

namespace evenkeel::bench {
namespace {

std::string first_line(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(": ") + 2);
  return "unknown";
}

}  // namespace

// Not sysconf: glibc counts the last level of the whole package there, though a core reaches only
// its own complex's share of it.
Caches caches() {
  Caches result;
  int last = 0;
  for (int index = 0;; ++index) {
    const std::string base = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/", index);
    const std::string size = first_line(base + "size");  // "1024K"
    if (size.empty()) break;
    if (first_line(base + "type") == "Instruction") continue;
    const int level = std::stoi(first_line(base + "level"));
    const std::int64_t bytes = std::stoll(size) << (size.back() == 'M' ? 20 : 10);
    if (level == 2) result.l2 = bytes;
    if (level > last) {
      last = level;
      result.last_level = bytes;
    }
  }
  if (!result.l2) throw std::runtime_error("no cache sizes in /sys/devices/system/cpu/cpu0/cache");
  return result;
}

nlohmann::json describe_machine() {
  const dnnl_version_t* onednn = dnnl::version();
  return {
      {"processor", processor()},
      {"cores", std::thread::hardware_concurrency()},
      {"l2_bytes", caches().l2},
      {"last_level_cache_bytes", caches().last_level},
      {"compiler",
#ifdef __clang__
       "Clang " __clang_version__
#else
       "GCC " __VERSION__
#endif
      },
      {"simd_target", simd_target()},
      {"evenkeel", version()},
      {"onednn", fmt::format("{}.{}.{}", onednn->major, onednn->minor, onednn->patch)},
      {"torch", TORCH_VERSION},
      {"date", fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)))},
  };
}

}  // namespace evenkeel::bench
