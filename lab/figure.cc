#include "lab/figure.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "lab/json_files.h"

namespace evenkeel::lab {
namespace {

using nlohmann::json;

json to_json(const Point& point) {
  if (std::isnan(point.low) && std::isnan(point.high)) return {point.x, point.y};
  return {point.x, point.y, point.low, point.high};
}

json to_json(const Series& series) {
  json points = json::array();
  for (const auto& point : series.points) points.push_back(to_json(point));
  return {{"label", series.label},
          {"color", series.color},
          {"style", series.style == Series::Style::line ? "line" : "dots"},
          {"thin", series.thin},
          {"dash", series.dash},
          {"points", std::move(points)}};
}

json to_json(const Axis& axis) {
  return {{"title", axis.title},
          {"format", name_of(axis.format)},
          {"log", axis.log},
          {"categories", axis.categories}};
}

json to_json(const Panel& panel) {
  json series = json::array();
  for (const auto& one : panel.series) series.push_back(to_json(one));
  return {{"title", panel.title},
          {"x", to_json(panel.x)},
          {"y", to_json(panel.y)},
          {"series", std::move(series)}};
}

// The numbers of an interval, whose unit stands once before it.
std::string without_unit(double value, Format format) {
  switch (format) {
    case Format::percent:
      return fmt::format("{:.1f}", 100 * value);
    case Format::points:
      return fmt::format("{:+.1f}", 100 * value);
    case Format::ratio:
      return fmt::format("{:.3g}", value);
    default:
      return format_number(value, format);
  }
}

}  // namespace

json to_json(const Interval& interval) {
  return {{"mean", interval.mean},
          {"low", interval.low},
          {"high", interval.high},
          {"count", interval.count}};
}

json to_json(const Figure& figure) {
  json panels = json::array();
  for (const auto& panel : figure.panels) panels.push_back(to_json(panel));
  return {{"title", figure.title}, {"caption", figure.caption}, {"panels", std::move(panels)}};
}

std::string_view name_of(Format format) {
  constexpr std::array<std::string_view, 6> names = {"count",  "decimal", "percent",
                                                     "points", "power",   "ratio"};
  return names.at(static_cast<std::size_t>(format));
}

Format format_of(std::string_view name) {
  for (const auto format : {Format::count, Format::decimal, Format::percent, Format::points,
                            Format::power, Format::ratio}) {
    if (name_of(format) == name) return format;
  }
  return Format::decimal;
}

std::string format_number(double value, Format format) {
  if (std::isnan(value)) return "-";
  switch (format) {
    case Format::count:
      return fmt::format("{:.0f}", value);
    case Format::decimal:
      return fmt::format("{:.4g}", value);
    case Format::percent:
      return fmt::format("{:.1f}%", 100 * value);
    case Format::points:
      return fmt::format("{:+.1f} points", 100 * value);
    case Format::power:
      return fmt::format("{:.1e}", value);
    case Format::ratio:
      return fmt::format("{:.3g}x", value);
  }
  return "";
}

std::string format_interval(const Interval& interval, Format format) {
  const std::string mean = format_number(interval.mean, format);
  if (interval.count == 1) return mean + " (one seed)";
  if (!interval.known()) return mean;
  return fmt::format("{} [{}, {}]", mean, without_unit(interval.low, format),
                     without_unit(interval.high, format));
}

}  // namespace evenkeel::lab
