#include "cli/lab_progress.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

#include "cli/lab_text.h"

namespace evenkeel::cli {
namespace {

std::string status_of(const lab::Conclusion& conclusion) {
  std::string status;
  if (conclusion.verdict) {
    status =
        verdict_words(lab::name_of(conclusion.verdict->answer), conclusion.verdict->depends_on);
  } else if (!conclusion.errors.empty()) {
    status = fmt::format("{} failed", conclusion.errors.size());
  } else {
    status = fmt::format("stopped, {} of {} trials", conclusion.measured, conclusion.trials);
  }
  if (conclusion.reused > 0) {
    status += fmt::format(" ({} of {} trials are an earlier run's)", conclusion.reused,
                          conclusion.trials);
  }
  return status;
}

}  // namespace

LabProgress::LabProgress(const lab::LabConfig& config, Progress& progress) : progress_(progress) {
  // Fine enough for the smallest estimate to move with every step.
  constexpr double units_a_minute = 1e6;
  std::int64_t total = 0;
  for (const lab::Experiment* experiment : config.experiments) {
    const double minutes =
        config.mode == lab::Mode::quick ? experiment->quick_minutes : experiment->full_minutes;
    Line& line = lines_[experiment];
    line.weight = std::llround(units_a_minute * minutes);
    total += line.weight;
  }
  if (lines_.size() > 1) {
    all_ = &progress_.add(fmt::format("all {} experiments", lines_.size()), total, "");
  }
}

void LabProgress::began(const lab::Experiment& experiment, std::int64_t steps) {
  Line& line = lines_.at(&experiment);
  line.steps = steps;
  line.item = &progress_.add(experiment.id, steps, "steps");
  advanced(experiment, 0, 0);
}

void LabProgress::advanced(const lab::Experiment& experiment, std::int64_t steps,
                           std::int64_t reused) {
  Line& line = lines_.at(&experiment);
  progress_.skip(*line.item, reused);
  progress_.update(*line.item, steps);
  const auto weighed = [&](std::int64_t part) {
    return line.steps > 0
               ? std::llround(static_cast<double>(line.weight) * static_cast<double>(part) /
                              static_cast<double>(line.steps))
               : 0;
  };
  line.done = weighed(steps);
  line.reused = weighed(reused);
  update_all();
}

void LabProgress::ended(const lab::Conclusion& conclusion) {
  Line& line = lines_.at(conclusion.experiment);
  progress_.finish(*line.item, status_of(conclusion));
  if (!conclusion.complete()) return;
  line.done = line.weight;
  update_all();
  if (all_ && ++complete_ == lines_.size()) progress_.finish(*all_);
}

void LabProgress::update_all() {
  if (!all_) return;
  std::int64_t done = 0;
  std::int64_t reused = 0;
  for (const auto& [experiment, line] : lines_) {
    done += line.done;
    reused += line.reused;
  }
  progress_.skip(*all_, reused);
  progress_.update(*all_, done);
}

}  // namespace evenkeel::cli
