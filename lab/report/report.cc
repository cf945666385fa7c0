#include "lab/report/report.h"

#include <initializer_list>
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

// The template with the title, the results and the page's own scripts, each by its file name.
std::string fill_template(std::string_view title, const nlohmann::json& results,
                          std::initializer_list<std::string_view> scripts) {
  constexpr std::string_view opening = "{{";
  constexpr std::string_view closing = "}}";
  std::string page;
  std::string_view rest = find_asset("template.html");
  // One pass over the template: what is inserted is never searched for placeholders.
  for (size_t open = rest.find(opening); open != rest.npos; open = rest.find(opening)) {
    const size_t close = rest.find(closing, open);
    const std::string_view name = rest.substr(open + opening.size(), close - open - opening.size());
    page += rest.substr(0, open);
    if (name == "title") {
      page += title;
    } else if (name == "results.json") {
      page += inline_json(results);
    } else if (name == "scripts") {
      for (const std::string_view script : scripts) {
        page.append("<script>\n").append(find_asset(script)).append("</script>\n");
      }
    } else {
      page += find_asset(name);
    }
    rest.remove_prefix(close + closing.size());
  }
  page += rest;
  return page;
}

}  // namespace

std::string render_report(const nlohmann::json& results) {
  return fill_template("evenkeel compare", results, {"report.js"});
}

std::string render_lab_report(const nlohmann::json& results) {
  nlohmann::json shown = results;
  const auto experiments = shown.find("experiments");
  if (experiments != shown.end()) {
    for (nlohmann::json& experiment : *experiments) {
      if (experiment.is_object()) experiment.erase("runs");  // megabytes that no chart needs
    }
  }
  return fill_template("evenkeel lab", shown,
                       {"lab_numbers.js", "lab_figures.js", "lab_report.js"});
}

}  // namespace evenkeel::lab
