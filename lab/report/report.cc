#include "lab/report/report.h"

#include <string_view>

#include "lab/report/assets.h"

namespace evenkeel::lab {
namespace {

// In JSON a '<' occurs only inside strings, where it may be written as \u003c: then nothing in the
// data can end the <script> element that holds it, or open a comment in it.
std::string inline_json(const nlohmann::json& value) {
  const std::string text =
      value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    if (c == '<') {
      escaped += "\\u003c";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

}  // namespace

std::string render_report(const nlohmann::json& results) {
  constexpr std::string_view opening = "{{";
  constexpr std::string_view closing = "}}";
  std::string page;
  std::string_view rest = find_asset("template.html");
  // One pass over the template: what is inserted is never searched for placeholders.
  for (size_t open = rest.find(opening); open != rest.npos; open = rest.find(opening)) {
    const size_t close = rest.find(closing, open);
    const std::string_view name = rest.substr(open + opening.size(), close - open - opening.size());
    page += rest.substr(0, open);
    if (name == "results.json") {
      page += inline_json(results);
    } else {
      page += find_asset(name);
    }
    rest.remove_prefix(close + closing.size());
  }
  page += rest;
  return page;
}

}  // namespace evenkeel::lab
