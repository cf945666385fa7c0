#include "lab/lab.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <set>
#include <utility>

#include "evenkeel/error.h"
#include "lab/parallel.h"
#include "lab/trial_store.h"

namespace evenkeel::lab {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check(const Experiment& experiment, const Design& design) {
  const auto fail = [&](const std::string& what) {
    throw Error(fmt::format("experiment {}: {}", experiment.id, what));
  };
  if (design.arms.empty()) fail("there is no arm");
  if (design.seeds.empty()) fail("there is no seed");
  std::set<std::string> names;
  for (const auto& arm : design.arms) {
    if (!names.insert(arm.name).second) fail(fmt::format("two arms are named '{}'", arm.name));
    if (arm.rates.empty()) fail(fmt::format("arm '{}' has no learning rate", arm.name));
    if (arm.rates.size() > 1 && design.tuning_seeds.empty()) {
      fail(fmt::format("arm '{}' has rates to choose from, but no seed to do it on", arm.name));
    }
  }
}

// What is not finite is kept as JSON keeps it, so that a trial read from its file is the same.
Measured with_finite_or_nan(Measured measured) { return measured_of(to_json(measured)); }

// Runs one experiment.
class Run {
 public:
  Run(const Experiment& experiment, const LabConfig& config, int jobs, const Dataset& data,
      Guarded<LabObserver>& observer, const std::atomic<bool>& stop)
      : experiment_(experiment),
        mode_(config.mode),
        jobs_(jobs),
        data_(data),
        observer_(observer),
        stop_(stop),
        store_(config.directory / "trials" / experiment.id),
        conclusion_{.experiment = &experiment,
                    .outcomes = Outcomes(experiment.design(config.mode), config.mode),
                    .verdict = {},
                    .errors = {},
                    .figures = {}} {
    check(experiment_, design());
  }

  Conclusion conclude() {
    const auto start = Clock::now();
    const std::vector<Trial> tuning = tuning_trials();
    std::int64_t steps = 0;
    for (const auto& trial : tuning) steps += trial.arm.steps;
    for (const auto& arm : design().arms) {
      steps += arm.steps * static_cast<std::int64_t>(design().seeds.size());
    }
    conclusion_.trials = tuning.size() + design().arms.size() * design().seeds.size();
    observer_.tell([&](LabObserver& o) { o.began(experiment_, steps); });

    measure(tuning);
    if (conclusion_.measured == tuning.size()) {
      choose_rates();
      measure(final_trials());
    }
    if (conclusion_.complete() && conclusion_.errors.empty())
      keep_error("the verdict", [&] { judge(); });
    keep_error("the figures",
               [&] { conclusion_.figures = experiment_.draw(conclusion_.outcomes); });
    conclusion_.seconds = seconds_since(start) + reused_seconds_ / jobs_;
    observer_.tell([&](LabObserver& o) { o.ended(conclusion_); });
    return std::move(conclusion_);
  }

 private:
  const Design& design() const { return conclusion_.outcomes.design(); }

  std::vector<Trial> tuning_trials() const {
    std::vector<Trial> trials;
    for (const auto seed : design().tuning_seeds) {
      for (const auto& arm : design().arms) {
        if (arm.rates.size() == 1) continue;
        for (const double rate : arm.rates) trials.push_back({arm, rate, seed, true, mode_});
      }
    }
    return trials;
  }

  // Seed by seed, so that an interrupted run has pairs.
  std::vector<Trial> final_trials() const {
    std::vector<Trial> trials;
    for (const auto seed : design().seeds) {
      for (const auto& arm : design().arms) {
        trials.push_back({arm, *conclusion_.outcomes.rate(arm), seed, false, mode_});
      }
    }
    return trials;
  }

  void measure(const std::vector<Trial>& trials) {
    std::vector<Measured> measured(trials.size());
    run_side_by_side(trials.size(), jobs_, stop_,
                     [&](std::size_t i) { measured[i] = measure(trials[i]); });
    // In the order of the trials, whichever was first to end.
    for (std::size_t i = 0; i < trials.size(); ++i) {
      if (measured[i].status == Status::not_started || measured[i].status == Status::interrupted) {
        continue;
      }
      add(trials[i], std::move(measured[i]));
    }
  }

  Measured measure(const Trial& trial) {
    std::int64_t steps = 0;
    const auto advance_to = [&](std::int64_t step) {
      const std::scoped_lock lock(mutex_);
      steps_ += step - std::exchange(steps, step);
      observer_.tell([&](LabObserver& o) { o.advanced(experiment_, steps_, reused_steps_); });
    };
    Measured measured;
    const auto failure = failure_of([&] {
      const nlohmann::json specification = specification_of(experiment_, trial, data_);
      if (auto earlier = store_.load(specification)) {
        reuse(trial, earlier->seconds);
        steps = trial.arm.steps;
        measured = std::move(*earlier);
        return;
      }
      const auto start = Clock::now();
      measured = experiment_.measure(trial, {data_, stop_, advance_to});
      // Whatever it was about to measure when it was stopped may be missing.
      if (stop_) measured.status = Status::interrupted;
      measured.seconds = seconds_since(start);
      measured = with_finite_or_nan(std::move(measured));
      if (measured.status != Status::interrupted) store_.save(specification, measured);
    });
    if (failure) {
      measured.status = Status::failed;
      measured.error = *failure;
    }
    // A trial that ended early has no more to do.
    if (measured.status != Status::interrupted) advance_to(trial.arm.steps);
    return measured;
  }

