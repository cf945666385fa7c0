// What the report of `evenkeel lab` draws: charts as data.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lab/statistics.h"

namespace evenkeel::lab {

// How a number is written.
enum class Format : std::uint8_t {
  count,    // 1,234
  decimal,  // 4 significant digits
  percent,  // of a fraction: 0.123 is 12.3%
  points,   // difference of two fractions: 0.012 is +1.2 points
  power,    // 10⁻³
  ratio,    // 1.24x
};

struct Point {
  double x = 0;
  double y = 0;  // NaN: a gap in the line
  // An interval around y, drawn as a whisker on a dot or as a band around a line; NaN: none.
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

struct Series {
  enum class Style : std::uint8_t { line, dots };
  std::string label = {};  // empty: neither in the legend nor in tooltips
  // A normalization: none, batch, layer, lrn, group, instance, rms, other.
  std::string color = {};
  std::vector<Point> points = {};
  Style style = Style::line;
  bool thin = false;  // one of several seeds, drawn thin (line) or hollow (dots)
  int dash = 0;       // 0: solid, or round dots; 1, 2, ...: kinds of dashes, or of dots
};

struct Axis {
  std::string title = {};
  Format format = Format::decimal;
  bool log = false;
  // If given, x is an index into these names, and points stand beside each other.
  std::vector<std::string> categories = {};
};

struct Panel {
  std::string title = {};
  Axis x = {};
  Axis y = {};
  std::vector<Series> series = {};
};

struct Figure {
  std::string title = {};
  std::string caption = {};  // what one sees and how to read it
  std::vector<Panel> panels = {};
};

nlohmann::json to_json(const Interval& interval);
nlohmann::json to_json(const Figure& figure);
std::string_view name_of(Format format);
Format format_of(std::string_view name);  // decimal if there is none of this name
// The number as text, for sentences and tables in a terminal.
std::string format_number(double value, Format format);
// "+1.2 points [0.8, 1.6]"; of one seed "+1.2 points (one seed)".
std::string format_interval(const Interval& interval, Format format);

}  // namespace evenkeel::lab
