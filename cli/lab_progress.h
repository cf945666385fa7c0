// The progress that `evenkeel lab` shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "cli/progress.h"
#include "lab/lab.h"

namespace evenkeel::cli {

// A line for each experiment and, of several, one for all. The latter weighs the experiments by
// their estimated times, as a step of one may take many times that of another.
class LabProgress : public lab::LabObserver {
 public:
  LabProgress(const lab::LabConfig& config, Progress& progress);

  void began(const lab::Experiment& experiment, std::int64_t steps) override;
  void advanced(const lab::Experiment& experiment, std::int64_t steps,
                std::int64_t reused) override;
  void ended(const lab::Conclusion& conclusion) override;

 private:
  struct Line {
    Progress::Item* item = nullptr;
    std::int64_t steps = 0;  // planned
    // In the line for all:
    std::int64_t weight = 0;
    std::int64_t done = 0;
    std::int64_t reused = 0;
  };
  void update_all();

  Progress& progress_;
  std::map<const lab::Experiment*, Line> lines_;
  Progress::Item* all_ = nullptr;  // only of several
  std::size_t complete_ = 0;       // experiments
};

}  // namespace evenkeel::cli
