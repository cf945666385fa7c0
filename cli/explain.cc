#include "cli/explain.h"

#include <fmt/format.h>
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
  std::int64_t features = 4;
  std::uint32_t seed = 8;  // whose first numbers rise and fall between the two samples
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

void add_input_options(CLI::App* command, InputOptions& options) {
  auto* samples = command->add_option("--samples", options.samples, "Rows of the input")
                      ->check(CLI::Range(std::int64_t{1}, most))
                      ->capture_default_str();
  auto* features =
      command->add_option("--features", options.features, "Columns of the input (channels)")
          ->check(CLI::Range(std::int64_t{1}, most))
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
Matrix make_input(const InputOptions& options, int unit) {
  if (options.given) return *options.given;
  Matrix matrix{.samples = options.samples, .features = options.features, .values = {}};
  // The standard fixes mt19937's numbers, but not those of its distributions.
  std::mt19937 engine(options.seed);
  for (std::int64_t i = 0; i < matrix.shape().size(); ++i) {
    matrix.values.push_back(static_cast<double>(engine() % 10) * unit);
  }
  return matrix;
}

bool bold_output() { return ::isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr; }

void check_parameters(const std::vector<double>& values, const NormExample& example,
                      const std::string& option) {
  for (const double value : values) require_finite(value, option);
  require(values.empty() || static_cast<std::int64_t>(values.size()) == example.x.features, option,
          fmt::format("{} numbers for {} features; one for each is expected", values.size(),
                      example.x.features));
}

void check(const NormExample& example) {
  require(std::isfinite(example.eps) && example.eps > 0, "--eps",
          fmt::format("{} is not a finite number above 0", example.eps));
  check_parameters(example.weight, example, "--weight");
  check_parameters(example.bias, example, "--bias");
}

std::string batch_norm_page(const NormExample& example, bool bold) {
  require(example.x.samples > 1, "batch-norm",
          "a batch of one sample has nothing to average over; give two or more");
  return explain_batch_norm(example, bold);
}

void add_norm(CLI::App* explain, const std::string& name, const std::string& description,
              std::string (*page)(const NormExample&, bool)) {
  struct Arguments {
    InputOptions input;
    NormExample example;
  };
  auto arguments = std::make_shared<Arguments>();
  NormExample& example = arguments->example;
  CLI::App* command = explain->add_subcommand(name, description);
  add_input_options(command, arguments->input);
  command->add_option("--eps", example.eps, "Added to the variance; above 0")
      ->capture_default_str();
  command->add_option("--weight", example.weight, "One number a feature, by commas; without it, 1")
      ->delimiter(',');
  command->add_option("--bias", example.bias, "One number a feature, by commas; without it, 0")
      ->delimiter(',');
  command->footer(
      fmt::format("Examples:\n"
                  "  evenkeel explain {0}\n"
                  "  evenkeel explain {0} --samples 8 --features 3 --seed 7\n"
                  "  evenkeel explain {0} --input '1,2,3;4,6,8' --weight 1,2,0.5 --bias 0,0,1",
                  name));
  command->callback([arguments, page] {
    arguments->example.x = make_input(arguments->input, 1);
    check(arguments->example);
    write_text(stdout, page(arguments->example, bold_output()));
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
  add_input_options(command, arguments->input);
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
      "  evenkeel explain lrn --convention torch\n"
      "\n"
      "'evenkeel explain LAYER --help' describes a layer's options.");
  add_norm(explain, "batch-norm", "Batch normalization: each feature over the samples",
           batch_norm_page);
  add_norm(explain, "layer-norm", "Layer normalization: each sample over its features",
           explain_layer_norm);
  add_lrn(explain);
  explain->callback([explain] {
    if (explain->get_subcommands().empty()) {
      throw CLI::RequiredError("One of batch-norm, layer-norm and lrn");
    }
  });
}

}  // namespace evenkeel::cli
