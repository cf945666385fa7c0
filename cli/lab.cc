#include "cli/lab.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/lab_progress.h"
#include "cli/lab_text.h"
#include "cli/long_run.h"
#include "cli/progress.h"
#include "cli/stop_signal.h"
#include "cli/write_text.h"
#include "evenkeel/error.h"
#include "lab/files.h"
#include "lab/lab.h"
#include "lab/registry.h"

namespace evenkeel::cli {
namespace {

struct LabArguments {
  std::vector<std::string> ids;
  bool all = false;
  bool list = false;
  bool quick = false;
  bool full = false;
  std::string data = "fashion-mnist";
  std::optional<int> jobs;
  std::string out = "evenkeel-lab";
  std::string report;
};

// In the lab's order, the cheapest first.
std::vector<const lab::Experiment*> chosen(const LabArguments& arguments) {
  if (arguments.ids.empty() && !arguments.all) {
    throw CLI::ValidationError(
        "no experiment is named; name one or more, or give --all ('evenkeel lab --list' shows "
        "them)");
  }
  try {
    for (const std::string& id : arguments.ids) lab::experiment(id);
  } catch (const Error& error) {
    throw CLI::ValidationError(error.what());
  }
  std::vector<const lab::Experiment*> chosen;
  for (const lab::Experiment& experiment : lab::experiments()) {
    if (arguments.all || std::ranges::count(arguments.ids, experiment.id) > 0) {
      chosen.push_back(&experiment);
    }
  }
  return chosen;
}

void print_results(const nlohmann::json& results, const std::string& directory) {
  write_text(stdout, verdict_table(results));
  print_paths(directory, "trials/");
}

void redraw(const std::string& directory) {
  const nlohmann::json results = lab::redraw_lab_report(directory);
  try {
    print_results(results, directory);
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("{}/results.json: not as `evenkeel lab` writes it: {}", directory,
                            error.what()));
  }
}

void throw_if_trials_failed(const lab::LabResults& results) {
  std::string failed;
  std::size_t count = 0;
  for (const lab::Conclusion& conclusion : results.conclusions) {
    for (const std::string& error : conclusion.errors) {
      failed += fmt::format("\n  {}: {}", conclusion.experiment->id, error);
      ++count;
    }
  }
  if (count > 0) throw Error(fmt::format("{} trials failed:{}", count, failed));
}

void measure(const LabArguments& arguments) {
  const lab::LabConfig config = {.experiments = chosen(arguments),
                                 .mode = arguments.full ? lab::Mode::full : lab::Mode::quick,
                                 .jobs = arguments.jobs,
                                 .directory = arguments.out,
                                 .command = command_line()};
  const StopSignal stop_signal;
  const lab::Dataset data = lab::load_dataset(arguments.data, lab::image_limit(config.mode));
  lab::require_images(config, data);
  // After the data, so that bad data leaves no empty directory behind.
  lab::require_writable_directory(config.directory);
  if (!config.jobs) warn_of_serial_blas("trials run");
  if (!arguments.quick && !arguments.full) {
    write_text(stderr, "evenkeel: a quick run; --full runs the protocol's seeds and steps\n");
  }
  lab::LabResults results;
  {
    Progress progress;
    LabProgress observer(config, progress);
    results = lab::run_lab(config, data, observer, StopSignal::flag());
  }
  if (results.conclusions.empty()) throw Error("stopped before the first experiment");
  fmt::print("\n");
  print_results(lab::to_json(results), arguments.out);
  if (results.interrupted) {
    throw Error(
        "stopped before the end; what was measured is kept, and the same command continues");
  }
  throw_if_trials_failed(results);
}

void lab_command(const LabArguments& arguments) {
  if (arguments.list) {
    write_text(stdout, list_of(lab::experiments()));
  } else if (!arguments.report.empty()) {
    redraw(arguments.report);
  } else {
    measure(arguments);
  }
}

constexpr const char* lab_examples =
    "Tests claims about normalization by experiments, and gives each a verdict: confirmed,\n"
    "refuted, or depends. The rule was fixed before and stands in the report. Writes report.html\n"
    "(self-contained) and results.json after each experiment, and keeps each trial in trials/.\n"
    "Ctrl-C stops and keeps what was measured; the same command then continues.\n"
    "\n"
    "Examples:\n"
    "  evenkeel lab --list                               the experiments and what they cost\n"
    "  evenkeel lab invariance moving-average            two of them, quick\n"
    "  evenkeel lab --all --quick --out out/quick        all of them, for a first look\n"
    "  evenkeel lab batch-size --full --jobs 2           the protocol's seeds and steps\n"
    "  evenkeel lab --report out/quick                   the report anew, without running";

}  // namespace

void add_lab(CLI::App& app) {
  auto arguments = std::make_shared<LabArguments>();
  CLI::App* command =
      app.add_subcommand("lab", "Test claims about normalization, each by an experiment");
  auto* ids = command->add_option("ID", arguments->ids, "Experiments to run")->type_name("");
  auto* all = command->add_flag("--all", arguments->all, "Run every experiment")->excludes(ids);
  auto* list = command
                   ->add_flag("--list", arguments->list,
                              "Only list the experiments: claim, source and estimated time")
                   ->excludes(ids)
                   ->excludes(all);
  auto* quick = command->add_flag("--quick", arguments->quick,
                                  "Few seeds and steps, a minute or two each (the default)");
  command->add_flag("--full", arguments->full, "The protocol's seeds and steps")->excludes(quick);
  command
      ->add_option("--data", arguments->data,
                   "fashion-mnist (Debian's dataset-fashion-mnist) or a directory of IDX files, "
                   "gzipped or not")
      ->type_name("NAME|DIR")
      ->capture_default_str();
  command
      ->add_option("--jobs", arguments->jobs,
                   "Trials that run at once, each on one core (one for each core)")
      ->check(CLI::Range(1, 1000).description(""));
  command
      ->add_option("--out", arguments->out, "Directory of the report and trials; made if missing")
      ->type_name("DIR")
      ->capture_default_str();
  command
      ->add_option("--report", arguments->report,
                   "Only draw DIR/report.html anew from DIR/results.json, and print the verdicts")
      ->type_name("DIR")
      ->excludes(ids)
      ->excludes(all)
      ->excludes(list);
  command->footer(lab_examples);
  command->callback([arguments] { lab_command(*arguments); });
}

}  // namespace evenkeel::cli
