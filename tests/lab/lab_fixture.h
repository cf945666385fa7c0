// The lab on a made-up data set, and an experiment whose right answer is known by construction.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "lab/draw.h"
#include "lab/lab.h"
#include "tests/lab/idx_files.h"

namespace evenkeel::lab {

class Watcher : public LabObserver {
 public:
  void began(const Experiment&, std::int64_t steps) override { planned_ += steps; }
  void advanced(const Experiment&, std::int64_t steps, std::int64_t reused) override {
    EXPECT_GE(steps, steps_);
    steps_ = steps;
    reused_ = reused;
    if (stop_after_ > 0 && steps >= stop_after_) stop_ = true;
  }
  void ended(const Conclusion&) override { ++ended_; }

  std::int64_t planned_ = 0;
  std::int64_t steps_ = 0;
  std::int64_t reused_ = 0;
  std::int64_t stop_after_ = 0;
  int ended_ = 0;
  std::atomic<bool> stop_ = false;
};

class Lab : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const TemporaryDirectory directory;
    write_dataset(directory.path());
    data_ = new Dataset(load_dataset(directory.path().string()));
  }
  static void TearDownTestSuite() {
    delete data_;
    data_ = nullptr;
  }

  LabResults run(const Experiment& experiment, Watcher& watcher,
                 const std::filesystem::path& directory, int jobs = 2) {
    return run_lab({.experiments = {&experiment},
                    .jobs = jobs,
                    .directory = directory,
                    .command = "evenkeel lab made-up"},
                   *data_, watcher, watcher.stop_);
  }
  Conclusion conclude(const Experiment& experiment) {
    const TemporaryDirectory directory;
    Watcher watcher;
    return std::move(run(experiment, watcher, directory.path()).conclusions.front());
  }

  static inline Dataset* data_ = nullptr;
};

// An experiment that trains nothing: the accuracy of "a" on a seed is 0.5 + seed / 100 and that of
// "b" is larger by one of `gains`, in two conditions.
inline Experiment made_up(double first_gain, double second_gain) {
  Experiment experiment;
  experiment.id = "made-up";
  experiment.title = "Made up";
  experiment.columns = {{.value = "accuracy", .title = "Accuracy"}};
  experiment.design = [=](Mode) {
    Design design;
    set_seeds(design, 3, 0);
    const std::vector<double> gains = {0, first_gain, 0, second_gain};
    const std::vector<std::string> names = {"a, first", "b, first", "a, second", "b, second"};
    for (std::size_t i = 0; i < 4; ++i) {
      design.arms.push_back({.name = names[i],
                             .norm = "none",
                             .settings = {{"gain", gains[i]}},
                             .steps = 10,
                             .rates = {0.1}});
    }
    return design;
  };
  experiment.measure = [](const Trial& trial, const Context& context) {
    for (std::int64_t step = 1; step <= trial.arm.steps; ++step) context.on_step(step);
    Measured measured;
    measured.status = Status::done;
    measured.values["accuracy"] =
        0.5 + 0.01 * static_cast<double>(trial.seed) + trial.arm.settings.at("gain").get<double>();
    return measured;
  };
  experiment.judge = [](const Outcomes& outcomes) {
    const auto gain = [&](const std::string& condition) {
      return paired_difference(outcomes.values(outcomes.arm("b, " + condition), "accuracy"),
                               outcomes.values(outcomes.arm("a, " + condition), "accuracy"));
    };
    return judge_above({{"first", gain("first")}, {"second", gain("second")}}, 0.01,
                       Format::points);
  };
  experiment.draw = [](const Outcomes& outcomes) {
    return std::vector<Figure>{
        {.title = "Accuracy",
         .panels = {values_by_arm(outcomes, {"a, first", "b, first"}, "accuracy", "First",
                                  {.title = "Accuracy"})}}};
  };
  return experiment;
}

}  // namespace evenkeel::lab
