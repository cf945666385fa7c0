// moving-average: what "p is usually 0.1" costs if it is read the other way round.
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/measure.h"
#include "lab/train_trial.h"

namespace evenkeel::lab::moving_average {
namespace {

constexpr std::array<std::int64_t, 2> batch_sizes = {8, 64};
constexpr std::array<double, 2> weights = {0.1, 0.9};  // of the new batch
constexpr double lr = 0.1;
constexpr std::int64_t checkpoints = 20;
constexpr std::int64_t quick_checkpoints = 10;
constexpr std::int64_t scored_images = 2000;
constexpr std::int64_t population_images = 1000;
constexpr double clear = 0.005;  // a gap that matters

std::string arm_name(std::int64_t batch_size, double weight) {
  return fmt::format("batch {}, new batch weighs {}", batch_size, weight);
}

// Both batch sizes see equally many images.
std::int64_t steps(Mode mode, std::int64_t batch_size) {
  return (mode == Mode::full ? 32000 : 8000) / batch_size;
}

Design design(Mode mode) {
  Design design;
  for (const auto batch_size : batch_sizes) {
    for (const double weight : weights) {
      design.arms.push_back({.name = arm_name(batch_size, weight),
                             .norm = "batch",
                             .settings = {{"batch_size", batch_size}, {"new_batch_weight", weight}},
                             .steps = steps(mode, batch_size),
                             .rates = {lr}});
    }
  }
  design.batch_size = batch_sizes.back();
  set_seeds(design, mode == Mode::full ? 5 : 2, 0);
  return design;
}

Measured measure(const Trial& trial, const Context& context) {
  const auto& settings = trial.arm.settings;
  const auto batch_size = settings.at("batch_size").get<std::int64_t>();
  const auto& held_out = context.data.held_out;
  const Split scored = held_out.narrow(0, std::min(scored_images, held_out.size()));
  const auto population =
      context.data.train.narrow(0, std::min(population_images, context.data.train.size())).images;

  TrialPlan plan{
      .network = network_plan("cnn"),
      .norm = batch_norm({.new_batch_weight = settings.at("new_batch_weight").get<double>()})};
  plan.batch_size = batch_size;
  plan.eval_points = 1;
  plan.probe_points = trial.mode == Mode::full ? checkpoints : quick_checkpoints;
  plan.probe = [&](Network& network, std::int64_t step, double, Measured& measured) {
    if (step == 0) return;  // no batch was seen yet
    const auto accuracy = batch_norm_accuracy(network, scored, population, batch_size);
    const auto at = static_cast<double>(step);
    measured.curves["moving"].add(at, accuracy.moving_average);
    measured.curves["exact"].add(at, accuracy.exact);
    measured.curves["batch"].add(at, accuracy.batch);
  };
  Measured measured = train_trial(plan, trial, context);

  if (measured.status != Status::done) return measured;
  for (const auto* const name : {"moving", "exact", "batch"}) {
    const auto& all = measured.curve(name).y;
    const std::vector<double> late(all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2),
                                   all.end());
    double mean = 0;
    for (const double value : late) mean += value / static_cast<double>(late.size());
    measured.values[fmt::format("{}_mean", name)] = mean;
    measured.values[fmt::format("{}_worst", name)] = std::ranges::min(late);
  }
  return measured;
}

Interval gap(const Outcomes& outcomes, std::int64_t batch_size) {
  const auto of = [&](double weight) {
    return outcomes.values(outcomes.arm(arm_name(batch_size, weight)), "moving_mean");
  };
  return paired_difference(of(weights[0]), of(weights[1]));
}

double mean(const Outcomes& outcomes, std::int64_t batch_size, double weight,
            const std::string& value) {
  return bootstrap_mean(outcomes.values(outcomes.arm(arm_name(batch_size, weight)), value)).mean;
}

std::string found_at(const Outcomes& outcomes, std::int64_t batch_size) {
  const auto percent = [&](double weight, const std::string& value) {
    return format_number(mean(outcomes, batch_size, weight, value), Format::percent);
  };
  return fmt::format(
      "At batch {}, a new batch that weighs {} gives a mean accuracy of {} and at the worst "
      "checkpoint {}; one that weighs {} gives {} and {}. The same networks reach {} with exact "
      "statistics and {} with those of each batch. The difference of the two weights is {}.",
      batch_size, weights[0], percent(weights[0], "moving_mean"),
      percent(weights[0], "moving_worst"), weights[1], percent(weights[1], "moving_mean"),
      percent(weights[1], "moving_worst"), percent(weights[0], "exact_mean"),
      percent(weights[0], "batch_mean"),
      format_interval(gap(outcomes, batch_size), Format::points));
}

Verdict judge(const Outcomes& outcomes) {
  std::vector<Comparison> comparisons;
  for (const auto batch_size : batch_sizes) {
    comparisons.push_back({fmt::format("accuracy of weight {} minus weight {} at batch {}, late in "
                                       "training",
                                       weights[0], weights[1], batch_size),
                           gap(outcomes, batch_size)});
  }
  Verdict verdict = judge_above(comparisons, clear, Format::points);
  verdict.depends_on = "the batch size";
  verdict.found = found_at(outcomes, batch_sizes[0]) + "\n" + found_at(outcomes, batch_sizes[1]);
  return verdict;
}

Axis accuracy() { return {.title = "Held-out accuracy", .format = Format::percent}; }

std::vector<Figure> draw(const Outcomes& outcomes) {
  Figure over_training{
      .title = "Accuracy by the statistics that normalize",
      .caption =
          "The moving average with a new batch that weighs 0.1 or 0.9, and the exact statistics "
          "and those of each batch of the same networks. Thin lines are seeds. Training is the "
          "same for both weights, since only evaluation uses the average."};
  Figure late{.title = "The second half of training",
              .caption =
                  "Mean over the checkpoints of the second half, and the worst of them, with the "
                  "moving average. Hollow dots are seeds."};
  for (const auto batch_size : batch_sizes) {
    const auto& right = outcomes.arm(arm_name(batch_size, weights[0]));
    const auto& wrong = outcomes.arm(arm_name(batch_size, weights[1]));
    Panel panel{.title = fmt::format("Batch {}", batch_size),
                .x = {.title = "Step", .format = Format::count},
                .y = accuracy()};
    const auto add = [&](const Arm& arm, const std::string& curve, const std::string& label,
                         const std::string& color, int dash) {
      auto lines = seeds_and_mean(curves_of(outcomes, arm, curve), label, color, dash);
      std::ranges::move(lines, std::back_inserter(panel.series));
    };
    add(right, "moving", fmt::format("moving average, weight {}", weights[0]), "batch", 0);
    add(wrong, "moving", fmt::format("moving average, weight {}", weights[1]), "layer", 0);
    add(right, "exact", "exact statistics", "instance", 1);
    add(right, "batch", "batch statistics", "group", 2);
    over_training.panels.push_back(std::move(panel));
  }
  std::vector<std::string> arms;
  std::vector<std::string> labels;
  for (const auto& arm : outcomes.design().arms) {
    arms.push_back(arm.name);
    labels.push_back(fmt::format("{}: {}", arm.settings.at("batch_size").get<std::int64_t>(),
                                 arm.settings.at("new_batch_weight").get<double>()));
  }
  for (const auto& [value, title] :
       {std::pair("moving_mean", "Mean"), std::pair("moving_worst", "Worst checkpoint")}) {
    late.panels.push_back(values_by_arm(outcomes, arms, value, title, accuracy(), labels));
    late.panels.back().x.title = "batch size: weight of the new batch";
  }
  return {over_training, late};
}

}  // namespace

