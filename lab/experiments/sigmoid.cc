// sigmoid: whether BatchNorm keeps sigmoid units out of saturation, and what that is worth.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/measure.h"
#include "lab/train_trial.h"

namespace evenkeel::lab::sigmoid {
namespace {

constexpr double threshold = 0.01;
constexpr std::int64_t probe_images = 100;
constexpr std::array<double, 2> rates = {0.1, 1};

struct Start {
  std::string title;
  double initial_std = 0;  // 0: Xavier
};
const std::array<Start, 3> starts = {{{"N(0, 0.01²)", 0.01}, {"N(0, 0.1²)", 0.1}, {"Xavier", 0}}};

struct Kind {
  std::string norm;
  std::string title;
  bool frozen = false;
  int dash = 0;
};
const std::array<Kind, 4> kinds = {{{"none", "No normalization"},
                                    {"batch", "BatchNorm"},
                                    {"batch", "BatchNorm, frozen", true, 1},
                                    {"layer", "LayerNorm"}}};
const Kind& none = kinds[0];
const Kind& batch = kinds[1];
const Kind& frozen = kinds[2];
const Kind& layer = kinds[3];

// What is the same for the arms that are compared.
struct Cell {
  Start start;
  double rate;

  std::string title() const { return fmt::format("{}, rate {}", start.title, rate); }
};

std::vector<Cell> cells() {
  std::vector<Cell> all;
  for (const auto& start : starts) {
    for (const double rate : rates) all.push_back({start, rate});
  }
  return all;
}
// Small weights at the small rate and the usual ones at the large: where least and most speaks for
// a network without normalization.
std::array<Cell, 2> telling_cells() { return {{{starts[0], rates[0]}, {starts[2], rates[1]}}}; }

std::string arm_name(const Cell& cell, const Kind& kind) {
  return fmt::format("{}, {}", cell.title(), kind.title);
}

const NetworkPlan& network() { return network_plan("mlp"); }

Design design(Mode mode) {
  Design design;
  for (const auto& cell : cells()) {
    for (const auto& kind : kinds) {
      design.arms.push_back(
          {.name = arm_name(cell, kind),
           .norm = kind.norm,
           .settings = {{"initial_std", cell.start.initial_std}, {"frozen", kind.frozen}},
           .steps = mode == Mode::full ? 3000 : 1000,
           .rates = {cell.rate}});
    }
  }
  design.batch_size = network().batch_size;
  set_seeds(design, mode == Mode::full ? 5 : 2, 0);
  return design;
}

// Names of the curves of layer i.
std::string percentile_curve(std::size_t i, int percentile) {
  return fmt::format("{} p{}", network().layers[i].name, percentile);
}
std::string saturated_curve(std::size_t i) { return network().layers[i].name + " saturated"; }
std::string gradient_curve(std::size_t i) { return network().layers[i].name + " gradient norm"; }

void record(const Probe& probe, std::int64_t step, Measured& measured) {
  const auto at = static_cast<double>(step);
  for (std::size_t i = 0; i < probe.bands.size(); ++i) {
    measured.curves[percentile_curve(i, 15)].add(at, probe.bands[i][0]);
    measured.curves[percentile_curve(i, 50)].add(at, probe.bands[i][1]);
    measured.curves[percentile_curve(i, 85)].add(at, probe.bands[i][2]);
    measured.curves[saturated_curve(i)].add(at, probe.saturated[i]);
    measured.curves[gradient_curve(i)].add(at, probe.gradient_norm[i]);
  }
}

Measured measure(const Trial& trial, const Context& context) {
  NetworkPlan plan = network();
  plan.initial_std = trial.arm.settings.at("initial_std").get<double>();
  plan.xavier = plan.initial_std == 0;
  const bool learned = !trial.arm.settings.at("frozen").get<bool>();
  const Split batch_of_probe =
      context.data.held_out.narrow(0, std::min(probe_images, context.data.held_out.size()));
  return train_trial({.network = plan,
                      .norm = trial.arm.norm == "batch" ? batch_norm({.affine = learned})
                                                        : norm_of(trial.arm.norm),
                      .batch_size = plan.batch_size,
                      .eval_points = 15,
                      .probe_points = 30,
                      .probe =
                          [&](Network& network, std::int64_t step, double, Measured& measured) {
                            record(probe(network, plan.activation, batch_of_probe), step, measured);
                          }},
                     trial, context);
}

std::vector<double> accuracy(const Outcomes& outcomes, const Cell& cell, const Kind& kind) {
  return outcomes.values(outcomes.arm(arm_name(cell, kind)), "test_accuracy", chance);
}

// A curve's first or last value, by seed.
enum class When { start, end };
std::vector<double> at(When when, const Outcomes& outcomes, const Arm& arm,
                       const std::string& curve) {
  std::vector<double> values;
  for (const auto seed : outcomes.design().seeds) {
    const auto& y = outcomes.trial(arm, seed).curve(curve).y;
    values.push_back(y.empty() ? NAN : when == When::start ? y.front() : y.back());
  }
  return values;
}

double mean_at_end(const Outcomes& outcomes, const Cell& cell, const Kind& kind,
                   const std::string& curve) {
  return bootstrap_mean(at(When::end, outcomes, outcomes.arm(arm_name(cell, kind)), curve)).mean;
}

Interval minus(const Outcomes& outcomes, const Cell& cell, const Kind& a, const Kind& b) {
  return paired_difference(accuracy(outcomes, cell, a), accuracy(outcomes, cell, b));
}

// Of every cell.
std::string differences(const Outcomes& outcomes, const Kind& a, const Kind& b) {
  std::vector<std::string> parts;
  for (const auto& cell : cells()) {
    parts.push_back(fmt::format(
        "{} ({})", format_interval(minus(outcomes, cell, a, b), Format::points), cell.title()));
  }
  return fmt::to_string(fmt::join(parts, "; "));
}

std::string describe(const Outcomes& outcomes, const Cell& cell) {
  const std::size_t last = network().layers.size() - 1;
  const auto saturated = [&](const Kind& kind) {
    return format_number(mean_at_end(outcomes, cell, kind, saturated_curve(last)), Format::percent);
  };
  const auto gradient = [&](const Kind& kind) {
    return format_number(mean_at_end(outcomes, cell, kind, gradient_curve(0)), Format::decimal);
  };
  return fmt::format(
      "With {}, at the end of training, {} of the last layer's outputs are saturated without "
      "normalization, {} with BatchNorm and {} with it frozen; the gradient of the first layer has "
      "norm {}, {} and {}.\n",
      cell.title(), saturated(none), saturated(batch), saturated(frozen), gradient(none),
      gradient(batch), gradient(frozen));
}

Verdict judge(const Outcomes& outcomes) {
  std::vector<Comparison> comparisons;
  for (const auto& cell : cells()) {
    comparisons.push_back({fmt::format("accuracy of BatchNorm minus none, {}", cell.title()),
                           minus(outcomes, cell, batch, none)});
  }
  Verdict verdict = judge_above(comparisons, threshold, Format::points);
  verdict.depends_on = "the initialization and the rate";
  verdict.found =
      fmt::format("Test accuracy of BatchNorm minus none: {}.\nOf LayerNorm minus none: {}.\n",
                  differences(outcomes, batch, none), differences(outcomes, layer, none));
  for (const auto& cell : telling_cells()) verdict.found += describe(outcomes, cell);
  verdict.found +=
      fmt::format("On (g), accuracy with learned gamma and beta minus that with frozen ones: {}.",
                  differences(outcomes, batch, frozen));
  return verdict;
}

// The 15th to the 85th percentile of what the last hidden layer's sigmoids get.
Panel bands(const Outcomes& outcomes, const Cell& cell, const Kind& kind) {
  const auto& arm = outcomes.arm(arm_name(cell, kind));
  const std::size_t last = network().layers.size() - 1;
  Panel panel{.title = kind.title,
              .x = {.title = "Step", .format = Format::count},
              .y = {.title = "Input of the last layer's sigmoids"},
              .series = {}};
  panel.series = over_seeds(outcomes, arm, percentile_curve(last, 50), kind.title);
  // The mean, which comes last, carries the band of the means of the other two.
  auto& middle = panel.series.back().points;
  const auto low = over_seeds(outcomes, arm, percentile_curve(last, 15), "").back().points;
  const auto high = over_seeds(outcomes, arm, percentile_curve(last, 85), "").back().points;
  for (std::size_t i = 0; i < middle.size(); ++i) {
    middle[i].low = low[i].y;
    middle[i].high = high[i].y;
  }
  return panel;
}

Panel by_layer(const Outcomes& outcomes, const Cell& cell, When when, std::string title, Axis y,
               std::string (*curve)(std::size_t)) {
  Panel panel{
      .title = fmt::format("{}, {}", title, when == When::start ? "at the start" : "at the end"),
      .x = {.categories = network().layer_names()},
      .y = std::move(y),
      .series = {}};
  for (const auto& kind : kinds) {
    const auto& arm = outcomes.arm(arm_name(cell, kind));
    std::vector<double> x;
    std::vector<std::vector<double>> values;
    for (std::size_t i = 0; i < network().layers.size(); ++i) {
      x.push_back(static_cast<double>(i));
      values.push_back(at(when, outcomes, arm, curve(i)));
    }
    std::ranges::move(seeds_at(x, values, kind.title, kind.norm, /*join=*/true, kind.dash),
                      std::back_inserter(panel.series));
  }
  return panel;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  Figure cell_accuracy{
      .title = "Accuracy by initialization and rate",
      .caption = "Each hollow dot is one seed. Frozen: gamma and beta stay 1 and 0.",
      .panels = {}};
  for (const auto& cell : cells()) {
    std::vector<std::string> arms;
    std::vector<std::string> labels;
    for (const auto& kind : kinds) {
      arms.push_back(arm_name(cell, kind));
      labels.push_back(kind.title);
    }
    cell_accuracy.panels.push_back(
        values_by_arm(outcomes, arms, "test_accuracy", cell.title(),
                      {.title = "Test accuracy", .format = Format::percent}, labels, chance));
  }
  std::vector<Figure> figures = {std::move(cell_accuracy)};
  for (const auto& cell : telling_cells()) {
    Figure distribution{
        .title = fmt::format("What the last layer's sigmoids get: {}", cell.title()),
        .caption =
            "The median, and the band from the 15th to the 85th percentile (means over seeds), "
            "over one held-out batch and all units. A sigmoid is near its ends beyond about 3 and "
            "-3.",
        .panels = {}};
    Figure units{.title = fmt::format("Saturation and gradients: {}", cell.title()),
                 .caption =
                     "Saturated is an output below 0.05 or above 0.95. Gradient norms are of the "
                     "loss's gradient for each layer's weights.",
                 .panels = {}};
    for (const auto& kind : kinds) distribution.panels.push_back(bands(outcomes, cell, kind));
    for (const auto when : {When::start, When::end}) {
      units.panels.push_back(by_layer(outcomes, cell, when, "Saturated",
                                      {.title = "Saturated", .format = Format::percent},
                                      saturated_curve));
      units.panels.push_back(by_layer(
          outcomes, cell, when, "Gradient norm",
          {.title = "Gradient norm", .format = Format::power, .log = true}, gradient_curve));
    }
    figures.push_back(std::move(distribution));
    figures.push_back(std::move(units));
  }
  return figures;
}

std::string start_titles() {
  std::vector<std::string> titles;
  for (const auto& start : starts) titles.push_back(start.title);
  return fmt::to_string(fmt::join(titles, ", "));
}

}  // namespace

Experiment experiment() {
  const auto full = design(Mode::full);
  return {
      .id = "sigmoid",
      .title = "Does BatchNorm help a sigmoid network?",
      .claim =
          "A sigmoid network learns better with BatchNorm, whatever its initial weights and the "
          "learning rate.",
      .source =
          "The notes, whose reasons are that it keeps units out of saturation, so that gradients "
          "do not vanish (c), and that gamma and beta undo what plain standardization does to a "
          "sigmoid, which is to confine it to its near-linear region (g); Ioffe & Szegedy 2015, "
          "Batch normalization, Figure 1.",
      .protocol = fmt::format(
          "The network of that figure, 3 hidden layers of 100 sigmoid units and {} images a batch, "
          "is trained for {} steps from each of the initial weights {} at each of the rates {}: "
          "without normalization, with BatchNorm, with BatchNorm whose gamma and beta are frozen "
          "at 1 and 0, and with LayerNorm, from {} seeds. No rate is chosen: it is part of what is "
          "compared. On the way {} held-out images show the percentiles 15, 50 and 85 of the "
          "sigmoids' inputs (of all units, where the figure has one typical unit), the saturated "
          "fraction, and the norm of the gradient of each layer: the reasons, shown but not "
          "judged.",
          network().batch_size, full.arms.front().steps, start_titles(), fmt::join(rates, ", "),
          full.seeds.size(), probe_images),
      .rule = fmt::format(
          "Test accuracy of BatchNorm minus that without normalization, paired by seed, in each of "
          "the {} cells of initial weights and rate: confirmed if the interval is above {} in all, "
          "refuted if in none; depends on the initialization and the rate otherwise.",
          cells().size(), format_number(threshold, Format::points)),
      .refutation =
          "Networks without normalization that learn about as well from all of the initial weights "
          "at both rates.",
      .quick_minutes = 0.3,
      .full_minutes = 6,
      .columns = {{"test_accuracy", "Test accuracy", Format::percent}},
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw,
  };
}

}  // namespace evenkeel::lab::sigmoid
