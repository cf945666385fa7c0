// lrn: whether local response normalization helps, and whether it does more than a constant.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "evenkeel/torch.h"
#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/train_trial.h"

namespace evenkeel::lab::lrn {
namespace {

constexpr std::int64_t batch_size = 64;
constexpr std::int64_t probed_images = 100;
constexpr double stronger = 100;  // times the paper's alpha
// Closer than in other experiments, as the differences are small: norms that scale activations down
// want larger rates.
const std::vector<double> all_rates = {0.05, 0.1, 0.2, 0.4, 0.8};

LocalResponseNormOptions options(double alpha_times) {
  auto paper = LocalResponseNormOptions::paper();
  paper.alpha *= alpha_times;
  return paper;
}

// What LRN multiplies by where all activations are 0.
double constant() {
  const auto paper = options(1);
  return std::pow(paper.k, -paper.beta);
}

const std::string none = "No normalization";
const std::string paper = "LRN";
const std::string strong = fmt::format("LRN, alpha x{}", stronger);
const std::string scale = "Constant scale";
const std::array<std::string, 4> names = {none, paper, strong, scale};

Design design(Mode mode) {
  const std::int64_t steps = mode == Mode::full ? 1500 : 250;
  auto rates = all_rates;
  if (mode == Mode::quick) rates = {rates.begin() + 1, rates.end() - 1};
  const auto lrn = [](double alpha_times) { return nlohmann::json{{"alpha_times", alpha_times}}; };
  Design design;
  design.arms = {
      {.name = none, .norm = "none", .steps = steps, .rates = rates},
      {.name = paper, .norm = "lrn", .settings = lrn(1), .steps = steps, .rates = rates},
      {.name = strong, .norm = "lrn", .settings = lrn(stronger), .steps = steps, .rates = rates},
      {.name = scale,
       .norm = "other",
       .settings = {{"factor", constant()}},
       .steps = steps,
       .rates = rates}};
  design.batch_size = batch_size;
  set_seeds(design, mode == Mode::full ? 5 : 2, mode == Mode::full ? 2 : 1);
  return design;
}

// Of what LRN makes of real activations, with x times the constant: Pearson's correlation, and the
// root mean square of the difference relative to that of the latter.
struct Likeness {
  double correlation = 0;
  double difference = 0;
};

Likeness likeness(const torch::Tensor& x, const LocalResponseNormOptions& lrn) {
  const auto y = nn::local_response_norm(x, lrn).flatten().to(torch::kFloat64);
  const auto scaled = (x.flatten() * constant()).to(torch::kFloat64);
  const auto a = y - y.mean();
  const auto b = scaled - scaled.mean();
  return {((a * b).sum() / (a.norm() * b.norm())).item<double>(),
          ((y - scaled).norm() / scaled.norm()).item<double>()};
}

void measure_likeness(Network& network, const Split& images, const LocalResponseNormOptions& lrn,
                      const NetworkPlan& plan, Measured& measured) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> inputs;
  network.forward(images.images, &inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto like = likeness(torch::relu(inputs[i]), lrn);
    measured.values["correlation " + plan.layers[i].name] = like.correlation;
    measured.values["difference " + plan.layers[i].name] = like.difference;
  }
}

const NetworkPlan& network() { return network_plan("cnn"); }

Measured measure(const Trial& trial, const Context& context) {
  TrialPlan plan{.network = network(),
                 .norm = no_norm(),
                 .batch_size = batch_size,
                 .eval_points = trial.tuning ? 0 : 10};
  const auto& settings = trial.arm.settings;
  if (settings.contains("factor")) plan.norm = constant_scale(settings["factor"].get<double>());
  if (settings.contains("alpha_times")) {
    const auto lrn = options(settings["alpha_times"].get<double>());
    plan.norm = local_response_norm(lrn);
    const auto& held_out = context.data.held_out;
    const Split probed = held_out.narrow(0, std::min(probed_images, held_out.size()));
    plan.finish = [=](Network& network, Measured& measured) {
      measure_likeness(network, probed, lrn, plan.network, measured);
    };
  }
  return train_trial(plan, trial, context);
}

std::vector<double> accuracy(const Outcomes& outcomes, const std::string& arm) {
  return outcomes.values(outcomes.arm(arm), "test_accuracy", chance);
}

Interval minus(const Outcomes& outcomes, const std::string& a, const std::string& b) {
  return paired_difference(accuracy(outcomes, a), accuracy(outcomes, b));
}

std::string by_layer(const Outcomes& outcomes, const std::string& arm, const std::string& value,
                     int digits) {
  std::vector<std::string> parts;
  for (const auto& layer : network().layers) {
    const auto values = outcomes.values(outcomes.arm(arm), value + " " + layer.name);
    parts.push_back(fmt::format("{:.{}f}", bootstrap_mean(values).mean, digits));
  }
  return fmt::to_string(fmt::join(parts, ", "));
}

Verdict judge(const Outcomes& outcomes) {
  const auto over_none = minus(outcomes, paper, none);
  const auto over_scale = minus(outcomes, paper, scale);
  const auto strong_over_none = minus(outcomes, strong, none);
  Verdict verdict;
  verdict.answer = Answer::depends;
  if (over_none.above(0) && over_scale.above(0)) {
    verdict.answer = Answer::confirmed;
  } else if (!over_none.above(0) && !strong_over_none.above(0)) {
    verdict.answer = Answer::refuted;
  }
  verdict.depends_on = over_none.above(0)
                           ? "whether a mere change of scale counts, as a constant makes it too"
                           : "alpha";
  verdict.number_is = "accuracy of LRN minus none";
  verdict.number = over_none;
  verdict.format = Format::points;
  warn_if_within_noise(verdict, over_none, 0, "accuracy of LRN minus none", Format::points);
  warn_if_within_noise(verdict, over_scale, 0, "accuracy of LRN minus constant scale",
                       Format::points);
  warn_if_within_noise(verdict, strong_over_none, 0,
                       fmt::format("accuracy of {} minus none", strong), Format::points);
  const auto points = [](const Interval& interval) {
    return format_interval(interval, Format::points);
  };
  verdict.found = fmt::format(
      "LRN with the paper's constants changes test accuracy by {}, with alpha {} times larger by "
      "{}, and the constant {:.4f} by {}; LRN minus this constant is {}. What LRN makes of the "
      "trained network's activations has, in the layers {}, a correlation of {} with the constant "
      "times its input, and differs from that by a relative root mean square of {}; with the "
      "larger alpha {} and {}.",
      points(over_none), stronger, points(strong_over_none), constant(),
      points(minus(outcomes, scale, none)), points(over_scale),
      fmt::join(network().layer_names(), ", "), by_layer(outcomes, paper, "correlation", 6),
      by_layer(outcomes, paper, "difference", 4), by_layer(outcomes, strong, "correlation", 6),
      by_layer(outcomes, strong, "difference", 4));
  return verdict;
}

Panel curves(const Outcomes& outcomes, const std::string& curve, const std::string& title, Axis y) {
  Panel panel{.title = title,
              .x = {.title = "Step", .format = Format::count},
              .y = std::move(y),
              .series = {}};
  for (const auto& name : names) {
    std::ranges::move(over_seeds(outcomes, outcomes.arm(name), curve, name, name == strong ? 1 : 0),
                      std::back_inserter(panel.series));
  }
  return panel;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  return {{.title = "Test accuracy",
           .caption = "Each hollow dot is one seed, whiskers are intervals of the mean.",
           .panels = {values_by_arm(
               outcomes, {names.begin(), names.end()}, "test_accuracy", "Test accuracy",
               {.title = "Test accuracy", .format = Format::percent}, {}, chance)}},
          {.title = "Training",
           .caption = "Thin lines are seeds, bold ones their mean.",
           .panels = {curves(outcomes, "loss", "Training loss", {.title = "Loss", .log = true}),
                      curves(outcomes, "held_out_accuracy", "Held-out accuracy",
                             {.title = "Held-out accuracy", .format = Format::percent})}},
          rate_choice(outcomes)};
}

std::vector<Column> columns() {
  std::vector<Column> all = {{"test_accuracy", "Test accuracy", Format::percent}};
  for (const auto& layer : network().layers) {
    all.push_back({"correlation " + layer.name, "Correlation, " + layer.name, Format::decimal});
  }
  for (const auto& layer : network().layers) {
    all.push_back({"difference " + layer.name, "Difference, " + layer.name, Format::percent});
  }
  return all;
}

}  // namespace

