// The machinery of the lab, on experiments whose right answer is known by construction.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/lab/lab_fixture.h"

namespace evenkeel::lab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
namespace fs = std::filesystem;

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
// Everything but the clock's readings.
// A trial may be stopped after its training, while it still measures.
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

TEST_F(Lab, RefusesDataThatFillsNoBatch) {
  Experiment experiment = made_up(0.05, 0.02);
  experiment.design = [made = experiment.design](Mode mode) {
    Design design = made(mode);
    design.batch_size = 541;  // of 600 images 60 are held out
    return design;
  };
  const TemporaryDirectory directory;
  Watcher watcher;
  const std::string error = error_of([&] { run(experiment, watcher, directory.path()); });
  EXPECT_THAT(error, HasSubstr("has 540 training images beside the 60 that are held out"));
  EXPECT_THAT(error, HasSubstr("expected at least 541, a batch of the experiment made-up"));
  EXPECT_EQ(watcher.planned_, 0);
  EXPECT_FALSE(fs::exists(directory / "results.json"));
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
