#include "cli/run_observer.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <numeric>
#include <utility>

namespace evenkeel::cli {
namespace {

std::string status_of(const lab::ArmResult& arm) {
  switch (arm.status) {
    case lab::Status::done:
      return fmt::format("test accuracy {:.2f}%", 100 * arm.test->accuracy);
    case lab::Status::diverged:
      return fmt::format("diverged at step {}", *arm.diverged_at_step);
    case lab::Status::failed:
      return fmt::format("failed: {}", *arm.error);
    default:
      return std::string(lab::name_of(arm.status));
  }
}

}  // namespace

RunObserver::RunObserver(std::string directory) : directory_(std::move(directory)) {}

void RunObserver::planned(const std::vector<lab::ArmConfig>& arms) {
  const bool several_seeds = std::any_of(
      arms.begin(), arms.end(), [&](const auto& arm) { return arm.seed != arms.front().seed; });
  for (const auto& arm : arms) {
    std::string label = fmt::format("{} {:5}", arm.network, arm.norm);
    if (several_seeds) label += fmt::format(" seed {}", arm.seed);
    items_.push_back(&progress_.add(label, arm.training.steps, "steps"));
    planned_steps_.push_back(arm.training.steps);
  }
  steps_.resize(arms.size());
  if (arms.size() > 1) {
    const auto total =
        std::accumulate(planned_steps_.begin(), planned_steps_.end(), std::int64_t{0});
    all_ = &progress_.add(fmt::format("all {} arms", arms.size()), total, "steps");
    progress_.update(*all_, 0);
  }
}

void RunObserver::stepped(std::size_t arm, std::int64_t step, double loss) {
  progress_.update(*items_[arm], step, fmt::format("loss {:.3f}", loss));
  count(arm, step);
}

void RunObserver::ended(std::size_t arm, const lab::Results& results) {
  const lab::ArmResult& result = results.arms[arm];
  // The last arm's are written by the caller; an arm that was stopped adds nothing that cannot
  // wait for that.
  if (results.interrupted && result.status != lab::Status::interrupted) write(results);
  progress_.finish(*items_[arm], status_of(result));
  // An arm that ended early has no more to do.
  if (result.status != lab::Status::interrupted) count(arm, planned_steps_[arm]);
  if (all_ && !results.interrupted) progress_.finish(*all_);
}

void RunObserver::count(std::size_t arm, std::int64_t step) {
  if (!all_) return;
  done_ += step - std::exchange(steps_[arm], step);
  progress_.update(*all_, done_);
}

// What cannot be written now may still be at the end; if not, the error is reported then.
void RunObserver::write(const lab::Results& results) {
  try {
    lab::write_results(results, directory_);
  } catch (const std::exception& error) {
    progress_.print(fmt::format("The results so far are not written: {}", error.what()));
  }
}

}  // namespace evenkeel::cli
