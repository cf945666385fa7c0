// An experiment of the lab: one claim, how it is tested, and the rule that turns numbers into a
// verdict. docs/lab.md shows how to write one; each is one file in lab/experiments/.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lab/dataset.h"
#include "lab/figure.h"
#include "lab/statistics.h"
#include "lab/training.h"

namespace evenkeel::lab {

enum class Mode : std::uint8_t { quick, full };
std::string_view name_of(Mode mode);

// One way of doing it, to be compared with others: what its trials share.
struct Arm {
  std::string name;  // unique in the experiment
  std::string norm;  // the normalization's name, which is its color in charts
  // Everything that a trial depends on besides steps, rate and seed. A trial that was measured is
  // measured again only if any of these have changed.
  nlohmann::json settings = nlohmann::json::object();
  std::int64_t steps = 0;  // of one trial
  // Learning rates to choose from on held-out images; a single one is taken as it is.
  std::vector<double> rates;
};

struct Design {
  std::vector<Arm> arms;
  std::int64_t batch_size = 0;       // the largest: the data needs as many training images
  std::vector<std::uint64_t> seeds;  // of every arm alike, so that arms are paired by seed
  // The rates are judged on other seeds, so that the choice does not favor the seeds that decide.
  std::vector<std::uint64_t> tuning_seeds;
};
// Seeds 1 .. count, and 101 .. 100 + tuning.
void set_seeds(Design& design, int count, int tuning);

// One training (or other measurement) of an arm.
struct Trial {
  const Arm& arm;
  double lr = 0;
  std::uint64_t seed = 0;
  bool tuning = false;  // only to choose a rate: must not touch the test images
  Mode mode = Mode::full;

  Training training(std::int64_t batch_size) const { return {arm.steps, batch_size, lr}; }
};

struct Curve {
  std::vector<double> x;
  std::vector<double> y;

  void add(double at, double value) {
    x.push_back(at);
    y.push_back(value);
  }
};

// What a trial measured. A value that is not finite is kept as NaN.
struct Measured {
  Status status = Status::not_started;
  std::optional<std::int64_t> diverged_at_step;
  std::string error;   // why it failed
  double seconds = 0;  // wall time of all of it; set by whoever calls Experiment::measure
  std::map<std::string, double> values;
  std::map<std::string, Curve> curves;

  // NaN, or an empty curve, if there is none of this name.
  double value(const std::string& name) const;
  const Curve& curve(const std::string& name) const;
};

// What a trial is given.
struct Context {
  const Dataset& data;
  const std::atomic<bool>& stop;                   // return soon when it becomes true
  std::function<void(std::int64_t step)> on_step;  // for the progress display
};

// All that the trials of an experiment measured, so far.
class Outcomes {
 public:
  struct Entry {
    std::size_t arm;
    double lr;
    std::uint64_t seed;
    bool tuning;
    Measured measured;
  };

  Outcomes(Design design, Mode mode) : design_(std::move(design)), mode_(mode) {}
  void add(Entry entry) { entries_.push_back(std::move(entry)); }

  Mode mode() const { return mode_; }
  const Design& design() const { return design_; }
  const std::vector<Entry>& entries() const { return entries_; }
  const Arm& arm(const std::string& name) const;  // throws Error if there is none

  // The rate of an arm's final trials: nullopt until it is chosen.
  std::optional<double> rate(const Arm& arm) const;
  void choose(const Arm& arm, double rate);

  // The final trial of an arm and a seed, or an empty one. Final trials: those not for tuning.
  const Measured& trial(const Arm& arm, std::uint64_t seed) const;
  // By seed, in the order of the design; NaN where there is none or it diverged and has none.
  std::vector<double> values(const Arm& arm, const std::string& name) const;
  // The same, with `if_diverged` for the trials that diverged: 0.1 is chance on ten classes.
  std::vector<double> values(const Arm& arm, const std::string& name, double if_diverged) const;
  // By tuning seed, at one of the arm's rates; NaN where the training diverged.
  std::vector<double> tuned(const Arm& arm, double rate, const std::string& name) const;
  int diverged(const Arm& arm) const;  // final trials

 private:
  Design design_;
  Mode mode_;
  std::vector<Entry> entries_;
  std::map<std::string, double> rates_;  // by the arm's name
};

enum class Answer : std::uint8_t { confirmed, refuted, depends };
std::string_view name_of(Answer answer);

struct Verdict {
  Answer answer = Answer::depends;
  std::string depends_on;  // e.g. "the batch size"; only with `depends`
  std::string number_is;   // what the deciding number is: "accuracy of BatchNorm minus none"
  Interval number;
  Format format = Format::decimal;
  std::string found;                  // paragraphs, one a line, from the numbers
  std::vector<std::string> warnings;  // e.g. that a difference lies within noise
};

// confirmed if all of `confirmed` hold, refuted if none does, depends otherwise.
Answer answer_of(const std::vector<bool>& confirmed);

// A column of the table of arms in the report.
struct Column {
  std::string value;  // name in Measured::values
  std::string title;
  Format format = Format::percent;
};

struct Experiment {
  std::string id;
  std::string title;
  std::string claim;         // the statement under test
  std::string source;        // who says so
  std::string protocol;      // a paragraph
  std::string rule;          // numbers to verdict, fixed before the run
  std::string refutation;    // what would have refuted the claim
  double quick_minutes = 0;  // estimates, on 2 cores
  double full_minutes = 0;
  int revision = 1;  // to be raised when `measure` changes: old trials then no longer count
  // The value that chooses among an arm's rates, the mean over tuning seeds; larger is better, NaN
  // and divergence are the worst.
  std::string chosen_by = "held_out_accuracy";
  std::vector<Column> columns;
  std::function<Design(Mode)> design;
  std::function<Measured(const Trial&, const Context&)> measure;  // called from several threads
  std::function<Verdict(const Outcomes&)> judge;                  // only of complete outcomes
  std::function<std::vector<Figure>(const Outcomes&)> draw;       // of whatever there is
};

}  // namespace evenkeel::lab
