// What is kept of a run, and how a later one goes on from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <mutex>
#include <string>

#include "lab/train_trial.h"
#include "tests/lab/lab_fixture.h"

namespace evenkeel::lab {
namespace {

using testing::SizeIs;
namespace fs = std::filesystem;

Experiment real() {
  Experiment experiment = made_up(0, 0);
  experiment.id = "real";
  experiment.columns = {{.value = "test_accuracy", .title = "Test accuracy"}};
  experiment.design = [](Mode) {
    Design design;
    set_seeds(design, 2, 1);
    for (const std::string norm : {"none", "batch"}) {
      design.arms.push_back({.name = norm,
                             .norm = norm,
                             .settings = {{"batch_size", 20}},
                             .steps = 30,
                             .rates = {0.01, 0.1}});
    }
    return design;
  };
  experiment.measure = [](const Trial& trial, const Context& context) {
    const TrialPlan plan = {.network = network_plan("cnn"),
                            .norm = norm_of(trial.arm.norm),
                            .batch_size = trial.arm.settings.at("batch_size").get<std::int64_t>(),
                            .loss_points = 10,
                            .eval_points = 3};
    return train_trial(plan, trial, context);
  };
  experiment.judge = [](const Outcomes& outcomes) {
    return judge_above(
        {{"gain", paired_difference(outcomes.values(outcomes.arm("batch"), "test_accuracy"),
                                    outcomes.values(outcomes.arm("none"), "test_accuracy"))}},
        0, Format::points);
  };
  experiment.draw = [](const Outcomes& outcomes) {
    return std::vector<Figure>{rate_choice(outcomes)};
  };
  return experiment;
}

nlohmann::json numbers_of(const LabResults& results) {
  nlohmann::json numbers = to_json(results).at("experiments").at(0);
  for (const char* key : {"seconds", "trial_seconds", "reused"}) numbers.erase(key);
  for (auto& one : numbers.at("runs")) {
    one.erase("seconds");
    one.at("values").erase("train_seconds");
  }
  return numbers;
}

TEST_F(Lab, AnInterruptedRunGoesOnToTheNumbersOfAnUninterruptedOne) {
  const Experiment experiment = real();
  const TemporaryDirectory whole;
  Watcher undisturbed;
  const LabResults expected = run(experiment, undisturbed, whole.path());
  ASSERT_TRUE(expected.conclusions.front().verdict.has_value());
  EXPECT_FALSE(expected.interrupted);
  // 2 arms of 2 rates on 1 seed, then 2 arms on 2 seeds, 30 steps each.
  EXPECT_EQ(undisturbed.planned_, 8 * 30);
  EXPECT_EQ(undisturbed.steps_, 8 * 30);

  const TemporaryDirectory parts;
  int runs = 0;
  for (const std::int64_t stop_after : {40, 130, 0}) {
    Watcher watcher;
    watcher.stop_after_ = stop_after;
    const LabResults results = run(experiment, watcher, parts.path(), /*jobs=*/1);
    ++runs;
    if (stop_after > 0) {
      EXPECT_TRUE(results.interrupted);
      EXPECT_FALSE(results.conclusions.front().verdict.has_value());
      EXPECT_TRUE(fs::exists(parts / "report.html"));
      continue;
    }
    // The first run ended 1 trial, the second 4, and those under way were dropped.
    EXPECT_EQ(results.conclusions.front().reused, 4U);
    EXPECT_EQ(watcher.reused_, 4 * 30);
    EXPECT_EQ(numbers_of(results), numbers_of(expected));
  }
  EXPECT_EQ(runs, 3);
}

TEST_F(Lab, WhatWasMeasuredIsNotMeasuredAgainUnlessItChanged) {
  const TemporaryDirectory directory;
  int measured = 0;
  std::mutex mutex;
  Experiment experiment = made_up(0.05, 0.02);
  const auto measure = experiment.measure;
  experiment.measure = [&](const Trial& trial, const Context& context) {
    const std::scoped_lock lock(mutex);
    ++measured;
    return measure(trial, context);
  };
  Watcher watcher[5];
  run(experiment, watcher[0], directory.path());
  EXPECT_EQ(measured, 12);
  run(experiment, watcher[1], directory.path());
  EXPECT_EQ(measured, 12);
  // Another setting of one arm: 3 seeds.
  experiment.design = [design = made_up(0.06, 0.02).design](Mode mode) { return design(mode); };
  run(experiment, watcher[2], directory.path());
  EXPECT_EQ(measured, 15);
  ++experiment.revision;
  run(experiment, watcher[3], directory.path());
  EXPECT_EQ(measured, 27);
  // Other images under the same name, as many as before.
  Dataset brighter = *data_;
  brighter.standardization.mean.front() += 0.1;
  Watcher of_brighter;
  run_lab({.experiments = {&experiment}, .jobs = 1, .directory = directory.path(), .command = ""},
          brighter, of_brighter, of_brighter.stop_);
  EXPECT_EQ(measured, 39);
  // Damaged files are as good as none.
  for (const auto& file : fs::directory_iterator(directory / "trials/made-up")) {
    std::ofstream(file.path()) << "{";
  }
  run(experiment, watcher[4], directory.path());
  EXPECT_EQ(measured, 51);
}

TEST_F(Lab, ValuesThatAreNotFiniteAreNaNBeforeAndAfterTheFile) {
  Experiment experiment = made_up(0, 0);
  experiment.measure = [](const Trial&, const Context&) {
    Measured measured;
    measured.status = Status::done;
    measured.values["accuracy"] = std::numeric_limits<double>::infinity();
    measured.curves["curve"].add(1, -std::numeric_limits<double>::infinity());
    return measured;
  };
  const TemporaryDirectory directory;
  for (int i = 0; i < 2; ++i) {
    Watcher watcher;
    const LabResults results = run(experiment, watcher, directory.path());
    const Outcomes& outcomes = results.conclusions.front().outcomes;
    EXPECT_EQ(results.conclusions.front().reused, i == 0 ? 0U : 12U);
    EXPECT_TRUE(std::isnan(outcomes.values(outcomes.arm("a, first"), "accuracy")[0]));
    EXPECT_TRUE(std::isnan(outcomes.trial(outcomes.arm("a, first"), 1).curve("curve").y[0]));
  }
}

TEST_F(Lab, ATrialThatEndsAfterTheStopIsNotKept) {
  const TemporaryDirectory directory;
  Watcher stopped;
  Experiment experiment = made_up(0.05, 0.05);
  const auto measure = experiment.measure;
  experiment.measure = [&](const Trial& trial, const Context& context) {
    stopped.stop_ = true;
    Measured part = measure(trial, context);
    part.values["accuracy"] = 0;
    return part;
  };
  EXPECT_EQ(run(experiment, stopped, directory.path()).conclusions.front().measured, 0U);
  Watcher second;
  const LabResults results = run(made_up(0.05, 0.05), second, directory.path());
  EXPECT_EQ(results.conclusions.front().reused, 0U);
  EXPECT_EQ(results.conclusions.front().verdict->answer, Answer::confirmed);
}

TEST_F(Lab, StoppedBeforeTheFirstTrialIsInterrupted) {
  const TemporaryDirectory directory;
  const Experiment experiment = made_up(0, 0);
  Watcher watcher;
  watcher.stop_ = true;
  const LabResults results = run(experiment, watcher, directory.path());
  EXPECT_TRUE(results.interrupted);
  EXPECT_THAT(results.conclusions, SizeIs(0));
}

}  // namespace
}  // namespace evenkeel::lab
