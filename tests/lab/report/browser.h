#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace evenkeel::lab {

struct Page {
  std::string html;
  int width = 1280;         // of the viewport, in CSS pixels
  std::string script = {};  // run on the page once it is drawn, e.g. to press a button
};

/// Opens the pages, side by side as frames, in headless Chromium and gives for each what probe.js
/// read off it. Throws std::runtime_error if Chromium is missing or a page does not answer.
std::vector<nlohmann::json> open_pages(const std::vector<Page>& pages, bool dark = false);

/// The first drawn chart of an opened page whose description starts like this. Throws
/// std::runtime_error if there is none.
const nlohmann::json& chart(const nlohmann::json& page, const std::string& start);

}  // namespace evenkeel::lab
