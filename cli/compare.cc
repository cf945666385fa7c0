#include "cli/compare.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/progress.h"
#include "cli/stop_signal.h"
#include "cli/write_text.h"
#include "evenkeel/error.h"
#include "lab/blas.h"
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

// The command line as it can be given to a shell again.
std::string command_line() {
  std::ifstream in("/proc/self/cmdline");
  std::string command = "evenkeel";
  std::string word;
  std::getline(in, word, '\0');  // the program's path
  while (std::getline(in, word, '\0')) {
    const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 ||
             std::string_view("-_=.,/:+").find(static_cast<char>(c)) != std::string_view::npos;
    });
    command += plain ? " " + word
                     : fmt::format(" '{}'", std::regex_replace(word, std::regex("'"), "'\\''"));
  }
  return command;
}

// "mlp: 0.1, cnn: 0.05".
template <class Value>
std::string defaults_of(Value value) {
  std::vector<std::string> parts;
  for (const auto& plan : lab::network_plans()) {
    parts.push_back(fmt::format("{}: {}", plan.name, value(plan)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

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

fs::path report_in(const std::string& directory) { return fs::path(directory) / "report.html"; }

// Shows progress, and writes the results so far after each arm, so that whatever ends the program
// takes at most the arms that are under way.
class RunObserver : public lab::Observer {
 public:
  explicit RunObserver(std::string directory) : directory_(std::move(directory)) {}

  void planned(const std::vector<lab::ArmConfig>& arms) override {
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

  void stepped(std::size_t arm, std::int64_t step, double loss) override {
    progress_.update(*items_[arm], step, fmt::format("loss {:.3f}", loss));
    count(arm, step);
  }

  void ended(std::size_t arm, const lab::Results& results) override {
    const lab::ArmResult& result = results.arms[arm];
    // The last arm's are written by the caller; an arm that was stopped adds nothing that cannot
    // wait for that.
    if (results.interrupted && result.status != lab::Status::interrupted) write(results);
    progress_.finish(*items_[arm], status_of(result));
    // An arm that ended early has no more to do.
    if (result.status != lab::Status::interrupted) count(arm, planned_steps_[arm]);
    if (all_ && !results.interrupted) progress_.finish(*all_);
  }

 private:
  void count(std::size_t arm, std::int64_t step) {
    if (!all_) return;
    done_ += step - std::exchange(steps_[arm], step);
    progress_.update(*all_, done_);
  }

  // What cannot be written now may still be at the end; if not, the error is reported then.
  void write(const lab::Results& results) {
    try {
      lab::write_results(results, directory_);
    } catch (const std::exception& error) {
      progress_.print(fmt::format("The results so far are not written: {}", error.what()));
    }
  }

  std::string directory_;
  Progress progress_;
  std::vector<Progress::Item*> items_;
  std::vector<std::int64_t> planned_steps_;
  std::vector<std::int64_t> steps_;  // counted so far, by arm
  std::int64_t done_ = 0;            // their sum
  Progress::Item* all_ = nullptr;    // only of several arms
};

// "88.12" or, of several, "88.12 (87.90 .. 88.40)"; "-" of none.
std::string mean_and_range(const std::vector<double>& values, int digits) {
  if (values.empty()) return "-";
  double sum = 0;
  for (const double value : values) sum += value;
  std::string text = fmt::format("{:.{}f}", sum / static_cast<double>(values.size()), digits);
  if (values.size() > 1) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    text += fmt::format(" ({:.{}f} .. {:.{}f})", *low, digits, *high, digits);
  }
  return text;
}

// All seeds of one network and norm.
struct Row {
  int seeds = 0;
  std::vector<double> accuracies;  // percent
  std::vector<double> losses;
  std::vector<double> seconds;
  std::map<std::string, int> statuses;

  void add(const lab::ArmResult& arm) {
    ++seeds;
    if (arm.test) accuracies.push_back(100 * arm.test->accuracy);
    if (!arm.train.empty()) losses.push_back(arm.train.back().loss);
    if (arm.steps > 0) seconds.push_back(arm.seconds);
    ++statuses[std::string(lab::name_of(arm.status))];
  }

  std::string status() const {
    if (statuses.size() == 1) return statuses.begin()->first;
    std::vector<std::string> parts;
    for (const auto& [name, count] : statuses) parts.push_back(fmt::format("{} {}", count, name));
    return fmt::format("{}", fmt::join(parts, ", "));
  }
};

void print_table(const lab::Results& results) {
  const std::vector<std::string> header = {"network",    "norm",    "seeds", "test accuracy %",
                                           "train loss", "seconds", "status"};
  std::vector<std::vector<std::string>> lines = {header};
  for (const auto& network : results.networks) {
    for (const auto& norm : results.norms) {
      Row row;
      for (const auto& arm : results.arms) {
        if (arm.network == network && arm.norm == norm) row.add(arm);
      }
      lines.push_back({network, norm, fmt::to_string(row.seeds), mean_and_range(row.accuracies, 2),
                       mean_and_range(row.losses, 3), mean_and_range(row.seconds, 1),
                       row.status()});
    }
  }
  std::vector<std::size_t> widths(header.size());
  for (const auto& line : lines) {
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  }
  for (const auto& line : lines) {
    std::string text;
    for (std::size_t c = 0; c < line.size(); ++c)
      text += fmt::format("{:{}}  ", line[c], widths[c]);
    fmt::print("{}\n", text.substr(0, text.find_last_not_of(' ') + 1));
  }
}

void print_paths(const std::string& directory) {
  fmt::print("\nReport:  {}\nNumbers: {} and log.csv beside it\n", report_in(directory).string(),
             (fs::path(directory) / "results.json").string());
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
  print_paths(directory);
}

void run(const Arguments& arguments) {
  if (!arguments.redraw.empty()) {
    lab::redraw_report(arguments.redraw);
    print_paths(arguments.redraw);
    return;
  }
  const lab::CompareConfig config = config_of(arguments);
  const StopSignal stop_signal;
  const lab::Dataset data = lab::load_dataset(arguments.data, config.quick ? lab::quick_limit : 0);
  // After the data, so that bad data leaves no empty directory behind.
  lab::require_writable_directory(arguments.out);
  if (!config.jobs && !lab::blas_is_thread_safe()) {
    write_text(
        stderr,
        fmt::format("evenkeel: arms train one at a time, as the loaded BLAS, {}, is not safe "
                    "for several threads; libopenblas0-openmp is\n",
                    lab::blas_name()));
  }
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
    "Examples:\n"
    "  evenkeel compare                                  the sigmoid network, each norm\n"
    "  evenkeel compare --quick                          a first look, in seconds\n"
    "  evenkeel compare --network mlp,cnn --jobs 2\n"
    "  evenkeel compare --network cnn --norms none,batch --lr 0.5 --seeds 3\n"
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
