// What was measured of one case, as a row of the table and as an object of results.json.
#pragma once

#include <initializer_list>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bench/measure.h"

namespace evenkeel::bench {

struct Result {
  Case of;
  Caches caches;
  std::map<std::string, Timing> timings;       // by contestant; absent: it cannot do the case
  std::map<std::string, std::string> missing;  // why it is absent
  double f32_seconds = 0;  // of the same case in float; 0 if that was not measured, or is this one

  double seconds() const { return timings.at("evenkeel").seconds; }
  // Minimal bytes over the best streaming bandwidth.
  double limit_seconds() const;
  // The best loop that reads each group for a sum and again to write it; 0 if none was measured.
  double two_passes_seconds() const;
  double fraction_of_limit() const { return limit_seconds() / seconds(); }
  // The contestant's time over ours; 0 if it is absent.
  double versus(const std::string& contestant) const;
  double versus_f32() const { return f32_seconds / seconds(); }

 private:
  double fastest(std::initializer_list<const char*> names) const;
};

nlohmann::json to_json(const Result& result);
std::string table_header();
std::string table_row(const Result& result);

}  // namespace evenkeel::bench
