// Runs experiments: chooses rates, trains what is missing, judges, and writes the report.
#pragma once

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lab/experiment.h"
#include "lab/machine.h"

namespace evenkeel::lab {

struct LabConfig {
  std::vector<const Experiment*> experiments;
  Mode mode = Mode::quick;
  std::optional<int> jobs;          // trials at once; absent: default_jobs()
  std::filesystem::path directory;  // trials/, results.json and report.html
  std::string command;              // kept in the results
};

// One experiment as far as it got.
struct Conclusion {
  const Experiment* experiment;  // the config's
  Outcomes outcomes;
  std::size_t trials = 0;    // planned
  std::size_t measured = 0;  // done, diverged or failed
  std::size_t reused = 0;    // of them, measured by an earlier run
  // Wall time. Trials of an earlier run count as what they took then, shared by `jobs`.
  double seconds = 0;
  double trial_seconds = 0;         // of all trials, earlier runs' too, one after the other
  std::optional<Verdict> verdict;   // absent while trials are missing or if one failed
  std::vector<std::string> errors;  // of failed trials, and of judging and drawing
  std::vector<Figure> figures;

  bool complete() const { return measured == trials; }
};

struct LabResults {
  std::string command;
  std::string started;  // UTC, ISO 8601
  std::string finished;
  Mode mode = Mode::quick;
  Machine machine;
  std::string data_name;
  std::int64_t train_images = 0;
  std::int64_t held_out_images = 0;
  std::int64_t test_images = 0;
  int jobs = 1;
  bool interrupted = false;
  std::vector<Conclusion> conclusions;
};

// Hears how the lab gets on. Calls come from the working threads, one at a time. An exception that
// it throws is dropped, and the observer is not called again.
class LabObserver {
 public:
  virtual ~LabObserver() = default;
  // An experiment begins: its trials' steps in all.
  virtual void began(const Experiment& experiment, std::int64_t steps) = 0;
  // Steps done so far, of all trials of the experiment; a trial that ended early counts as whole.
  // `reused` of them were not made now, but by an earlier run.
  virtual void advanced(const Experiment& experiment, std::int64_t steps, std::int64_t reused) = 0;
  virtual void ended(const Conclusion& conclusion) = 0;
};

// Throws Error if the data has fewer training images than the largest batch of the experiments.
void require_images(const LabConfig& config, const Dataset& data);

// Measures every trial that directory/trials does not hold yet, `jobs` at once, each in a thread of
// its own with one intra-op thread, and keeps each as soon as it is measured: a run that was
// interrupted continues with what is missing, and ends with the numbers of one that was not. After
// each experiment results.json and report.html are written anew. A trial that diverges or fails
// leaves the others alone. When `stop` becomes true, what was measured until then is returned.
// Throws Error, before any trial, as require_images does, and if jobs is below 1 or too many for
// the BLAS.
LabResults run_lab(const LabConfig& config, const Dataset& data, LabObserver& observer,
                   const std::atomic<bool>& stop);

// `limit` of load_dataset that goes with a mode.
constexpr std::int64_t image_limit(Mode mode) { return mode == Mode::quick ? 12000 : 0; }

// docs/lab-results-format.md describes each value.
nlohmann::json to_json(const LabResults& results);
void write_lab_results(const LabResults& results, const std::filesystem::path& directory);
// Draws report.html of a directory anew from its results.json, which it returns. Throws Error if
// that is missing or not of this format.
nlohmann::json redraw_lab_report(const std::filesystem::path& directory);

}  // namespace evenkeel::lab
