// speed: steps and seconds that a network needs to reach a loss.
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

namespace evenkeel::lab::speed {
namespace {

constexpr std::int64_t judged_images = 1000;  // held-out images whose loss is followed

struct Kind {
  std::string norm;
  std::string title;
};
const std::array<Kind, 3> kinds = {
    {{"none", "No normalization"}, {"batch", "BatchNorm"}, {"layer", "LayerNorm"}}};

// A network and the loss that it is to reach.
struct Task {
  NetworkPlan network;
  std::string title;
  double target;
  std::int64_t steps;
  std::int64_t quick_steps;
  std::int64_t judged_every;  // steps
  std::vector<double> rates;
};

const std::vector<Task>& tasks() {
  static const std::vector<Task> all = [] {
    NetworkPlan sigmoid = network_plan("mlp");
    sigmoid.initial_std = 0;
    sigmoid.xavier = true;
    return std::vector<Task>{{.network = sigmoid,
                              .title = "sigmoid perceptron",
                              .target = 0.5,
                              .steps = 3000,
                              .quick_steps = 1500,
                              .judged_every = 25,
                              .rates = {0.2, 0.5, 1, 2, 4}},
                             {.network = network_plan("cnn"),
                              .title = "ReLU convolutional network",
                              .target = 0.5,
                              .steps = 600,
                              .quick_steps = 300,
                              .judged_every = 10,
                              .rates = {0.05, 0.1, 0.2, 0.4, 0.8}}};
  }();
  return all;
}

std::string arm_name(const Task& task, const Kind& kind) {
  return fmt::format("{}, {}", task.title, kind.title);
}

Design design(Mode mode) {
  Design design;
  for (std::size_t t = 0; t < tasks().size(); ++t) {
    const auto& task = tasks()[t];
    design.batch_size = std::max(design.batch_size, task.network.batch_size);
    for (const auto& kind : kinds) {
      design.arms.push_back({.name = arm_name(task, kind),
                             .norm = kind.norm,
                             .settings = {{"task", t}, {"target", task.target}},
                             .steps = mode == Mode::full ? task.steps : task.quick_steps,
                             .rates = task.rates});
      if (mode == Mode::quick) {  // without those at the ends
        auto& rates = design.arms.back().rates;
        rates = {rates.begin() + 1, rates.end() - 1};
      }
    }
  }
  set_seeds(design, mode == Mode::full ? 5 : 2, mode == Mode::full ? 2 : 1);
  return design;
}

// Twice the training stands for the steps and seconds of one that does not arrive.
constexpr double not_reached = 2;

Measured measure(const Trial& trial, const Context& context) {
  const auto& task = tasks().at(trial.arm.settings.at("task").get<std::size_t>());
  const Split judged =
      context.data.held_out.narrow(0, std::min(judged_images, context.data.held_out.size()));
  bool reached = false;
  const auto steps = static_cast<double>(trial.arm.steps);
  auto measured =
      train_trial({.network = task.network,
                   .norm = norm_of(trial.arm.norm),
                   .batch_size = task.network.batch_size,
                   .loss_points = 0,
                   .eval_points = 0,
                   .probe_points = trial.arm.steps / task.judged_every,
                   .probe =
                       [&](Network& network, std::int64_t step, double seconds, Measured& so_far) {
                         const double loss = score(network, judged).loss;
                         so_far.curves["loss by steps"].add(static_cast<double>(step), loss);
                         so_far.curves["loss by seconds"].add(seconds, loss);
                         if (reached || !(loss <= task.target)) return;
                         reached = true;
                         so_far.values["steps"] = static_cast<double>(step);
                         so_far.values["seconds"] = seconds;
                       }},
                  trial, context);
  if (!reached) {
    const auto done = static_cast<double>(measured.diverged_at_step ? *measured.diverged_at_step - 1
                                                                    : trial.arm.steps);
    measured.values["steps"] = not_reached * steps;
    measured.values["seconds"] = not_reached * steps / done * measured.value("train_seconds");
  }
  measured.values["reached"] = reached ? 1 : 0;
  measured.values["minus_steps"] = -measured.values["steps"];
  return measured;
}

struct Ratios {
  Interval steps;  // of training without normalization over those with it
  Interval seconds;
};

Ratios ratios(const Outcomes& outcomes, const Task& task, const Kind& kind) {
  const auto& none = outcomes.arm(arm_name(task, kinds[0]));
  const auto& with = outcomes.arm(arm_name(task, kind));
  const auto of = [&](const std::string& value) {
    return paired_ratio(outcomes.values(none, value), outcomes.values(with, value));
  };
  return {of("steps"), of("seconds")};
}

std::string means(const Outcomes& outcomes, const Task& task, const std::string& value) {
  std::vector<std::string> parts;
  for (const auto& kind : kinds) {
    const auto values = outcomes.values(outcomes.arm(arm_name(task, kind)), value);
    parts.push_back(fmt::format("{} {}", kind.title,
                                format_number(bootstrap_mean(values).mean, Format::decimal)));
  }
  return fmt::to_string(fmt::join(parts, ", "));
}

Verdict judge(const Outcomes& outcomes) {
  std::vector<Comparison> comparisons;
  std::string found;
  for (const auto& task : tasks()) {
    const auto batch = ratios(outcomes, task, kinds[1]);
    const auto layer = ratios(outcomes, task, kinds[2]);
    comparisons.push_back(
        {fmt::format("steps to the loss, none over BatchNorm, {}", task.title), batch.steps});
    found += fmt::format(
        "To a loss of {} the {} takes, in steps: {}; in seconds: {}. Without normalization it "
        "takes {} the steps of BatchNorm and {} the seconds; {} the steps of LayerNorm and {} the "
        "seconds.\n",
        task.target, task.title, means(outcomes, task, "steps"), means(outcomes, task, "seconds"),
        format_interval(batch.steps, Format::ratio), format_interval(batch.seconds, Format::ratio),
        format_interval(layer.steps, Format::ratio), format_interval(layer.seconds, Format::ratio));
    if (batch.steps.above(1) && !batch.seconds.above(1)) {
      found += "There BatchNorm wins in steps but not in seconds.\n";
    }
  }
  Verdict verdict = judge_above(comparisons, 1, Format::ratio);
  verdict.depends_on = "the network";
  verdict.found = found;
  for (const auto& arm : outcomes.design().arms) {
    const auto reached = outcomes.values(arm, "reached");
    const auto missed = std::ranges::count(reached, 0.0);
    if (missed > 0) {
      verdict.warnings.push_back(fmt::format("{}: {} of {} seeds did not reach the loss.", arm.name,
                                             missed, reached.size()));
    }
  }
  return verdict;
}

Panel loss_panel(const Outcomes& outcomes, const Task& task, const std::string& curve,
                 const std::string& axis, Format format) {
  Panel panel{.title = task.title,
              .x = {.title = axis, .format = format},
              .y = {.title = "Held-out loss", .log = true},
              .series = {}};
  double end = 0;
  for (const auto& kind : kinds) {
    const auto& arm = outcomes.arm(arm_name(task, kind));
    for (auto& series : over_seeds(outcomes, arm, curve, kind.title)) {
      if (!series.points.empty()) end = std::max(end, series.points.back().x);
      panel.series.push_back(std::move(series));
    }
  }
  panel.series.push_back({.label = "The loss to reach",
                          .color = "other",
                          .points = {{0, task.target}, {end, task.target}},
                          .dash = 1});
  return panel;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  Figure loss{
      .title = "Held-out loss",
      .caption = "Each arm at its own best rate. Bold is the mean over seeds, thin is each seed.",
      .panels = {}};
  Figure reached{.title = "Steps and seconds to the loss",
                 .caption = fmt::format("One that does not reach the loss stands at {} times the "
                                        "steps of the whole training.",
                                        not_reached),
                 .panels = {}};
  Figure choice{
      .title = "How the learning rates were chosen",
      .caption = "Steps to the loss on the tuning seeds against the rate; fewer is better.",
      .panels = {}};
  for (const auto& task : tasks()) {
    loss.panels.push_back(loss_panel(outcomes, task, "loss by steps", "Steps", Format::count));
    loss.panels.push_back(
        loss_panel(outcomes, task, "loss by seconds", "Seconds", Format::decimal));
    std::vector<std::string> arms;
    std::vector<std::string> labels;
    for (const auto& kind : kinds) {
      arms.push_back(arm_name(task, kind));
      labels.push_back(kind.title);
    }
    reached.panels.push_back(values_by_arm(outcomes, arms, "steps", task.title,
                                           {.title = "Steps", .format = Format::count}, labels));
    reached.panels.push_back(
        values_by_arm(outcomes, arms, "seconds", task.title, {.title = "Seconds"}, labels));
    choice.panels.push_back(rate_panel(outcomes, arms, "steps", task.title,
                                       {.title = "Steps", .format = Format::count}));
  }
  return {std::move(loss), std::move(reached), std::move(choice)};
}

std::string describe(const Task& task) {
  return fmt::format("a {} (batch {}) to {} within {} steps, judged every {} steps, rates {}",
                     task.title, task.network.batch_size, task.target, task.steps,
                     task.judged_every, fmt::join(task.rates, ", "));
}

}  // namespace

Experiment experiment() {
  const auto full = design(Mode::full);
  return {
      .id = "speed",
      .title = "Does BatchNorm make training faster?",
      .claim = "With BatchNorm training converges faster (e).",
      .source =
          "The notes; Ioffe & Szegedy 2015, Batch normalization: 14 times fewer steps together "
          "with other changes to the training.",
      .protocol = fmt::format(
          "Two networks are trained to a fixed loss on {} held-out images: {}; {}. The perceptron "
          "has 3 hidden layers of 100 units and Xavier initialization. Each norm takes the rate "
          "that reaches the loss in the fewest steps (mean over {} tuning seeds), then trains from "
          "{} seeds. A training that never reaches the loss counts as {} times its steps and "
          "seconds. Seconds are those of the training steps alone, measured with two trainings "
          "side by side on two cores if the lab runs so.",
          judged_images, describe(tasks()[0]), describe(tasks()[1]), full.tuning_seeds.size(),
          full.seeds.size(), not_reached),
      .rule =
          "Steps to the loss without normalization over those with BatchNorm, paired by seed, "
          "geometric mean. Confirmed if the interval is above 1 on both networks, refuted if on "
          "neither; depends on the network otherwise. Seconds are reported beside it.",
      .refutation = "On neither network BatchNorm clearly ahead, each arm at its own best rate.",
      .quick_minutes = 1,
      .full_minutes = 5,
      .chosen_by = "minus_steps",
      .columns = {{"steps", "Steps to the loss", Format::count},
                  {"seconds", "Seconds to the loss", Format::decimal},
                  {"reached", "Reached", Format::percent},
                  {"test_accuracy", "Test accuracy", Format::percent}},
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw,
  };
}

}  // namespace evenkeel::lab::speed
