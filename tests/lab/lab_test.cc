// The machinery of the lab, on experiments whose right answer is known by construction.
#include "lab/lab.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "lab/draw.h"
#include "lab/train_trial.h"
#include "tests/lab/idx_files.h"

namespace evenkeel::lab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
namespace fs = std::filesystem;

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

  LabResults run(const Experiment& experiment, Watcher& watcher, const fs::path& directory,
                 int jobs = 2) {
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
Experiment made_up(double first_gain, double second_gain) {
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

TEST_F(Lab, ConfirmsWhatHolds) {
  const Conclusion conclusion = conclude(made_up(0.05, 0.02));
  ASSERT_TRUE(conclusion.verdict.has_value());
  EXPECT_EQ(conclusion.verdict->answer, Answer::confirmed);
  // Pairs cancel the seeds' own levels, so the interval is a point.
  EXPECT_NEAR(conclusion.verdict->number.mean, 0.02, 1e-15);
  EXPECT_NEAR(conclusion.verdict->number.low, 0.02, 1e-15);
  EXPECT_EQ(conclusion.verdict->number.count, 3);
  EXPECT_THAT(conclusion.verdict->warnings, SizeIs(0));
}

TEST_F(Lab, RefutesWhatDoesNotHold) {
  const Conclusion conclusion = conclude(made_up(-0.05, 0.005));
  EXPECT_EQ(conclusion.verdict->answer, Answer::refuted);
  EXPECT_NEAR(conclusion.verdict->number.mean, 0.005, 1e-15);
}

TEST_F(Lab, DependsWhereOneConditionHolds) {
  EXPECT_EQ(conclude(made_up(0.05, -0.05)).verdict->answer, Answer::depends);
}

TEST_F(Lab, WarnsOfADifferenceWithinNoise) {
  Experiment experiment = made_up(0.05, 0);
  // Seeds gain 0, 0.02 and 0.04: above 0.01 on average, but not clearly.
  experiment.measure = [](const Trial& trial, const Context&) {
    Measured measured;
    measured.status = Status::done;
    measured.values["accuracy"] =
        trial.arm.name.starts_with("b") ? 0.02 * static_cast<double>(trial.seed - 1) : 0;
    return measured;
  };
  const Conclusion conclusion = conclude(experiment);
  EXPECT_NEAR(conclusion.verdict->number.mean, 0.02, 1e-15);
  EXPECT_EQ(conclusion.verdict->answer, Answer::refuted);
  EXPECT_THAT(conclusion.verdict->warnings, Contains(HasSubstr("ithin noise")));
}

// The best of the candidates on the tuning seeds is 0.1; the final trials' seeds would choose 1.
Experiment with_rates(std::vector<double> rates) {
  Experiment experiment = made_up(0, 0);
  experiment.chosen_by = "worth";
  experiment.design = [=](Mode) {
    Design design;
    set_seeds(design, 2, 2);
    design.arms = {{.name = "only", .norm = "none", .steps = 5, .rates = rates}};
    return design;
  };
  experiment.measure = [](const Trial& trial, const Context&) {
    EXPECT_EQ(trial.tuning, trial.seed > 100);
    Measured measured;
    measured.status = trial.lr > 5 ? Status::diverged : Status::done;
    if (measured.status == Status::done) {
      const double best = trial.tuning ? 0.1 : 1;
      measured.values["worth"] = -std::abs(std::log(trial.lr / best));
    }
    measured.values["lr"] = trial.lr;
    return measured;
  };
  experiment.judge = [](const Outcomes&) {
    Verdict verdict;
    verdict.answer = Answer::confirmed;
    return verdict;
  };
  experiment.draw = [](const Outcomes&) { return std::vector<Figure>{}; };
  return experiment;
}

TEST_F(Lab, ChoosesTheRateOnTheTuningSeedsAlone) {
  const Conclusion conclusion = conclude(with_rates({10, 1, 0.1, 0.01}));
  EXPECT_EQ(conclusion.trials, 4 * 2 + 2);
  EXPECT_EQ(conclusion.measured, conclusion.trials);
  const Arm& arm = conclusion.outcomes.arm("only");
  EXPECT_EQ(conclusion.outcomes.rate(arm), 0.1);
  EXPECT_THAT(conclusion.outcomes.values(arm, "lr"), ElementsAre(0.1, 0.1));
  EXPECT_THAT(conclusion.outcomes.tuned(arm, 1, "lr"), ElementsAre(1, 1));
  EXPECT_THAT(conclusion.verdict->warnings, SizeIs(0));
}

TEST_F(Lab, WarnsOfARateAtTheEdge) {
  EXPECT_THAT(conclude(with_rates({0.1, 1, 3})).verdict->warnings,
              ElementsAre(HasSubstr("edge of those that were tried")));
}

TEST_F(Lab, CountsDivergenceAndGoesOn) {
  const Conclusion conclusion = conclude(with_rates({10}));
  const Arm& arm = conclusion.outcomes.arm("only");
  EXPECT_EQ(conclusion.outcomes.diverged(arm), 2);
  EXPECT_TRUE(conclusion.complete());
  EXPECT_TRUE(std::isnan(conclusion.outcomes.values(arm, "worth")[0]));
  EXPECT_THAT(conclusion.outcomes.values(arm, "worth", -7), ElementsAre(-7, -7));
  EXPECT_THAT(conclusion.verdict->warnings, ElementsAre(HasSubstr("2 of 2 trainings diverged")));
}

TEST_F(Lab, AFailedTrialLeavesTheOthersAloneAndNoVerdict) {
  Experiment experiment = made_up(0.05, 0.05);
  const auto measure = experiment.measure;
  experiment.measure = [=](const Trial& trial, const Context& context) {
    if (trial.arm.name == "b, first" && trial.seed == 2) throw std::runtime_error("out of luck");
    return measure(trial, context);
  };
  const TemporaryDirectory directory;
  Watcher watcher;
  const LabResults results = run(experiment, watcher, directory.path());
  const Conclusion& conclusion = results.conclusions.front();
  EXPECT_FALSE(conclusion.verdict.has_value());
  EXPECT_THAT(conclusion.errors, ElementsAre("b, first, learning rate 0.1, seed 2: out of luck"));
  EXPECT_EQ(conclusion.measured, 12U);
  // What failed is tried again, and nothing else.
  Watcher second;
  const LabResults repaired = run(made_up(0.05, 0.05), second, directory.path());
  EXPECT_EQ(repaired.conclusions.front().reused, 11U);
  EXPECT_TRUE(repaired.conclusions.front().verdict.has_value());
}

// A real training on the made-up images, with a choice between two rates.
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

// Everything but the clock's readings.
nlohmann::json numbers_of(const LabResults& results) {
  nlohmann::json json = to_json(results).at("experiments").at(0);
  for (const char* key : {"seconds", "trial_seconds", "reused"}) json.erase(key);
  for (auto& one : json.at("runs")) {
    one.erase("seconds");
    one.at("values").erase("train_seconds");
  }
  return json;
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
  // A damaged file is as good as none.
  std::ofstream(fs::directory_iterator(directory / "trials/made-up")->path()) << "{";
  run(experiment, watcher[4], directory.path());
  EXPECT_GE(measured, 27);
  EXPECT_LE(measured, 28);  // 27 if the damaged one was of an earlier setting
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

// A trial may be stopped after its training, while it still measures.
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

TEST_F(Lab, RefusesBadDesigns) {
  const auto error = [&](auto change) {
    Experiment experiment = made_up(0, 0);
    experiment.design = [=, design = experiment.design](Mode mode) {
      Design changed = design(mode);
      change(changed);
      return changed;
    };
    return error_of([&] { conclude(experiment); });
  };
  EXPECT_THAT(error([](Design& d) { d.arms.clear(); }), HasSubstr("made-up: there is no arm"));
  EXPECT_THAT(error([](Design& d) { d.seeds.clear(); }), HasSubstr("no seed"));
  EXPECT_THAT(error([](Design& d) { d.arms[1].name = d.arms[0].name; }),
              HasSubstr("two arms are named 'a, first'"));
  EXPECT_THAT(error([](Design& d) { d.arms[0].rates.clear(); }), HasSubstr("no learning rate"));
  EXPECT_THAT(error([](Design& d) { d.arms[0].rates = {1, 2}; }), HasSubstr("no seed to do it on"));
}

TEST_F(Lab, DrawsTheReportAnew) {
  const TemporaryDirectory directory;
  Watcher watcher;
  run(made_up(0.05, 0.02), watcher, directory.path());
  const auto read = [&] {
    std::ifstream in(directory / "report.html");
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string report = read();
  EXPECT_THAT(report, HasSubstr("made-up"));
  fs::remove(directory / "report.html");
  const auto json = redraw_lab_report(directory.path());
  EXPECT_EQ(json.at("experiments").at(0).at("verdict").at("answer"), "confirmed");
  EXPECT_EQ(read(), report);
  std::ofstream(directory / "results.json") << R"({"format": "evenkeel-compare"})";
  EXPECT_THAT(error_of([&] { redraw_lab_report(directory.path()); }),
              HasSubstr("expected results of evenkeel lab"));
}

}  // namespace
}  // namespace evenkeel::lab
