#include "cli/explain.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cli/worked_example.h"
#include "cli/write_text.h"

namespace evenkeel::cli {
namespace {

constexpr std::int64_t most = 16;  // samples or features that still fit on a page
constexpr std::int64_t largest_window = 99;

struct InputOptions {
  std::int64_t samples = 2;
  std::int64_t features = 4;  // columns, or channels if a channel has several positions
  std::uint32_t seed = 8;     // whose first numbers rise and fall between the two samples
  std::optional<Matrix> given;
};

void require(bool condition, const std::string& option, const std::string& mistake) {
  if (!condition) throw CLI::ValidationError(option, mistake);
}

void require_finite(double value, const std::string& option) {
  require(std::isfinite(value), option, fmt::format("{} is not a finite number", value));
}

// "1,2;3,4" as a matrix.
Matrix parse_matrix(const std::string& text) {
  const std::string option = "--input";
  require(!text.empty(), option, "no numbers; e.g. '1,2;3,4' is expected");
  Matrix matrix;
  for (const std::string& row : CLI::detail::split(text, ';')) {
    const std::vector<std::string> cells = CLI::detail::split(row, ',');
    const auto columns = static_cast<std::int64_t>(cells.size());
    if (matrix.samples++ == 0) matrix.features = columns;
    require(columns == matrix.features, option,
            fmt::format("row {} has {} values, row 1 has {}", matrix.samples, columns,
                        matrix.features));
    for (const std::string& cell : cells) {
      double value = 0;
      require(CLI::detail::lexical_cast(CLI::detail::trim_copy(cell), value), option,
              fmt::format("'{}' is not a number", cell));
      require_finite(value, option);
      matrix.values.push_back(value);
    }
  }
  require(matrix.samples <= most && matrix.features <= most, option,
          fmt::format("{} x {} numbers, at most {} x {} fit on a page", matrix.samples,
                      matrix.features, most, most));
  return matrix;
}

CLI::Range up_to_most() { return {std::int64_t{1}, most}; }

// `columns`: what the layer calls them, "features" or "channels".
void add_input_options(CLI::App* command, InputOptions& options, const std::string& columns) {
  auto* samples = command->add_option("--samples", options.samples, "Rows of the input")
                      ->check(up_to_most())
                      ->capture_default_str();
  auto* features = command
                       ->add_option("--" + columns, options.features,
                                    columns == "features" ? "Columns of the input (channels)"
                                                          : "Channels of the input")
                       ->check(up_to_most())
                       ->capture_default_str();
  auto* seed =
      command->add_option("--seed", options.seed, "Chooses other numbers")->capture_default_str();
  command
      ->add_option_function<std::string>(
          "--input", [&options](const std::string& text) { options.given = parse_matrix(text); },
          "Numbers of your own: ',' between columns, ';' between rows")
      ->type_name("ROWS")
      ->excludes(samples)
      ->excludes(features)
      ->excludes(seed);
}

// The input asked for: given, or whole multiples of `unit` from 0 to 9 times it.
Matrix make_input(const InputOptions& options, int unit, std::int64_t positions = 1) {
  if (options.given) return *options.given;
  Matrix matrix{.samples = options.samples, .features = options.features * positions, .values = {}};
  // The standard fixes mt19937's numbers, but not those of its distributions.
  std::mt19937 engine(options.seed);
  for (std::int64_t i = 0; i < matrix.shape().size(); ++i) {
    matrix.values.push_back(static_cast<double>(engine() % 10) * unit);
  }
  return matrix;
}

bool bold_output() { return ::isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr; }

// A layer's page, and what its options are.
struct NormLayer {
  std::string name;
  std::string description;
  std::string (*page)(const NormExample&, bool bold);
  std::string columns = "features";  // or "channels", which may have several positions
  bool bias = true;
  bool groups = false;
  bool unit_offset = false;
  std::int64_t channels = 4;  // of the input, unless told otherwise
  std::int64_t positions = 1;
  std::string examples;
};

struct NormArguments {
  InputOptions input;
  NormExample example;
};

void check_parameters(const std::vector<double>& values, const NormExample& example,
                      const std::string& columns, const std::string& option) {
  for (const double value : values) require_finite(value, option);
  require(values.empty() || static_cast<std::int64_t>(values.size()) == example.channels(), option,
          fmt::format("{} numbers for {} {}; one for each is expected", values.size(),
                      example.channels(), columns));
}

void check(const NormExample& example, const NormLayer& layer) {
  const std::int64_t columns = example.x.features;
  require(columns <= most, "--positions",
          fmt::format("{} channels x {} positions, at most {} columns fit on a page",
                      example.channels(), example.positions, most));
  require(
      columns % example.positions == 0, "--positions",
      fmt::format("{} does not divide the {} columns of the input", example.positions, columns));
  if (layer.groups) {
    require(example.channels() % example.groups == 0, "--groups",
            fmt::format("{} does not divide the {} channels", example.groups, example.channels()));
  }
  require(std::isfinite(example.eps) && example.eps > 0, "--eps",
          fmt::format("{} is not a finite number above 0", example.eps));
  check_parameters(example.weight, example, layer.columns, "--weight");
  check_parameters(example.bias, example, layer.columns, "--bias");
}

std::string batch_norm_page(const NormExample& example, bool bold) {
  require(example.x.samples > 1, "batch-norm",
          "a batch of one sample has nothing to average over; give two or more");
  return explain_batch_norm(example, bold);
}

std::string instance_norm_page(const NormExample& example, bool bold) {
  require(example.positions > 1, "--positions",
          "a channel with one position has nothing to average over; give two or more");
  return explain_instance_norm(example, bold);
}

const std::vector<NormLayer>& norm_layers() {
  static const std::vector<NormLayer> layers = {
      {.name = "batch-norm",
       .description = "Batch normalization: each feature over the samples",
       .page = batch_norm_page,
       .examples = "  evenkeel explain batch-norm --samples 8 --features 3 --seed 7\n"
                   "  evenkeel explain batch-norm --input '1,2,3;4,6,8' --weight 1,2,0.5"},
      {.name = "layer-norm",
       .description = "Layer normalization: each sample over its features",
       .page = explain_layer_norm,
       .examples = "  evenkeel explain layer-norm --samples 3 --features 5\n"
                   "  evenkeel explain layer-norm --input '1,2,3;4,6,8' --bias 0,0,1"},
      {.name = "group-norm",
       .description = "Group normalization: each sample over groups of its channels",
       .page = explain_group_norm,
       .columns = "channels",
       .groups = true,
       .channels = 6,
       .examples = "  evenkeel explain group-norm --channels 8 --groups 4\n"
                   "  evenkeel explain group-norm --channels 4 --positions 3 --groups 2\n"
                   "  evenkeel explain group-norm --input '1,3,10,30;5,5,0,8' --groups 2"},
      {.name = "instance-norm",
       .description = "Instance normalization: each channel of a sample over its positions",
       .page = instance_norm_page,
       .columns = "channels",
       .channels = 2,
       .positions = 3,
       .examples = "  evenkeel explain instance-norm --channels 3 --positions 4\n"
                   "  evenkeel explain instance-norm --input '1,2,3,10,20,30' --positions 3"},
      {.name = "rms-norm",
       .description = "RMS normalization: each sample by its mean square, without a mean",
       .page = explain_rms_norm,
       .bias = false,
       .unit_offset = true,
       .examples = "  evenkeel explain rms-norm --input '3,4,0,0;1,-1,1,1'\n"
                   "  evenkeel explain rms-norm --weight 0,1,0.5,-0.5 --unit-offset"},
  };
  return layers;
}

void add_norm(CLI::App* explain, const NormLayer& layer) {
  auto arguments = std::make_shared<NormArguments>();
  NormExample& example = arguments->example;
  arguments->input.features = layer.channels;
  example.positions = layer.positions;
  example.groups = layer.groups ? 2 : 1;
  CLI::App* command = explain->add_subcommand(layer.name, layer.description);
  add_input_options(command, arguments->input, layer.columns);
  const bool channels = layer.columns == "channels";
  if (channels) {
    command
        ->add_option("--positions", example.positions,
                     "Positions of each channel; columns go channel by channel")
        ->check(up_to_most())
        ->capture_default_str();
  }
  if (layer.groups) {
    command->add_option("--groups", example.groups, "Groups of channels; divides the channels")
        ->check(up_to_most())
        ->capture_default_str();
  }
  command
      ->add_option("--eps", example.eps,
                   fmt::format("Added to the {}; above 0", layer.bias ? "variance" : "mean square"))
      ->capture_default_str();
  const std::string unit = channels ? "channel" : "feature";
  command
      ->add_option("--weight", example.weight,
                   fmt::format("One number a {}, by commas; without it, 1", unit))
      ->delimiter(',');
  if (layer.bias) {
    command
        ->add_option("--bias", example.bias,
                     fmt::format("One number a {}, by commas; without it, 0", unit))
        ->delimiter(',');
  }
  if (layer.unit_offset) {
    command->add_flag("--unit-offset", example.unit_offset,
                      "1 is added to the weight, which is 0 if not given");
  }
  command->footer(fmt::format("Examples:\n  evenkeel explain {}\n{}", layer.name, layer.examples));
  command->callback([arguments, &layer] {
    arguments->example.x = make_input(arguments->input, 1, arguments->example.positions);
    check(arguments->example, layer);
    write_text(stdout, layer.page(arguments->example, bold_output()));
  });
}

struct Convention {
  const char* name;
  std::int64_t smallest;  // size
  LocalResponseNormOptions (*translate)(std::int64_t size, double alpha, double beta, double k);
};

constexpr std::array<Convention, 6> conventions = {{
    {"paper", 1, LocalResponseNormOptions::paper},
    {"torch", 1, LocalResponseNormOptions::torch},
    {"onnx", 1, LocalResponseNormOptions::onnx},
    {"cudnn", 1, LocalResponseNormOptions::cudnn},
    {"caffe", 1, LocalResponseNormOptions::caffe},
    {"tensorflow", 0,
     [](std::int64_t radius, double alpha, double beta, double bias) {
       return LocalResponseNormOptions::tensorflow(radius, bias, alpha, beta);
     }},
}};

void add_lrn(CLI::App* explain) {
  struct Arguments {
    InputOptions input{.samples = 2, .features = 8, .seed = 8, .given = {}};
    std::string convention = "paper";
    std::int64_t size = 5;
    double alpha = 1e-4;
    double beta = 0.75;
    double k = 2;
  };
  auto arguments = std::make_shared<Arguments>();
  std::vector<std::string> names;
  for (const Convention& convention : conventions) names.emplace_back(convention.name);

  CLI::App* command =
      explain->add_subcommand("lrn", "Local response normalization over a window of channels");
  add_input_options(command, arguments->input, "features");
  command->add_option("--convention", arguments->convention, "Whose reading of size and alpha")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  command
      ->add_option("--size", arguments->size,
                   "Channels in the window, as the convention counts them (tensorflow: the radius)")
      ->capture_default_str();
  command->add_option("--alpha", arguments->alpha, "Factor of the sum, as the convention counts it")
      ->capture_default_str();
  command->add_option("--beta", arguments->beta, "Exponent")->capture_default_str();
  command->add_option("--k", arguments->k, "Added to the sum; TensorFlow and ONNX call it bias")
      ->capture_default_str();
  command->footer(
      "The defaults are AlexNet's, for every convention, so that the conventions can be compared.\n"
      "\n"
      "Examples:\n"
      "  evenkeel explain lrn\n"
      "  evenkeel explain lrn --convention torch --size 4\n"
      "  evenkeel explain lrn --input '0,3,4,0' --size 3 --k 1 --alpha 1 --beta 0.5");
  command->callback([arguments] {
    const Arguments& a = *arguments;
    require_finite(a.alpha, "--alpha");
    require_finite(a.beta, "--beta");
    require_finite(a.k, "--k");
    for (const Convention& convention : conventions) {
      if (convention.name != a.convention) continue;
      require(convention.smallest <= a.size && a.size <= largest_window, "--size",
              fmt::format("{}, expected {} to {} with convention '{}'", a.size, convention.smallest,
                          largest_window, convention.name));
      require(a.convention != "caffe" || a.size % 2 == 1, "--size",
              fmt::format("{} is even; Caffe's windows are odd", a.size));
      // Tens: at the size of activations that AlexNet's alpha is made for.
      write_text(stdout,
                 explain_local_response_norm(make_input(a.input, 10),
                                             convention.translate(a.size, a.alpha, a.beta, a.k),
                                             a.convention, bold_output()));
    }
  });
}

}  // namespace

void add_explain(CLI::App& app) {
  CLI::App* explain =
      app.add_subcommand("explain", "Work a layer out on a few numbers, step by step");
  explain->footer(
      "Examples:\n"
      "  evenkeel explain batch-norm\n"
      "  evenkeel explain layer-norm --samples 3 --features 5\n"
      "  evenkeel explain group-norm --groups 3\n"
      "  evenkeel explain lrn --convention torch\n"
      "\n"
      "'evenkeel explain LAYER --help' describes a layer's options.");
  std::vector<std::string> names;
  for (const NormLayer& layer : norm_layers()) {
    add_norm(explain, layer);
    names.push_back(layer.name);
  }
  add_lrn(explain);
  explain->callback([explain, names] {
    if (explain->get_subcommands().empty()) {
      throw CLI::RequiredError(fmt::format("One of {} and lrn", fmt::join(names, ", ")));
    }
  });
}

}  // namespace evenkeel::cli
