#include "cli/results_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace evenkeel::cli {
namespace {

// "88.12" or, of several, "88.12 (87.90 .. 88.40)"; "-" of none.
std::string mean_and_range(const std::vector<double>& values, int digits) {
  if (values.empty()) return "-";
  double sum = 0;
  for (const double value : values) sum += value;
  std::string text = fmt::format("{:.{}f}", sum / static_cast<double>(values.size()), digits);
  if (values.size() > 1) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    text += fmt::format(" ({:.{}f} .. {:.{}f})", *low, digits, *high, digits);
  }
  return text;
}

// All seeds of one network and norm.
struct Row {
  int seeds = 0;
  std::vector<double> accuracies;  // percent
  std::vector<double> losses;
  std::vector<double> seconds;
  std::map<std::string, int> statuses;

  void add(const lab::ArmResult& arm) {
    ++seeds;
    if (arm.test) accuracies.push_back(100 * arm.test->accuracy);
    if (!arm.train.empty()) losses.push_back(arm.train.back().loss);
    if (arm.steps > 0) seconds.push_back(arm.seconds);
    ++statuses[std::string(lab::name_of(arm.status))];
  }

  std::string status() const {
    if (statuses.size() == 1) return statuses.begin()->first;
    std::vector<std::string> parts;
    for (const auto& [name, count] : statuses) parts.push_back(fmt::format("{} {}", count, name));
    return fmt::format("{}", fmt::join(parts, ", "));
  }
};

}  // namespace

void print_table(const lab::Results& results) {
  const std::vector<std::string> header = {"network",    "norm",    "seeds", "test accuracy %",
                                           "train loss", "seconds", "status"};
  std::vector<std::vector<std::string>> lines = {header};
  for (const auto& network : results.networks) {
    for (const auto& norm : results.norms) {
      Row row;
      for (const auto& arm : results.arms) {
        if (arm.network == network && arm.norm == norm) row.add(arm);
      }
      lines.push_back({network, norm, fmt::to_string(row.seeds), mean_and_range(row.accuracies, 2),
                       mean_and_range(row.losses, 3), mean_and_range(row.seconds, 1),
                       row.status()});
    }
  }
  std::vector<std::size_t> widths(header.size());
  for (const auto& line : lines) {
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  }
  for (const auto& line : lines) {
    std::string text;
    for (std::size_t c = 0; c < line.size(); ++c)
      text += fmt::format("{:{}}  ", line[c], widths[c]);
    fmt::print("{}\n", text.substr(0, text.find_last_not_of(' ') + 1));
  }
}

}  // namespace evenkeel::cli
