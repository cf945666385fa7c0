#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace evenkeel::lab {

/// The report of `evenkeel compare` as one HTML page, from the results described in
/// docs/results-format.md. The page holds its style, its scripts, Chart.js and the results, and
/// asks nothing of the network. Missing keys, nulls and empty arrays are drawn as "no data"; text
/// from the results is shown as text, whatever it contains. Invalid UTF-8 is replaced.
std::string render_report(const nlohmann::json& results);

/// The report of `evenkeel lab` in the same manner, from its results.json: the claims with their
/// verdicts, then a section for each experiment. The raw trials, `runs`, stay out of the page.
std::string render_lab_report(const nlohmann::json& results);

}  // namespace evenkeel::lab
