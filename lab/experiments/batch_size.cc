// batch-size: what small batches cost with BatchNorm, and with norms that look at one sample.
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

namespace evenkeel::lab::batch_size {
namespace {

constexpr double threshold = 0.02;
constexpr std::int64_t small = 2;  // the batch sizes that the rule compares
constexpr std::int64_t large = 32;
constexpr std::int64_t groups = 8;
constexpr std::int64_t population_images = 2000;  // for exact statistics
// Learning rates at a batch of `large`; at others they go with the square root of its size, so that
// the noise of an epoch's updates is alike.
constexpr std::array<double, 5> base_rates = {0.01, 0.03, 0.1, 0.3, 1};

struct Kind {
  std::string norm;
  std::string title;
  bool convolutions_only = false;
};
const std::array<Kind, 3> kinds = {
    {{"batch", "BatchNorm"}, {"layer", "LayerNorm"}, {"group", "GroupNorm"}}};
// At the two batch sizes of the rule only: the dense layer averages a single value of each image.
const Kind convolutions_only = {"batch", "BatchNorm on convolutions only", true};

std::string arm_name(const Kind& kind, std::int64_t batch_size) {
  return fmt::format("{}, batch {}", kind.title, batch_size);
}

std::int64_t samples(Mode mode) { return mode == Mode::full ? 32000 : 8000; }

std::vector<std::int64_t> batch_sizes(Mode mode) {
  if (mode == Mode::quick) return {small, 8, large};
  return {small, 4, 8, large, 128};
}

Arm arm(const Kind& kind, std::int64_t batch_size, Mode mode) {
  Arm arm{.name = arm_name(kind, batch_size),
          .norm = kind.norm,
          .settings = {{"batch_size", batch_size}, {"convolutions_only", kind.convolutions_only}},
          .steps = samples(mode) / batch_size,
          .rates = {}};
  const double ratio = static_cast<double>(batch_size) / static_cast<double>(large);
  for (const double rate : base_rates) arm.rates.push_back(rate * std::sqrt(ratio));
  // The quick mode takes two in the middle.
  if (mode == Mode::quick) arm.rates = {arm.rates[2], arm.rates[3]};
  return arm;
}

Design design(Mode mode) {
  Design design;
  for (const auto& kind : kinds) {
    for (const auto batch_size : batch_sizes(mode)) {
      design.arms.push_back(arm(kind, batch_size, mode));
    }
  }
  for (const auto batch_size : {small, large}) {
    design.arms.push_back(arm(convolutions_only, batch_size, mode));
  }
  design.batch_size = batch_sizes(mode).back();
  set_seeds(design, mode == Mode::full ? 5 : 2, 1);
  return design;
}

Normalization normalization(const Arm& arm) {
  if (arm.norm == "group") return group_norm(groups);
  Normalization norm = norm_of(arm.norm);
  return arm.settings.at("convolutions_only").get<bool>() ? on_convolutions(std::move(norm)) : norm;
}

// N*H*W: how many values of a batch BatchNorm averages for each channel or unit of a layer.
void count_values(const Trial& trial, const NetworkPlan& plan, const Dataset& data,
                  Measured& measured) {
  const auto batch_size = trial.arm.settings.at("batch_size").get<std::int64_t>();
  const bool only = trial.arm.settings.at("convolutions_only").get<bool>();
  std::int64_t positions = data.rows() * data.cols();
  for (const auto& layer : plan.layers) {
    if (!layer.convolution && only) continue;
    if (!layer.convolution) positions = 1;
    measured.values["averaged " + layer.name] = static_cast<double>(batch_size * positions);
    if (layer.pool) positions /= 4;
  }
}

Measured measure(const Trial& trial, const Context& context) {
  const auto batch_size = trial.arm.settings.at("batch_size").get<std::int64_t>();
  TrialPlan plan{.network = network_plan("cnn"),
                 .norm = normalization(trial.arm),
                 .batch_size = batch_size,
                 .eval_points = 0};
  if (trial.arm.norm == "batch") {
    plan.finish = [&](Network& network, Measured& measured) {
      const auto& train = context.data.train.images;
      const auto by = batch_norm_accuracy(
          network, context.data.test,
          train.narrow(0, 0, std::min(population_images, train.size(0))), batch_size);
      measured.values["exact_accuracy"] = by.exact;
      measured.values["batch_accuracy"] = by.batch;
      count_values(trial, plan.network, context.data, measured);
    };
  }
  return train_trial(plan, trial, context);
}

std::vector<double> accuracy(const Outcomes& outcomes, const Kind& kind, std::int64_t batch_size,
                             const std::string& value) {
  return outcomes.values(outcomes.arm(arm_name(kind, batch_size)), value, chance);
}

// Accuracy at the large batch less that at the small one, by seed.
std::vector<double> loss(const Outcomes& outcomes, const Kind& kind,
                         const std::string& value = "test_accuracy") {
  auto losses = accuracy(outcomes, kind, large, value);
  const auto at_small = accuracy(outcomes, kind, small, value);
  for (std::size_t i = 0; i < losses.size(); ++i) losses[i] -= at_small[i];
  return losses;
}

Verdict judge(const Outcomes& outcomes) {
  const auto batch = loss(outcomes, kinds[0]);
  std::vector<Comparison> comparisons;
  for (const auto& kind : {kinds[1], kinds[2]}) {
    comparisons.push_back({fmt::format("accuracy lost from batch {} to {}, BatchNorm minus {}",
                                       large, small, kind.title),
                           paired_difference(batch, loss(outcomes, kind))});
  }
  Verdict verdict = judge_above(comparisons, threshold, Format::points);
  verdict.depends_on = "what BatchNorm is compared with";
  const auto points = [](const std::vector<double>& values) {
    return format_interval(bootstrap_mean(values), Format::points);
  };
  verdict.found = fmt::format(
      "From batch {} to batch {} BatchNorm loses {} of test accuracy, LayerNorm {} and GroupNorm "
      "{}. Scored with exact statistics instead of the moving average BatchNorm loses {}: that "
      "much no statistics mend after training. Scored with the statistics of batches as small as "
      "in training it loses {}.\nWith BatchNorm on the convolutions only, where even a batch of {} "
      "gives hundreds of values a channel, and nothing on the dense layer, whose units get as many "
      "values as there are images, it loses {}.",
      large, small, points(batch), points(loss(outcomes, kinds[1])),
      points(loss(outcomes, kinds[2])), points(loss(outcomes, kinds[0], "exact_accuracy")),
      points(loss(outcomes, kinds[0], "batch_accuracy")), small,
      points(loss(outcomes, convolutions_only)));
  return verdict;
}

std::vector<Series> error_series(const Outcomes& outcomes, const Kind& kind,
                                 const std::vector<std::int64_t>& sizes, const std::string& value,
                                 const std::string& label, int dash) {
  std::vector<double> x;
  std::vector<std::vector<double>> errors;
  for (const auto batch_size : sizes) {
    x.push_back(static_cast<double>(batch_size));
    errors.push_back(accuracy(outcomes, kind, batch_size, value));
    for (double& each : errors.back()) each = 1 - each;
  }
  return seeds_at(x, errors, label, kind.norm, /*join=*/true, dash);
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  const auto sizes = batch_sizes(outcomes.mode());
  Panel norms{.title = "Each norm",
              .x = {.title = "Batch size", .format = Format::count, .log = true},
              .y = {.title = "Test error", .format = Format::percent},
              .series = {}};
  Panel statistics{.title = "BatchNorm, by the statistics that score it",
                   .x = norms.x,
                   .y = norms.y,
                   .series = {}};
  const auto add = [&](Panel& panel, const Kind& kind, const std::vector<std::int64_t>& at,
                       const std::string& value, const std::string& label, int dash) {
    std::ranges::move(error_series(outcomes, kind, at, value, label, dash),
                      std::back_inserter(panel.series));
  };
  for (const auto& kind : kinds) add(norms, kind, sizes, "test_accuracy", kind.title, 0);
  add(norms, convolutions_only, {small, large}, "test_accuracy", convolutions_only.title, 1);
  add(statistics, kinds[0], sizes, "test_accuracy", "Moving average", 0);
  add(statistics, kinds[0], sizes, "exact_accuracy", "Exact, of training images", 1);
  add(statistics, kinds[0], sizes, "batch_accuracy", "Of the batch itself", 2);
  return {{.title = "Error against batch size",
           .caption = "All arms see equally many images. Each hollow dot is one seed, whiskers are "
                      "intervals of the mean.",
           .panels = {std::move(norms), std::move(statistics)}},
          rate_choice(outcomes)};
}

}  // namespace

Experiment experiment() {
  const auto full = design(Mode::full);
  return {
      .id = "batch-size",
      .title = "Does BatchNorm need large batches?",
      .claim = "BatchNorm needs large enough batches; LayerNorm and GroupNorm do not (h).",
      .source =
          "The notes; Wu & He 2018, Group normalization: from 32 to 2 images on each GPU the error "
          "of BatchNorm goes from 23.6% to 34.7%, that of GroupNorm stays at 24.1%.",
      .protocol = fmt::format(
          "The small convolutional network is trained on {} images in batches of {}, so that small "
          "batches take more steps, with BatchNorm, LayerNorm and GroupNorm ({} groups). Each norm "
          "and batch size takes the best of {} learning rates on held-out images (the rates {} at "
          "batch {}, in proportion to the square root of the batch size), then trains from {} "
          "seeds. BatchNorm is scored as used, with its moving average, and also with exact "
          "statistics over {} training images and with those of the very batch. It averages N*H*W "
          "values for each channel: the table of arms has this number for each layer. It is "
          "smallest in the dense layer, the batch size itself; so another arm has BatchNorm on the "
          "convolutions only.",
          samples(Mode::full), fmt::join(batch_sizes(Mode::full), ", "), groups, base_rates.size(),
          fmt::join(base_rates, ", "), large, full.seeds.size(), population_images),
      .rule = fmt::format(
          "The loss is test accuracy at batch {} minus that at batch {}. The loss of BatchNorm (as "
          "used) minus that of LayerNorm, and minus that of GroupNorm, paired by seed: confirmed "
          "if both intervals are above {}, refuted if neither is; depends on the norm it is "
          "compared with otherwise. A diverged training counts as chance, {}.",
          large, small, format_number(threshold, Format::points),
          format_number(chance, Format::percent)),
      .refutation = fmt::format(
          "BatchNorm that at batch {} loses hardly more than norms that look at one sample.",
          small),
      .quick_minutes = 0.8,
      .full_minutes = 18,
      .revision = 2,  // GroupNorm became evenkeel's own
      .columns = {{"test_accuracy", "Test accuracy", Format::percent},
                  {"exact_accuracy", "with exact statistics", Format::percent},
                  {"batch_accuracy", "with batch statistics", Format::percent},
                  {"averaged conv1", "N*H*W, conv1", Format::count},
                  {"averaged conv2", "N*H*W, conv2", Format::count},
                  {"averaged dense", "N*H*W, dense", Format::count}},
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw,
  };
}

}  // namespace evenkeel::lab::batch_size
