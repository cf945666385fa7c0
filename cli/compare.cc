#include "cli/compare.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/long_run.h"
#include "cli/results_table.h"
#include "cli/run_observer.h"
#include "cli/stop_signal.h"
#include "cli/write_text.h"
#include "evenkeel/error.h"
#include "lab/compare.h"
#include "lab/files.h"

namespace evenkeel::cli {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  lab::CompareConfig config;
  std::string data = "fashion-mnist";
  std::int64_t seeds = 1;
  std::uint64_t first_seed = 1;
  bool quick = false;
  std::string out = "evenkeel-compare";
  std::string redraw;
};

// "mlp: 0.1, cnn: 0.05".
template <class Value>
std::string defaults_of(Value value) {
  std::vector<std::string> parts;
  for (const auto& plan : lab::network_plans()) {
    parts.push_back(fmt::format("{}: {}", plan.name, value(plan)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

lab::CompareConfig config_of(const Arguments& arguments) {
  lab::CompareConfig config = arguments.config;
  config.command = command_line();
  if (arguments.quick) config = lab::quick(config);
  config.seeds.clear();
  for (std::int64_t i = 0; i < arguments.seeds; ++i) {
    config.seeds.push_back(arguments.first_seed + static_cast<std::uint64_t>(i));
  }
  try {
    lab::check(config);
  } catch (const Error& error) {
    throw CLI::ValidationError(error.what());
  }
  return config;
}

// An InstanceNorm that stands nowhere would pass for a result.
void warn_of_absent_norms(const lab::CompareConfig& config) {
  if (std::ranges::find(config.norms, "instance") == config.norms.end()) return;
  for (const auto& name : config.networks) {
    const auto& layers = lab::network_plan(name).layers;
    if (std::ranges::any_of(layers, &lab::LayerPlan::convolution)) continue;
    write_text(stderr, fmt::format("evenkeel: {} has no convolution, so instance is the same there "
                                   "as none\n",
                                   name));
  }
}

// The files first: a standard output that is closed or full must not cost them, and neither must
// they cost the table.
void write_and_print(const lab::Results& results, const std::string& directory) {
  std::exception_ptr error;
  try {
    lab::write_results(results, directory);
  } catch (...) {
    error = std::current_exception();
  }
  fmt::print("\n");
  print_table(results);
  if (error) std::rethrow_exception(error);
  print_paths(directory, "log.csv");
}

void run(const Arguments& arguments) {
  if (!arguments.redraw.empty()) {
    lab::redraw_report(arguments.redraw);
    print_paths(arguments.redraw, "log.csv");
    return;
  }
  const lab::CompareConfig config = config_of(arguments);
  warn_of_absent_norms(config);
  const StopSignal stop_signal;
  const lab::Dataset data = lab::load_dataset(arguments.data, config.quick ? lab::quick_limit : 0);
  // After the data, so that bad data leaves no empty directory behind.
  lab::require_writable_directory(arguments.out);
  if (!config.jobs) warn_of_serial_blas("arms train");
  lab::Results results;
  {
    RunObserver observer(arguments.out);
    results = lab::compare(config, data, observer, StopSignal::flag());
  }
  const fs::path report = report_in(arguments.out);
  const bool trained = std::ranges::any_of(results.arms, [](const auto& a) { return a.steps > 0; });
  if (results.interrupted && !trained && fs::exists(report)) {
    throw Error(fmt::format("stopped before the first step; {} is the older one", report.string()));
  }
  write_and_print(results, arguments.out);
  if (results.interrupted) {
    throw Error(fmt::format("stopped before the end; {} shows what there is", report.string()));
  }
  for (const auto& arm : results.arms) {
    if (arm.status == lab::Status::failed) {
      throw Error(
          fmt::format("{} {} seed {} failed: {}", arm.network, arm.norm, arm.seed, *arm.error));
    }
  }
}

constexpr const char* examples =
    "The arms of one network and seed start with the same weights and see the same batches. "
    "Writes\n"
    "report.html (self-contained), results.json and log.csv. Ctrl-C stops, and still writes what\n"
    "there is.\n"
    "\n"
    "What each norm averages over: batch, the images of a batch, for each map or unit; layer and "
    "rms,\n"
    "all values of an image's layer; group, each of 4 groups of an image's maps or units; "
    "instance,\n"
    "the positions of each map, so that it stands on convolutions alone; lrn, neighboring maps. "
    "All\n"
    "but lrn stand before the activation function.\n"
    "\n"
    "Examples:\n"
    "  evenkeel compare                                  the sigmoid network, each norm\n"
    "  evenkeel compare --quick                          a first look, in seconds\n"
    "  evenkeel compare --network mlp,cnn --jobs 2\n"
    "  evenkeel compare --network cnn --norms none,batch --lr 0.5 --seeds 3\n"
    "  evenkeel compare --network cnn --norms batch,group,instance,rms,layer\n"
    "  evenkeel compare --data my-mnist/ --epochs 5 --out out/my-mnist\n"
    "  evenkeel compare --redraw out/my-mnist            the report anew, without training";

}  // namespace

void add_compare(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  lab::CompareConfig& config = arguments->config;
  CLI::App* command = app.add_subcommand(
      "compare", "Train the same networks with each normalization and report what each one does");
  command
      ->add_option("--data", arguments->data,
                   "fashion-mnist (Debian's dataset-fashion-mnist) or a directory of IDX files, "
                   "gzipped or not")
      ->type_name("NAME|DIR")
      ->capture_default_str();
  command
      ->add_option("--network", config.networks,
                   fmt::format("One or more of {}", fmt::join(lab::network_names(), ",")))
      ->type_name("LIST")
      ->delimiter(',')
      ->default_str(fmt::format("{}", fmt::join(config.networks, ",")));
  command
      ->add_option("--norms", config.norms,
                   fmt::format("One or more of {}", fmt::join(lab::norm_names(), ",")))
      ->type_name("LIST")
      ->delimiter(',')
      ->default_str(fmt::format("{}", fmt::join(config.norms, ",")));
  auto* steps = command->add_option(
      "--steps", config.steps,
      fmt::format("Batches to train on ({})",
                  defaults_of([](const auto& plan) { return fmt::to_string(plan.steps); })));
  command->add_option("--epochs", config.epochs, "Passes over the training images instead")
      ->excludes(steps);
  command->add_option("--batch-size", config.batch_size,
                      fmt::format("Images a batch ({})", defaults_of([](const auto& plan) {
                                    return fmt::to_string(plan.batch_size);
                                  })));
  command->add_option("--lr", config.lr,
                      fmt::format("Learning rate, constant ({})", defaults_of([](const auto& plan) {
                                    return fmt::to_string(plan.lr);
                                  })));
  command
      ->add_option("--seeds", arguments->seeds,
                   "How many seeds: the first and those that follow it")
      ->check(CLI::Range(1, 1000).description(""))
      ->capture_default_str();
  command->add_option("--first-seed", arguments->first_seed, "The first seed")
      ->capture_default_str();
  command->add_option("--jobs", config.jobs,
                      "Arms that train at once, each on one core (one for each core)");
  command->add_option("--out", arguments->out, "Directory of the report; made if missing")
      ->type_name("DIR")
      ->capture_default_str();
  command->add_flag("--quick", arguments->quick,
                    "Few steps on a tenth of the images: for a first look and for tests");
  command
      ->add_option("--redraw", arguments->redraw,
                   "Only draw DIR/report.html anew from DIR/results.json")
      ->type_name("DIR");
  command->footer(examples);
  command->callback([arguments] { run(*arguments); });
}

}  // namespace evenkeel::cli
