#include "cli/page.h"

#include <fmt/color.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace evenkeel::cli {

std::string Table::text() const {
  std::size_t heading_width = 0;
  for (const std::string& heading : rows) heading_width = std::max(heading_width, heading.size());

  std::vector<std::vector<std::string>> cells(rows.size());
  std::vector<std::size_t> widths;
  for (const std::string& heading : columns) widths.push_back(heading.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < columns.size(); ++c) {
      cells[r].push_back(cell(static_cast<std::int64_t>(r), static_cast<std::int64_t>(c)));
      widths[c] = std::max(widths[c], cells[r][c].size());
    }
  }

  std::string out = fmt::format("  {:{}}", "", heading_width);
  for (std::size_t c = 0; c < columns.size(); ++c) {
    out += fmt::format("  {:>{}}", columns[c], widths[c]);
  }
  out += '\n';
  for (std::size_t r = 0; r < rows.size(); ++r) {
    out += fmt::format("  {:{}}", rows[r], heading_width);
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const std::string padded = fmt::format("  {:>{}}", cells[r][c], widths[c]);
      const bool marked = bold && bold(static_cast<std::int64_t>(r), static_cast<std::int64_t>(c));
      out += marked ? fmt::format(fmt::emphasis::bold, "{}", padded) : padded;
    }
    out += '\n';
  }
  return out;
}

std::vector<std::string> numbered(const std::string& prefix, std::int64_t count) {
  std::vector<std::string> names;
  for (std::int64_t i = 1; i <= count; ++i) names.push_back(fmt::format("{}{}", prefix, i));
  return names;
}

std::string number(double value) { return fmt::format("{:.6g}", value); }

std::string operand(double value) {
  return value < 0 ? fmt::format("({})", number(value)) : number(value);
}

std::string decimal(double value) { return fmt::format("{:.4f}", value); }

std::string spelled_sum(std::int64_t count, const std::function<std::string(std::int64_t)>& term) {
  std::string sum;
  for (std::int64_t i = 0; i < count; ++i) {
    if (count > 6 && i == 3) {
      sum += " + ...";
      i = count - 1;
    }
    sum += i == 0 ? term(i) : " + " + term(i);
  }
  return sum;
}

}  // namespace evenkeel::cli
