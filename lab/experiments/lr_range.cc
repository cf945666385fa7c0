// lr-range: how large a learning rate may be before training fails.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/train_trial.h"

namespace evenkeel::lab::lr_range {
namespace {

constexpr std::int64_t width = 64;
constexpr std::int64_t batch_size = 64;
constexpr std::array<std::int64_t, 3> depths = {3, 10, 30};
constexpr std::array<double, 8> rates = {0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10};
// Where a seed stands that trains at none of them: one step lower.
constexpr double below_all_rates = 0.001;
constexpr double trained = 0.5;           // held-out accuracy from which on a training counts
constexpr double strictly_trained = 0.7;  // to see how much hangs on that threshold
constexpr double factor = 3.4;            // more than one step of the rates

struct Kind {
  std::string norm;
  std::string title;
};
const std::array<Kind, 3> kinds = {
    {{"none", "No normalization"}, {"layer", "LayerNorm"}, {"batch", "BatchNorm"}}};

std::string arm_name(std::int64_t depth, const Kind& kind, double rate) {
  return fmt::format("{} layers, {}, rate {}", depth, kind.title, rate);
}

Design design(Mode mode) {
  Design design;
  for (const auto depth : depths) {
    for (const auto& kind : kinds) {
      for (const double rate : rates) {
        design.arms.push_back({.name = arm_name(depth, kind, rate),
                               .norm = kind.norm,
                               .settings = {{"depth", depth}},
                               .steps = mode == Mode::full ? 1000 : 300,
                               .rates = {rate}});
      }
    }
  }
  design.batch_size = batch_size;
  set_seeds(design, mode == Mode::full ? 5 : 2, 0);
  return design;
}

Measured measure(const Trial& trial, const Context& context) {
  const auto depth = trial.arm.settings.at("depth").get<std::int64_t>();
  return train_trial({.network = perceptron(depth, width, Activation::relu),
                      .norm = norm_of(trial.arm.norm),
                      .batch_size = batch_size,
                      .eval_points = 0,
                      .test = false},
                     trial, context);
}

// Held-out accuracies by rate, then by seed.
std::vector<std::vector<double>> accuracies(const Outcomes& outcomes, std::int64_t depth,
                                            const Kind& kind) {
  std::vector<std::vector<double>> by_rate;
  for (const double rate : rates) {
    const auto& arm = outcomes.arm(arm_name(depth, kind, rate));
    by_rate.push_back(outcomes.values(arm, "held_out_accuracy", chance));
  }
  return by_rate;
}

struct Range {
  std::vector<double> largest;  // rate that trains, by seed
  std::vector<double> count;    // of the rates that train
};

Range range(const Outcomes& outcomes, std::int64_t depth, const Kind& kind,
            double threshold = trained) {
  const auto seeds = outcomes.design().seeds.size();
  Range range{std::vector(seeds, below_all_rates), std::vector(seeds, 0.0)};
  const auto accuracy = accuracies(outcomes, depth, kind);
  for (std::size_t r = 0; r < rates.size(); ++r) {
    for (std::size_t i = 0; i < seeds; ++i) {
      if (!(accuracy[r][i] > threshold)) continue;
      range.largest[i] = rates[r];
      range.count[i] += 1;
    }
  }
  return range;
}

// How many times larger the largest rate that trains is than without normalization.
Interval ratio(const Outcomes& outcomes, std::int64_t depth, const Kind& kind, double threshold) {
  return paired_ratio(range(outcomes, depth, kind, threshold).largest,
                      range(outcomes, depth, kinds[0], threshold).largest);
}

// The mean over seeds at the best rate.
double best_accuracy(const Outcomes& outcomes, std::int64_t depth, const Kind& kind) {
  double best = 0;
  for (const auto& by_seed : accuracies(outcomes, depth, kind)) {
    best = std::max(best, bootstrap_mean(by_seed).mean);
  }
  return best;
}

std::string found_at(const Outcomes& outcomes, std::int64_t depth) {
  std::vector<std::string> counts;
  std::vector<std::string> bests;
  for (const auto& kind : kinds) {
    counts.push_back(fmt::format(
        "{} {}", kind.title,
        format_number(bootstrap_mean(range(outcomes, depth, kind).count).mean, Format::decimal)));
    bests.push_back(fmt::format(
        "{} {}", kind.title, format_number(best_accuracy(outcomes, depth, kind), Format::percent)));
  }
  const auto text = [&](const Kind& kind, double threshold) {
    return format_interval(ratio(outcomes, depth, kind, threshold), Format::ratio);
  };
  return fmt::format(
      "{} layers: the largest rate that trains, over that without normalization, is {} with "
      "BatchNorm and {} with LayerNorm; if only accuracies above {} counted, {} and {}. Of the {} "
      "rates train: {}. Best accuracy at any rate: {}.\n",
      depth, text(kinds[2], trained), text(kinds[1], trained),
      format_number(strictly_trained, Format::percent), text(kinds[2], strictly_trained),
      text(kinds[1], strictly_trained), rates.size(), fmt::join(counts, ", "),
      fmt::join(bests, ", "));
}

Verdict judge(const Outcomes& outcomes) {
  std::vector<Comparison> comparisons;
  std::string found;
  for (const auto depth : depths) {
    comparisons.push_back(
        {fmt::format("largest rate that trains, BatchNorm over none, {} layers", depth),
         ratio(outcomes, depth, kinds[2], trained)});
    found += found_at(outcomes, depth);
  }
  Verdict verdict = judge_above(comparisons, factor, Format::ratio);
  verdict.depends_on = "the depth";
  verdict.found = found +
                  "The rates stand a factor of about 3 apart, so a ratio is known no more "
                  "exactly than that.";
  return verdict;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  Figure accuracy{
      .title = "Accuracy against learning rate",
      .caption = fmt::format(
          "Each hollow dot is one seed; a training that diverged stands at chance, {}. A training "
          "counts above {}.",
          format_number(chance, Format::percent), format_number(trained, Format::percent)),
      .panels = {}};
  Panel largest{.title = "Largest rate that trains",
                .x = {.title = "Hidden layers", .format = Format::count, .log = true},
                .y = {.title = "Learning rate", .log = true},
                .series = {}};
  Panel count{.title = fmt::format("How many of the {} rates train", rates.size()),
              .x = largest.x,
              .y = {.title = "Rates", .format = Format::count},
              .series = {}};
  for (const auto depth : depths) {
    Panel panel{.title = fmt::format("{} hidden layers", depth),
                .x = {.title = "Learning rate", .log = true},
                .y = {.title = "Held-out accuracy", .format = Format::percent},
                .series = {}};
    for (const auto& kind : kinds) {
      std::ranges::move(seeds_at({rates.begin(), rates.end()}, accuracies(outcomes, depth, kind),
                                 kind.title, kind.norm, /*join=*/true),
                        std::back_inserter(panel.series));
    }
    accuracy.panels.push_back(std::move(panel));
  }
  for (const auto& kind : kinds) {
    std::vector<std::vector<double>> largest_by_depth;
    std::vector<std::vector<double>> count_by_depth;
    for (const auto depth : depths) {
      auto [rate, number] = range(outcomes, depth, kind);
      largest_by_depth.push_back(std::move(rate));
      count_by_depth.push_back(std::move(number));
    }
    const std::vector<double> x(depths.begin(), depths.end());
    std::ranges::move(seeds_at(x, largest_by_depth, kind.title, kind.norm, /*join=*/true),
                      std::back_inserter(largest.series));
    std::ranges::move(seeds_at(x, count_by_depth, kind.title, kind.norm, /*join=*/true),
                      std::back_inserter(count.series));
  }
  return {std::move(accuracy),
          {.title = "What trains",
           .caption = fmt::format("A seed that trains at no rate stands at {} on the left.",
                                  below_all_rates),
           .panels = {std::move(largest), std::move(count)}}};
}

}  // namespace

Experiment experiment() {
  const auto full = design(Mode::full);
  return {
      .id = "lr-range",
      .title = "How large may the learning rate be?",
      .claim = "BatchNorm allows larger learning rates (e).",
      .source = "The notes; Bjorck et al. 2018, Understanding batch normalization.",
      .protocol = fmt::format(
          "Perceptrons of {} hidden layers of {} ReLU units (He initialization) are trained for {} "
          "steps of {} images by plain gradient descent, at each of the rates {}, with BatchNorm, "
          "LayerNorm and without normalization, from {} seeds. A training counts if its accuracy "
          "on held-out images ends above {}; one that diverged has that of chance, {}. Of each "
          "seed the largest rate that trains is taken, or {} if none does. How many of the rates "
          "train, which is what would make a rate easier to choose (f), is reported, not judged.",
          fmt::join(depths, ", "), width, full.arms.front().steps, batch_size,
          fmt::join(rates, ", "), full.seeds.size(), format_number(trained, Format::percent),
          format_number(chance, Format::percent), below_all_rates),
      .rule = fmt::format(
          "The largest rate that trains with BatchNorm over that without normalization, the "
          "geometric mean over the seeds. Confirmed if the interval of this ratio is above {} at "
          "every depth, refuted if at none; depends on the depth otherwise. {} is more than one "
          "step between the rates, so a ratio of one step does not count.",
          factor, factor),
      .refutation =
          "Plain networks of every depth that train at as large a rate, or at the next smaller "
          "one.",
      .quick_minutes = 0.4,
      .full_minutes = 6,
      .columns = {{"held_out_accuracy", "Held-out accuracy", Format::percent}},
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw,
  };
}

}  // namespace evenkeel::lab::lr_range