  void reuse(const Trial& trial, double seconds) {
    const std::scoped_lock lock(mutex_);
    ++conclusion_.reused;
    reused_seconds_ += seconds;
    steps_ += trial.arm.steps;
    reused_steps_ += trial.arm.steps;
    observer_.tell([&](LabObserver& o) { o.advanced(experiment_, steps_, reused_steps_); });
  }

  void judge() {
    Verdict verdict = experiment_.judge(conclusion_.outcomes);
    if (verdict.answer != Answer::depends) verdict.depends_on.clear();
    add_warnings(verdict);
    conclusion_.verdict = std::move(verdict);
  }

  // An error in concluding must not cost the other experiments, or this one's trials.
  void keep_error(std::string_view what, const std::function<void()>& work) {
    if (const auto failure = failure_of(work)) {
      conclusion_.errors.push_back(fmt::format("{}: {}", what, *failure));
    }
  }

  void add(const Trial& trial, Measured measured) {
    ++conclusion_.measured;
    conclusion_.trial_seconds += measured.seconds;
    if (measured.status == Status::failed) {
      conclusion_.errors.push_back(fmt::format("{}, learning rate {:g}, seed {}: {}",
                                               trial.arm.name, trial.lr, trial.seed,
                                               measured.error));
    }
    const auto arm = static_cast<std::size_t>(&trial.arm - design().arms.data());
    conclusion_.outcomes.add({arm, trial.lr, trial.seed, trial.tuning, std::move(measured)});
  }

  // NaN, which a training that diverged has, is worse than any number; of equals the smaller rate
  // wins.
  void choose_rates() {
    const auto worth = [&](const Arm& arm, double rate) {
      const auto values = conclusion_.outcomes.tuned(arm, rate, experiment_.chosen_by);
      const double sum = std::accumulate(values.begin(), values.end(), 0.0);
      return std::isfinite(sum) ? sum : -std::numeric_limits<double>::infinity();
    };
    for (const auto& arm : design().arms) {
      if (arm.rates.size() == 1) continue;
      std::vector<double> rates = arm.rates;
      std::ranges::sort(rates);
      conclusion_.outcomes.choose(
          arm, *std::ranges::max_element(rates, {}, [&](double rate) { return worth(arm, rate); }));
    }
  }

  // What no experiment has to look after itself.
  void add_warnings(Verdict& verdict) const {
    std::vector<std::string> at_edge;
    int diverged = 0;
    for (const auto& arm : design().arms) {
      diverged += conclusion_.outcomes.diverged(arm);
      const auto [least, most] = std::ranges::minmax(arm.rates);
      const double rate = *conclusion_.outcomes.rate(arm);
      if (arm.rates.size() > 2 && (rate == least || rate == most)) at_edge.push_back(arm.name);
    }
    if (!at_edge.empty()) {
      verdict.warnings.emplace_back(
          fmt::format("The best learning rate lies at the edge of those that were tried, and a "
                      "better one may lie beyond: {}.",
                      fmt::join(at_edge, "; ")));
    }
    if (diverged > 0) {
      verdict.warnings.emplace_back(fmt::format("{} of {} trainings diverged.", diverged,
                                                design().arms.size() * design().seeds.size()));
    }
    if (design().seeds.size() == 1) {
      verdict.warnings.emplace_back(
          "One seed only: how much the numbers change with another seed is not measured.");
    }
  }

  const Experiment& experiment_;
  Mode mode_;
  int jobs_;
  const Dataset& data_;
  Guarded<LabObserver>& observer_;
  const std::atomic<bool>& stop_;
  TrialStore store_;
  Conclusion conclusion_;
  std::mutex mutex_;  // of the observer and of what follows
  std::int64_t steps_ = 0;
  std::int64_t reused_steps_ = 0;
  double reused_seconds_ = 0;
};

}  // namespace

void require_images(const LabConfig& config, const Dataset& data) {
  for (const Experiment* experiment : config.experiments) {
    const std::int64_t needed = experiment->design(config.mode).batch_size;
    if (data.train.size() >= needed) continue;
    throw Error(
        fmt::format("lab: {} has {} training images beside the {} that are held out, expected at "
                    "least {}, a batch of the experiment {}",
                    data.name, data.train.size(), data.held_out.size(), needed, experiment->id));
  }
}

LabResults run_lab(const LabConfig& config, const Dataset& data, LabObserver& unguarded,
                   const std::atomic<bool>& stop) {
  LabResults results;
  results.command = config.command;
  results.started = utc_now();
  results.mode = config.mode;
  results.machine = this_machine();
  results.data_name = data.name;
  results.train_images = data.train.size();
  results.held_out_images = data.held_out.size();
  results.test_images = data.test.size();
  results.jobs = config.jobs.value_or(default_jobs());
  if (results.jobs < 1) {
    throw Error(fmt::format("lab: jobs is {}, expected 1 or more", results.jobs));
  }
  require_jobs("lab", results.jobs);
  require_images(config, data);

  Guarded observer(unguarded);
  results.interrupted = true;  // until every trial of every experiment is measured
  for (const Experiment* experiment : config.experiments) {
    if (stop) break;
    results.conclusions.push_back(
        Run(*experiment, config, results.jobs, data, observer, stop).conclude());
    results.finished = utc_now();
    results.interrupted = results.conclusions.size() < config.experiments.size() ||
                          !std::ranges::all_of(results.conclusions, &Conclusion::complete);
    write_lab_results(results, config.directory);
  }
  return results;
}

}  // namespace evenkeel::lab
