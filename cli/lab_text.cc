#include "cli/lab_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <sstream>

#include "cli/progress.h"
#include "lab/figure.h"
#include "lab/json_files.h"

namespace evenkeel::cli {
namespace {

using nlohmann::json;

// Of UTF-8.
std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// Lines of at most 80 columns, each behind `indent`.
std::string wrapped(const std::string& text, std::string_view indent) {
  constexpr std::size_t width = 80;
  std::istringstream words(text);
  std::string lines;
  std::string line;
  for (std::string word; words >> word;) {
    if (!line.empty() && columns(indent) + columns(line) + 1 + columns(word) > width) {
      lines += fmt::format("{}{}\n", indent, line);
      line.clear();
    }
    line += line.empty() ? word : " " + word;
  }
  return line.empty() ? lines : fmt::format("{}{}{}\n", lines, indent, line);
}

std::string estimate(double minutes) {
  if (minutes < 1) return fmt::format("{:.0f} s", std::ceil(60 * minutes));
  return minutes < 90 ? fmt::format("{:.0f} min", minutes) : fmt::format("{:.1f} h", minutes / 60);
}

lab::Interval interval_of(const json& interval) {
  return {.mean = lab::number_of(interval.at("mean")),
          .low = lab::number_of(interval.at("low")),
          .high = lab::number_of(interval.at("high")),
          .count = interval.at("count").get<int>()};
}

std::string verdict_of(const json& experiment) {
  const json& verdict = experiment.at("verdict");
  if (!verdict.is_null()) {
    return verdict_words(verdict.at("answer").get<std::string>(),
                         verdict.at("depends_on").get<std::string>());
  }
  const std::size_t failed = experiment.at("errors").size();
  if (failed > 0) return fmt::format("{} failed", failed);
  const auto measured = experiment.at("measured").get<std::int64_t>();
  const auto trials = experiment.at("trials").get<std::int64_t>();
  return measured == 0 ? "not started" : fmt::format("{} of {} trials", measured, trials);
}

std::string number_in(const json& verdict) {
  if (verdict.is_null()) return "-";
  const lab::Format format = lab::format_of(verdict.at("format").get<std::string>());
  return fmt::format("{}: {}", lab::format_interval(interval_of(verdict.at("number")), format),
                     verdict.at("number_is").get<std::string>());
}

// Many experiments may say the same, e.g. that one seed was run.
struct Note {
  std::string ids;
  std::string text;
};

// What a reader of one line of the table should know beside it.
std::vector<std::string> notes_on(const json& experiment) {
  const auto trials = experiment.at("trials").get<std::int64_t>();
  const auto reused = experiment.at("reused").get<std::int64_t>();
  std::vector<std::string> notes;
  const json& verdict = experiment.at("verdict");
  if (!verdict.is_null()) notes = verdict.at("warnings").get<std::vector<std::string>>();
  if (reused > 0) {
    notes.push_back(fmt::format("{} of {} trials are an earlier run's; their time is counted too.",
                                reused, trials));
  }
  return notes;
}

}  // namespace

std::string list_of(const std::vector<lab::Experiment>& experiments) {
  std::string text;
  double quick = 0;
  double full = 0;
  for (const lab::Experiment& experiment : experiments) {
    text += fmt::format("{}: {}\n", experiment.id, experiment.title);
    text += wrapped(experiment.claim, "  ");
    text += wrapped("Source: " + experiment.source, "  ");
    text += fmt::format("  Time: {} quick, {} full\n\n", estimate(experiment.quick_minutes),
                        estimate(experiment.full_minutes));
    quick += experiment.quick_minutes;
    full += experiment.full_minutes;
  }
  return text + fmt::format("All {}: {} quick, {} full. Times are estimates for 2 cores.\n",
                            experiments.size(), estimate(quick), estimate(full));
}

std::string verdict_table(const json& results) {
  std::vector<std::array<std::string, 4>> lines = {
      {"experiment", "verdict", "time", "deciding number"}};
  std::vector<Note> notes;
  for (const json& experiment : results.at("experiments")) {
    const auto id = experiment.at("id").get<std::string>();
    lines.push_back({id, verdict_of(experiment),
                     format_duration(experiment.at("seconds").get<double>()),
                     number_in(experiment.at("verdict"))});
    for (const std::string& text : notes_on(experiment)) {
      const auto same = std::ranges::find(notes, text, &Note::text);
      if (same == notes.end()) {
        notes.push_back({id, text});
      } else {
        same->ids += ", " + id;
      }
    }
  }
  std::array<std::size_t, 3> widths = {};  // the last column needs none
  for (const auto& line : lines) {
    for (std::size_t c = 0; c < widths.size(); ++c) {
      widths[c] = std::max(widths[c], columns(line[c]));
    }
  }
  std::string text;
  if (results.at("mode") == "quick") {
    text += "A quick run: a first look, with few seeds and steps. --full runs the protocol.\n\n";
  }
  for (const auto& line : lines) {
    text += fmt::format("{:{}}  {:{}}  {:>{}}  {}\n", line[0], widths[0], line[1], widths[1],
                        line[2], widths[2], line[3]);
  }
  if (!notes.empty()) text += "\nTo note:\n";
  for (const Note& note : notes) text += wrapped(fmt::format("{}: {}", note.ids, note.text), "  ");
  return text;
}

std::string verdict_words(std::string_view answer, std::string_view depends_on) {
  return depends_on.empty() ? std::string(answer) : fmt::format("{} on {}", answer, depends_on);
}

}  // namespace evenkeel::cli
