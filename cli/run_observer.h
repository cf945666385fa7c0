// What `evenkeel compare` does while it trains: shows progress and keeps the results so far.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/progress.h"
#include "lab/compare.h"

namespace evenkeel::cli {

// Shows progress, and writes the results so far after each arm, so that whatever ends the program
// takes at most the arms that are under way.
class RunObserver : public lab::Observer {
 public:
  explicit RunObserver(std::string directory);

  void planned(const std::vector<lab::ArmConfig>& arms) override;
  void stepped(std::size_t arm, std::int64_t step, double loss) override;
  void ended(std::size_t arm, const lab::Results& results) override;

 private:
  void count(std::size_t arm, std::int64_t step);
  void write(const lab::Results& results);

  std::string directory_;
  Progress progress_;
  std::vector<Progress::Item*> items_;
  std::vector<std::int64_t> planned_steps_;
  std::vector<std::int64_t> steps_;  // counted so far, by arm
  std::int64_t done_ = 0;            // their sum
  Progress::Item* all_ = nullptr;    // only of several arms
};

}  // namespace evenkeel::cli
