// The page that every normalization by mean and variance, or by mean square, has in common: groups,
// statistics, normalized values, scale and shift, and one value by hand.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cli/worked_example.h"
#include "evenkeel/moments.h"

namespace evenkeel::cli {

// What a layer puts into one group, and how its page names things.
struct Grouping {
  std::function<std::int64_t(std::int64_t sample, std::int64_t column)> group_of;
  std::vector<std::string> names;    // of the groups: "f1", "s1"
  std::vector<std::string> columns;  // headings of the input's columns
  std::string input;                 // "2 samples x 4 features"
  std::string first_value;           // "sample s1, feature f1"
  std::string weight_unit;           // what has a weight of its own: "feature" or "channel"
};

// What the library computed.
struct Worked {
  // By group. Of a layer that subtracts no mean they are the moments of the squares.
  std::vector<Moments> moments;
  std::vector<double> rstd;
  Matrix normalized;  // x^
  Matrix y;
};

// `bold` marks the group that is worked out by hand, the first one. `centered`: whether the layer
// subtracts the mean and adds a bias; one that does not, RMSNorm, divides by the root of the mean
// square.
std::string norm_page(const NormExample& example, const Grouping& grouping, const Worked& worked,
                      bool centered, bool bold);

}  // namespace evenkeel::cli
