#include "tests/lab/report/browser.h"

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace evenkeel::lab {
namespace {

namespace fs = std::filesystem;

// A new directory that goes with its object.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (fs::temp_directory_path() / "evenkeel-report-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot create " + pattern);
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;  // Chromium's helpers may still be writing their last files
    fs::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// The page with the script and the probe as its last scripts.
std::string instrumented(const Page& page, size_t index) {
  const size_t end = page.html.rfind("</body>");
  if (end == std::string::npos) throw std::runtime_error("the page has no </body>");
  const std::string scripts = "<script>addEventListener(\"DOMContentLoaded\", () => {" +
                              page.script + "});</script>" +
                              "<script>const page_index = " + std::to_string(index) + ";" +
                              read(EVENKEEL_PROBE_JS) + "</script>";
  return page.html.substr(0, end) + scripts + page.html.substr(end);
}

// Collects in <script id="reports"> what the frames' probes post.
constexpr const char* frames_start = R"(<!DOCTYPE html><meta charset="utf-8">
<script type="application/json" id="reports">[]</script>
<script>
addEventListener("message", ({data}) => {
  const store = document.getElementById("reports");
  const reports = JSON.parse(store.textContent);
  reports[data.index] = data;
  store.textContent = JSON.stringify(reports).replaceAll("<", "\\u003c");
});
</script>
)";

}  // namespace

std::vector<nlohmann::json> open_pages(const std::vector<Page>& pages, bool dark) {
  if (std::system("command -v chromium >/dev/null 2>&1") != 0) {
    throw std::runtime_error("chromium is not on the PATH: install the package chromium");
  }
  const TemporaryDirectory directory;
  std::string frames = frames_start;
  for (size_t i = 0; i < pages.size(); ++i) {
    const std::string name = "page" + std::to_string(i) + ".html";
    write(directory.path() / name, instrumented(pages[i], i));
    frames += "<iframe src=\"" + name +
              "\" style=\"border: 0; height: 900px; width: " + std::to_string(pages[i].width) +
              "px\"></iframe>\n";
  }
  write(directory.path() / "frames.html", frames);

  const std::string at = directory.path().string();
  // Virtual time runs while something is left to load or to run, and not longer than it takes.
  const std::string command =
      "timeout 120 chromium --headless=new --no-sandbox --disable-gpu --virtual-time-budget=10000"
      " --user-data-dir=" +
      at + "/profile" + (dark ? " --blink-settings=preferredColorScheme=0" : "") +
      " --dump-dom file://" + at + "/frames.html >" + at + "/dom.html 2>" + at + "/log.txt";
  if (std::system(command.c_str()) != 0) {
    throw std::runtime_error("chromium failed:\n" + read(directory.path() / "log.txt"));
  }

  const std::string dom = read(directory.path() / "dom.html");
  const std::string open = "id=\"reports\">";
  const size_t start = dom.find(open);
  if (start == std::string::npos) throw std::runtime_error("chromium gave back no page:\n" + dom);
  const size_t from = start + open.size();
  const auto reports = nlohmann::json::parse(dom.substr(from, dom.find("</script>", from) - from));
  for (size_t i = 0; i < pages.size(); ++i) {
    if (i >= reports.size() || reports[i].is_null()) {
      throw std::runtime_error("page " + std::to_string(i) + " did not answer");
    }
  }
  return reports;
}

const nlohmann::json& chart(const nlohmann::json& page, const std::string& start) {
  for (const auto& drawn : page.at("drawn")) {
    if (drawn.at("label").get<std::string>().starts_with(start)) return drawn;
  }
  throw std::runtime_error("no chart is described as " + start);
}

}  // namespace evenkeel::lab