Experiment experiment() {
  const auto full = design(Mode::full);
  const auto lrn = options(1);
  return {
      .id = "lrn",
      .title = "Does local response normalization help?",
      .claim =
          "Local response normalization is lateral inhibition and helps generalization after ReLU "
          "(i).",
      .source =
          "The notes; Krizhevsky et al. 2012, ImageNet classification with deep convolutional "
          "neural networks: error lower by 1.4 and 1.2 points. The VGG networks found no gain.",
      .protocol = fmt::format(
          "The small convolutional network is trained for {} steps of {} images with nothing after "
          "ReLU, with LRN and the paper's constants (k = {}, alpha = {:g}, beta = {}, {} "
          "channels), with alpha {} times larger, and, as a control, with multiplication by "
          "k^-beta = {:.4f}, which is what LRN does to small activations. Each arm takes the best "
          "of {} learning rates on held-out images ({} tuning seeds), then trains from {} seeds. "
          "On {} held-out images the output of LRN in the trained network is compared with the "
          "constant times its input.",
          full.arms.front().steps, batch_size, lrn.k, lrn.alpha, lrn.beta,
          lrn.behind + 1 + lrn.ahead, stronger, constant(), all_rates.size(),
          full.tuning_seeds.size(), full.seeds.size(), probed_images),
      .rule = fmt::format(
          "Differences of test accuracy, paired by seed. Confirmed if LRN minus none and LRN minus "
          "constant scale are both above 0 by their intervals; refuted if LRN minus none is not, "
          "for either alpha; depends otherwise. A diverged training counts as chance, {}.",
          format_number(chance, Format::percent)),
      .refutation =
          "LRN, with either alpha, that is not clearly more accurate than nothing, each at its own "
          "best rate.",
      .quick_minutes = 0.5,
      .full_minutes = 10,
      .columns = columns(),
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw,
  };
}

}  // namespace evenkeel::lab::lrn