Experiment experiment() {
  return {
      .id = "moving-average",
      .title = "The moving average: p = 0.1, read both ways",
      .claim =
          "The weight of the new batch in BatchNorm's moving average should be 0.1. Reading “p is "
          "usually 0.1” as the weight of the old average, so that the new batch weighs 0.9, costs "
          "accuracy.",
      .source =
          "The course notes (test-time statistics): their formula gives p to the old average, "
          "PyTorch's 0.1 is the weight of the new batch.",
      .protocol = fmt::format(
          "The convolutional network with BatchNorm, at batches of {} and {} of equally many "
          "images, lr = {}, and a new batch that weighs {} or {}. Both weights train the very same "
          "networks, because training normalizes by the batch. At {} checkpoints ({} in quick "
          "mode) up to {} held-out images are scored with the moving average, with exact "
          "statistics (of {} training images at the present weights) and with the statistics of "
          "each batch.",
          batch_sizes[0], batch_sizes[1], lr, weights[0], weights[1], checkpoints,
          quick_checkpoints, scored_images, population_images),
      .rule = fmt::format(
          "By seed, accuracy with weight {} minus that with {}, as a mean over the second half of "
          "the checkpoints. Confirmed if its interval is above {} at both batch sizes, refuted if "
          "at neither, depends otherwise.",
          weights[0], weights[1], format_number(clear, Format::points)),
      .refutation = "No clear gap at either batch size, or one in favor of the other weight.",
      .quick_minutes = 0.8,
      .full_minutes = 5,
      .columns = {{"moving_mean", "Moving average, mean"},
                  {"moving_worst", "worst"},
                  {"exact_mean", "Exact, mean"},
                  {"batch_mean", "Batch, mean"},
                  {"test_accuracy", "Test accuracy at the end"}},
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw};
}

}  // namespace evenkeel::lab::moving_average
