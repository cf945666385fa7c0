// contrast: which norms keep a network's accuracy when the contrast of the images changes.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/measure.h"
#include "lab/train_trial.h"

namespace evenkeel::lab::contrast {
namespace {

constexpr double threshold = 0.02;
constexpr double brightest = 255;
constexpr std::int64_t batch_size = 64;
constexpr std::array<double, 4> contrasts = {0.25, 0.5, 1.5, 2};  // the images' own is 1
const std::vector<double> rates = {0.03, 0.1, 0.3, 1};

struct Kind {
  std::string norm;
  std::string title;
};
const std::array<Kind, 4> kinds = {{{"none", "No normalization"},
                                    {"batch", "BatchNorm"},
                                    {"layer", "LayerNorm"},
                                    {"instance", "InstanceNorm"}}};
const Kind& none = kinds[0];
const Kind& batch = kinds[1];
const std::array<Kind, 2> single_sample = {kinds[2], kinds[3]};

std::string arm_name(const Kind& kind, bool raw) {
  return fmt::format("{}, {} inputs", kind.title, raw ? "raw" : "standardized");
}

Design design(Mode mode) {
  Design design;
  for (const bool raw : {false, true}) {
    for (const auto& kind : kinds) {
      Arm arm{.name = arm_name(kind, raw),
              .norm = kind.norm,
              .settings = {{"raw", raw}},
              .steps = mode == Mode::full ? 700 : 200,
              .rates = rates};
      // Inputs of some hundreds make the first layer's gradients that much larger; the norms take
      // the size out again.
      if (raw && kind.norm == none.norm) arm.rates = {3e-6, 1e-5, 3e-5, 1e-4};
      if (mode == Mode::quick) arm.rates = {arm.rates[1], arm.rates[2]};
      design.arms.push_back(std::move(arm));
    }
  }
  design.batch_size = batch_size;
  set_seeds(design, mode == Mode::full ? 5 : 2, 1);
  return design;
}

// Gray values 0 .. 255, as they were before standardization.
Dataset raw_of(const Dataset& data) {
  Dataset raw = data;
  const double mean = data.standardization.mean.front();
  const double scale = data.standardization.scale.front();
  for (Split* split : {&raw.train, &raw.held_out, &raw.test}) {
    split->images = (split->images * scale + mean) * brightest;
  }
  return raw;
}

// Each image's differences from its own mean, times `contrast`. The mean stays, and nothing is
// clamped; so it is the same before and after a standardization of all pixels alike.
Split with_contrast(const Split& split, double contrast) {
  const auto mean = split.images.mean({1, 2, 3}, /*keepdim=*/true);
  return {mean + (split.images - mean) * contrast, split.labels};
}

std::string value_at(double contrast) { return fmt::format("accuracy at contrast {}", contrast); }

Measured measure(const Trial& trial, const Context& context) {
  const bool raw = trial.arm.settings.at("raw").get<bool>();
  const Dataset data = raw ? raw_of(context.data) : context.data;
  return train_trial({.network = network_plan("cnn"),
                      .norm = norm_of(trial.arm.norm),
                      .batch_size = batch_size,
                      .eval_points = 0,
                      .finish =
                          [&](Network& network, Measured& measured) {
                            for (const double contrast : contrasts) {
                              measured.values[value_at(contrast)] =
                                  score(network, with_contrast(data.test, contrast)).accuracy;
                            }
                          }},
                     trial, {data, context.stop, context.on_step});
}

std::vector<double> accuracy(const Outcomes& outcomes, const Kind& kind, bool raw) {
  return outcomes.values(outcomes.arm(arm_name(kind, raw)), "test_accuracy", chance);
}

// What changed contrasts cost on average, by seed.
std::vector<double> drop(const Outcomes& outcomes, const Kind& kind, bool raw) {
  auto drops = accuracy(outcomes, kind, raw);
  for (const double contrast : contrasts) {
    const auto changed =
        outcomes.values(outcomes.arm(arm_name(kind, raw)), value_at(contrast), chance);
    for (std::size_t i = 0; i < drops.size(); ++i) {
      drops[i] -= changed[i] / static_cast<double>(contrasts.size());
    }
  }
  return drops;
}

std::string drops(const Outcomes& outcomes, bool raw) {
  std::vector<std::string> parts;
  for (const auto& kind : kinds) {
    parts.push_back(
        fmt::format("{} {}", kind.title,
                    format_interval(bootstrap_mean(drop(outcomes, kind, raw)), Format::points)));
  }
  return fmt::to_string(fmt::join(parts, "; "));
}

std::string gains_of_standardization(const Outcomes& outcomes) {
  std::vector<std::string> parts;
  for (const auto& kind : kinds) {
    const auto gain =
        paired_difference(accuracy(outcomes, kind, false), accuracy(outcomes, kind, true));
    parts.push_back(fmt::format("{} {}", kind.title, format_interval(gain, Format::points)));
  }
  return fmt::to_string(fmt::join(parts, "; "));
}

Verdict judge(const Outcomes& outcomes) {
  // Kept means both: a small drop, and one smaller than that of BatchNorm.
  std::vector<bool> confirmed;
  Verdict verdict;
  verdict.format = Format::points;
  const auto of_batch = drop(outcomes, batch, false);
  for (const auto& kind : single_sample) {
    const auto own = drop(outcomes, kind, false);
    const auto less = paired_difference(of_batch, own);
    confirmed.push_back(bootstrap_mean(own).below(threshold) && less.above(threshold));
    const auto what =
        fmt::format("drop of accuracy at changed contrast, BatchNorm minus {}", kind.title);
    warn_if_within_noise(verdict, less, threshold, what, Format::points);
    warn_if_within_noise(verdict, bootstrap_mean(own), threshold,
                         fmt::format("drop of accuracy at changed contrast with {}", kind.title),
                         Format::points);
    if (verdict.number_is.empty() || less.mean < verdict.number.mean) {
      verdict.number_is = what;
      verdict.number = less;
    }
  }
  verdict.answer = answer_of(confirmed);
  verdict.depends_on = "the norm over the single sample";
  verdict.found = fmt::format(
      "The mean drop of accuracy at the contrasts {} is, with standardized inputs, {}; with raw "
      "ones {}.\nAt the images' own contrast the accuracy with standardized inputs minus that with "
      "raw ones, each at its best rate, is {}. The best rate without normalization is {:g} with "
      "standardized inputs and {:g} with raw ones.",
      fmt::join(contrasts, ", "), drops(outcomes, false), drops(outcomes, true),
      gains_of_standardization(outcomes),
      outcomes.rate(outcomes.arm(arm_name(none, false))).value_or(0),
      outcomes.rate(outcomes.arm(arm_name(none, true))).value_or(0));
  return verdict;
}

Panel accuracy_panel(const Outcomes& outcomes, bool raw) {
  Panel panel{.title = raw ? "Raw inputs" : "Standardized inputs",
              .x = {.title = "Contrast of the test images"},
              .y = {.title = "Test accuracy", .format = Format::percent},
              .series = {}};
  std::vector<double> x(contrasts.begin(), contrasts.end());
  x.push_back(1);
  std::ranges::sort(x);
  for (const auto& kind : kinds) {
    const auto& arm = outcomes.arm(arm_name(kind, raw));
    std::vector<std::vector<double>> values;
    for (const double contrast : x) {
      values.push_back(outcomes.values(
          arm, contrast == 1 ? std::string("test_accuracy") : value_at(contrast), chance));
    }
    std::ranges::move(seeds_at(x, values, kind.title, kind.norm, /*join=*/true),
                      std::back_inserter(panel.series));
  }
  return panel;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  std::vector<std::string> arms;
  for (const bool raw : {false, true}) {
    for (const auto& kind : kinds) arms.push_back(arm_name(kind, raw));
  }
  return {{.title = "Accuracy on images of changed contrast",
           .caption = "The networks were trained at contrast 1. Each hollow dot is one seed.",
           .panels = {accuracy_panel(outcomes, false), accuracy_panel(outcomes, true)}},
          {.title = "Standardized against raw inputs",
           .caption = "At the images' own contrast, each arm at its best rate.",
           .panels = {values_by_arm(outcomes, arms, "test_accuracy", "Test accuracy",
                                    {.title = "Test accuracy", .format = Format::percent}, {},
                                    chance)}},
          rate_choice(outcomes)};
}

std::vector<Column> columns() {
  std::vector<Column> all = {{"test_accuracy", "Test accuracy", Format::percent}};
  for (const double contrast : contrasts) {
    all.push_back({value_at(contrast), fmt::format("at contrast {}", contrast), Format::percent});
  }
  return all;
}

}  // namespace

Experiment experiment() {
  const auto full = design(Mode::full);
  return {
      .id = "contrast",
      .title = "Which norms do not mind the contrast of an image?",
      .claim =
          "A normalization over the single sample keeps a network's accuracy when the contrast of "
          "the images changes; one over the batch does not.",
      .source = "The notes on input standardization and on who is averaged with whom.",
      .protocol = fmt::format(
          "The small convolutional network is trained for {} steps of {} images, with each of four "
          "kinds of normalization, on standardized inputs (one mean and one scale for all pixels) "
          "and on raw gray values from 0 to {}; InstanceNorm stands on the convolutions only. Each "
          "arm takes the best of {} learning rates on held-out images, then trains from {} seeds. "
          "The trained networks classify the test images at contrasts 1, {}: each gray value's "
          "difference from the mean of its own image is multiplied, without clamping. BatchNorm "
          "uses its moving average.",
          full.arms.front().steps, batch_size, brightest, rates.size(), full.seeds.size(),
          fmt::join(contrasts, ", ")),
      .rule = fmt::format(
          "The drop of a norm is its test accuracy at contrast 1 minus the mean of those at the {} "
          "other contrasts, on standardized inputs. A norm over the single sample keeps the "
          "accuracy if the interval of its drop is below {} and that of the drop of BatchNorm "
          "minus its own, paired by seed, is above {}. Confirmed if LayerNorm and InstanceNorm "
          "both do, refuted if neither does; depends on the norm otherwise. A diverged training "
          "counts as chance, {}. Standardized against raw inputs is reported, not judged.",
          contrasts.size(), format_number(threshold, Format::points),
          format_number(threshold, Format::points), format_number(chance, Format::percent)),
      .refutation = fmt::format("Norms over the single sample that lose {} or more, or a BatchNorm "
                                "that loses hardly more than they do.",
                                format_number(threshold, Format::points)),
      .quick_minutes = 0.7,
      .full_minutes = 8,
      .revision = 2,  // InstanceNorm became evenkeel's own
      .columns = columns(),
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw,
  };
}

}  // namespace evenkeel::lab::contrast
