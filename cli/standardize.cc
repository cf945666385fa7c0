#include "cli/standardize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/npy.h"
#include "cli/progress.h"
#include "cli/standardization_file.h"
#include "cli/stop_signal.h"
#include "evenkeel/error.h"
#include "evenkeel/standardization.h"

namespace evenkeel::cli {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  std::string in;
  std::string out;
  std::string stats;  // written
  std::string apply;  // read
};

// An array as samples x features: the first dimension by the product of the others.
struct Dimensions {
  std::int64_t samples = 0;
  std::int64_t features = 1;

  Dimensions(const NpyReader& file, const std::string& name) {
    const std::vector<std::int64_t>& shape = file.header().shape;
    if (shape.empty()) {
      throw Error(fmt::format("{}: holds a single value; an array of samples is expected", name));
    }
    samples = shape.front();
    // Beside a size of 0 the others may be anything: what the file lacks does not bound them.
    if (samples == 0)
      throw Error(fmt::format("{}: holds no samples; one or more are expected", name));
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) {
      throw Error(fmt::format("{}: its samples hold no values; one or more are expected", name));
    }
    for (std::size_t d = 1; d < shape.size(); ++d) features *= shape[d];
  }
};

// Calls visit(rows of samples) over the whole file, a few MB at a time, never less than one sample.
template <class T>
void for_each_chunk(NpyReader& file, const Dimensions& array, Progress& progress,
                    const std::string& label, const std::function<void(TensorView<T>)>& visit) {
  constexpr std::int64_t chunk_values = (4 << 20) / sizeof(T);
  const std::int64_t chunk =
      std::clamp<std::int64_t>(chunk_values / array.features, 1, array.samples);
  std::vector<T> values(static_cast<std::size_t>(chunk * array.features));
  Progress::Item& item = progress.add(label, array.samples, "samples");
  progress.update(item, 0);
  file.rewind();
  for (std::int64_t first = 0; first < array.samples; first += chunk) {
    if (StopSignal::requested()) throw Error("standardize: stopped; no file was changed");
    const std::int64_t rows = std::min(chunk, array.samples - first);
    file.read(values.data(), rows * array.features * static_cast<std::int64_t>(sizeof(T)));
    visit(TensorView<T>(values.data(), Shape{.n = rows, .c = array.features}));
    progress.update(item, first + rows);
  }
  progress.finish(item);
}

template <class T>
Standardization fit(NpyReader& file, const Dimensions& array, Progress& progress) {
  ChannelMoments moments(array.features);
  for_each_chunk<T>(file, array, progress, "statistics",
                    [&](TensorView<T> rows) { moments.add(rows); });
  return Standardization::from(moments);
}

template <class T>
void transform(NpyReader& file, const Dimensions& array, const Standardization& standardization,
               NpyWriter& out, Progress& progress) {
  for_each_chunk<T>(file, array, progress, "standardize", [&](TensorView<T> rows) {
    standardization.apply(TensorView<const T>(rows), rows);
    out.write(rows.data, rows.shape.size() * static_cast<std::int64_t>(sizeof(T)));
  });
}

void report_constant_features(const Standardization& standardization, Progress& progress) {
  const std::vector<std::int64_t> constant = standardization.constant_features();
  if (constant.empty()) return;
  constexpr std::size_t shown = 8;
  const std::size_t listed = std::min(shown, constant.size());
  progress.print(fmt::format("{} of {} features are constant; their scale is 1 (features {}{})",
                             constant.size(), standardization.features(),
                             fmt::join(constant.data(), constant.data() + listed, ", "),
                             constant.size() > listed ? ", ..." : ""));
}

template <class T>
void standardize(NpyReader& in, const Dimensions& array, const Arguments& arguments) {
  Progress progress;
  // Opened before any work, so that a place that cannot be written is found now.
  NpyWriter out(arguments.out, in.header());
  if (arguments.apply.empty()) {
    lab::AtomicFile stats(arguments.stats);
    const Standardization standardization = fit<T>(in, array, progress);
    report_constant_features(standardization, progress);
    stats.write(to_json(standardization));
    transform<T>(in, array, standardization, out, progress);
    // The statistics first: with them, an IN that OUT replaces can be restored.
    stats.commit();
    out.commit();
  } else {
    const Standardization standardization = load_standardization(arguments.apply);
    if (standardization.features() != array.features) {
      throw Error(fmt::format("{}: {} features, expected {} as in {}", arguments.in, array.features,
                              standardization.features(), arguments.apply));
    }
    transform<T>(in, array, standardization, out, progress);
    out.commit();
  }
  fmt::print("{}: {} samples x {} features, statistics {} {}\n", arguments.out, array.samples,
             array.features, arguments.apply.empty() ? "in" : "of",
             arguments.apply.empty() ? arguments.stats : arguments.apply);
}

bool same_file(const std::string& a, const std::string& b) {
  return fs::weakly_canonical(fs::absolute(a)) == fs::weakly_canonical(fs::absolute(b));
}

void run(const Arguments& arguments) {
  const std::string& stats = arguments.apply.empty() ? arguments.stats : arguments.apply;
  if (same_file(stats, arguments.in) || same_file(stats, arguments.out)) {
    throw CLI::ValidationError(stats, "the statistics need a file of their own");
  }
  const StopSignal stop_signal;
  NpyReader in(arguments.in);
  const Dimensions array(in, arguments.in);
  if (in.header().type == NpyHeader::Type::float32) {
    standardize<float>(in, array, arguments);
  } else {
    standardize<double>(in, array, arguments);
  }
}

}  // namespace

void add_standardize(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "standardize", "Standardize each feature of a .npy array: x~ = (x - mean) / std");
  command
      ->add_option("IN.npy", arguments->in,
                   "An array of float32 or float64: samples along its first dimension, features "
                   "along all others together")
      ->type_name("")
      ->required();
  command->add_option("-o,--out", arguments->out, "The standardized array; may replace IN.npy")
      ->type_name("OUT.npy")
      ->required();
  CLI::Option_group* statistics = command->add_option_group("Statistics");
  statistics
      ->add_option("--stats", arguments->stats,
                   "Compute the statistics of IN.npy and write them to FILE")
      ->type_name("FILE");
  statistics
      ->add_option("--apply", arguments->apply,
                   "Use the statistics in FILE, e.g. those of the training set on a test set")
      ->type_name("FILE");
  statistics->require_option(1);
  command->footer(
      "x~ is the result, std the biased standard deviation (division by the number of samples). A\n"
      "constant feature is divided by 1 and becomes 0. The array is read in pieces, so it may be\n"
      "larger than memory. No file is changed until everything is computed.\n"
      "\n"
      "Examples:\n"
      "  evenkeel standardize train.npy -o train_std.npy --stats stats.json\n"
      "  evenkeel standardize test.npy -o test_std.npy --apply stats.json");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace evenkeel::cli
