// Building blocks of a page of text: tables and numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace evenkeel::cli {

// A table with right-aligned columns.
struct Table {
  std::vector<std::string> columns;  // headings
  std::vector<std::string> rows;     // headings
  std::function<std::string(std::int64_t row, std::int64_t column)> cell;
  std::function<bool(std::int64_t row, std::int64_t column)> bold;  // absent: none

  std::string text() const;
};

// "s1", "s2", ...
std::vector<std::string> numbered(const std::string& prefix, std::int64_t count);

// A number in as few digits as say it, at most six.
std::string number(double value);
// The same as an operand: a negative one in parentheses.
std::string operand(double value);
// Four decimals, for columns of results.
std::string decimal(double value);

// "term(0) + term(1) + ...": all of up to six terms, else the first three and the last.
std::string spelled_sum(std::int64_t count, const std::function<std::string(std::int64_t)>& term);

}  // namespace evenkeel::cli
