#include "bench/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace evenkeel::bench {
namespace {

std::string ratio(double value) { return value > 0 ? fmt::format("{:.2f}x", value) : "-"; }

nlohmann::json number_or_null(double value) {
  return value > 0 ? nlohmann::json(value) : nlohmann::json(nullptr);
}

}  // namespace

double Result::fastest(std::initializer_list<const char*> names) const {
  double best = std::numeric_limits<double>::infinity();
  for (const char* name : names)
    if (const auto it = timings.find(name); it != timings.end())
      best = std::min(best, it->second.seconds);
  return best;
}

double Result::limit_seconds() const {
  const int streams = of.streams(caches);
  return fastest({"copy", "copy_nt", "add", "add_nt"}) * streams / streams_moved(streams);
}

double Result::two_passes_seconds() const {
  const double seconds = fastest({"two_passes", "two_passes_prefetched"});
  return std::isfinite(seconds) ? seconds : 0;
}

double Result::versus(const std::string& contestant) const {
  const auto it = timings.find(contestant);
  return it == timings.end() ? 0 : it->second.seconds / seconds();
}

nlohmann::json to_json(const Result& r) {
  nlohmann::json json = {
      {"op", to_string(r.of.op)},
      {"direction", to_string(r.of.direction)},
      {"shape", r.of.shape()},
      {"layout", to_string(r.of.order)},
      {"dtype", to_string(r.of.dtype)},
      {"threads", r.of.threads},
      {"residency", r.of.cold(r.caches) ? "cold" : "cache"},
      {"streams", r.of.streams(r.caches)},
      {"bytes", r.of.streams(r.caches) * r.of.tensor_bytes()},
      {"seconds", r.seconds()},
      {"limit_seconds", r.limit_seconds()},
      {"fraction_of_limit", r.fraction_of_limit()},
      {"two_passes_seconds", number_or_null(r.two_passes_seconds())},
      {"vs_onednn", number_or_null(r.versus("onednn"))},
      {"vs_onednn_blocked", number_or_null(r.versus("onednn_blocked"))},
      {"vs_torch", number_or_null(r.versus("torch"))},
      {"vs_unfused", number_or_null(r.versus("unfused"))},
      {"vs_f32", number_or_null(r.versus_f32())},
      {"missing", r.missing},
  };
  if (r.of.fused()) json["unfused_streams"] = r.of.unfused_streams(r.caches);
  for (const auto& [name, timing] : r.timings)
    json["contestants"][name] = {
        {"median", timing.median}, {"min", timing.min}, {"max", timing.max}};
  return json;
}

std::string table_header() {
  return fmt::format(
      "{:<19} {:<9} {:<15} {:<6} {:<5} {:>3} {:<5} {:>10} {:>15} {:>7} {:>6} {:>8} "
      "{:>8} {:>8} {:>8} {:>6}",
      "op", "direction", "shape", "layout", "dtype", "thr", "data", "ms", "min-max", "GB/s",
      "limit", "onednn", "blocked", "torch", "unfused", "f32");
}

std::string table_row(const Result& r) {
  const Timing& ours = r.timings.at("evenkeel");
  const auto bytes = static_cast<double>(r.of.streams(r.caches) * r.of.tensor_bytes());
  return fmt::format(
      "{:<19} {:<9} {:<15} {:<6} {:<5} {:>3} {:<5} {:>10.4g} {:>15} {:>7.1f} {:>5.0f}% {:>8} {:>8} "
      "{:>8} {:>8} {:>6}",
      to_string(r.of.op), to_string(r.of.direction), r.of.shape(), to_string(r.of.order),
      to_string(r.of.dtype), r.of.threads, r.of.cold(r.caches) ? "cold" : "cache",
      ours.seconds * 1e3, fmt::format("{:.4g}-{:.4g}", ours.min * 1e3, ours.max * 1e3),
      bytes / ours.seconds * 1e-9, 100 * r.fraction_of_limit(), ratio(r.versus("onednn")),
      ratio(r.versus("onednn_blocked")), ratio(r.versus("torch")), ratio(r.versus("unfused")),
      ratio(r.versus_f32()));
}

}  // namespace evenkeel::bench
