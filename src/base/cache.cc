#include "src/base/cache.h"

#include <fstream>
#include <string>

namespace evenkeel {
namespace {

// Bytes of the last level of cache that one core can fill, as the system describes it; 32 MB if it
// does not. Not sysconf, which adds up the caches of all cores of the package: 384 MB where a core
// has 32.
std::int64_t last_level_cache() {
  std::int64_t last_level = 0, size = 0;
  for (int index = 0; index < 10; ++index) {
    const std::string folder =
        "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    std::int64_t level = 0, units = 0;
    char unit = 'K';
    std::ifstream(folder + "level") >> level;
    std::ifstream(folder + "size") >> units >> unit;
    if (level <= last_level || units <= 0) continue;
    last_level = level;
    size = units << (unit == 'M' ? 20 : 10);
  }
  return size > 0 ? size : std::int64_t{32} << 20;
}

}  // namespace

bool exceeds_cache(std::int64_t bytes) {
  static const std::int64_t threshold = last_level_cache() / 16 * 5;
  return bytes >= threshold;
}

}  // namespace evenkeel
