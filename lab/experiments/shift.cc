// shift: does BatchNorm reduce the internal covariate shift?
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/gradient.h"
#include "lab/norm_grid.h"

namespace evenkeel::lab::shift {
namespace {

constexpr std::int64_t checkpoints = 20;

// Compares each layer's gradient on a batch, but the first's, with that on the same batch after all
// layers below took their step of gradient descent. Adds means over the layers to the curves.
void measure_shift(Network& network, const NetworkPlan& plan, const Split& batch, double lr,
                   double at, Measured& measured) {
  const auto layers = parameters_by_layer(network, plan);
  std::vector<std::vector<torch::Tensor>> before;
  for (const auto& layer : layers) before.push_back(loss_gradient(network, batch, layer.all).of);

  const ParameterGuard keep(network.parameters());
  double cosines = 0;
  double relative = 0;
  double distance = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (i > 0) {
      const auto& old_gradient = before[i].front();
      const auto gradient = loss_gradient(network, batch, {layers[i].all.front()}).of.front();
      measured.curves["cosine of " + layers[i].name].add(at, cosine(gradient, old_gradient));
      cosines += cosine(gradient, old_gradient);
      relative += relative_difference(gradient, old_gradient);
      distance += (gradient - old_gradient).norm().item<double>();
    }
    step(layers[i].all, before[i], -lr);
  }
  const auto above = static_cast<double>(layers.size() - 1);
  measured.curves["cosine"].add(at, cosines / above);
  measured.curves["relative"].add(at, relative / above);
  measured.curves["distance"].add(at, distance / above);
}

Measured measure(const Trial& trial, const Context& context) {
  const auto& about = grid_network(trial);
  TrialPlan plan = grid_plan(trial);
  // Not the batches that it trains on at these steps.
  Batches batches(context.data.train, about.batch_size, trial.seed + 1000);
  if (!trial.tuning) plan.probe_points = checkpoints;
  plan.probe = [&](Network& network, std::int64_t step, double, Measured& measured) {
    measure_shift(network, about.plan, batches.next(), trial.lr, static_cast<double>(step),
                  measured);
  };
  Measured measured = train_trial(plan, trial, context);
  if (measured.status != Status::done) return measured;
  for (const auto* const name : {"cosine", "relative", "distance"}) {
    const auto& all = measured.curve(name).y;
    double sum = 0;
    for (const double value : all) sum += value;
    if (!all.empty()) measured.values[name] = sum / static_cast<double>(all.size());
  }
  return measured;
}

Interval gap(const Outcomes& outcomes, const GridCell& cell) {
  return paired_difference(grid_values_of(outcomes, cell, "cosine"),
                           grid_values_of(outcomes, cell.without_norm(), "cosine"));
}

std::string found_at(const Outcomes& outcomes, const GridCell& cell) {
  const auto of_norms = [&](const std::string& value) {
    std::vector<std::string> parts;
    for (const auto& norm : grid_norms()) {
      const GridCell of = {cell.network, norm, cell.own_rate};
      parts.push_back(
          fmt::format("{} {}", grid_norm_title(norm),
                      format_number(bootstrap_mean(grid_values_of(outcomes, of, value)).mean,
                                    Format::decimal)));
    }
    return fmt::to_string(fmt::join(parts, ", "));
  };
  return fmt::format(
      "{} at {}: mean cosine {}; BatchNorm minus none {}. Distance of the gradients relative to "
      "their size {}; absolute {}.\n",
      cell.network.name, cell.rate_title(), of_norms("cosine"),
      format_interval(gap(outcomes, cell), Format::decimal), of_norms("relative"),
      of_norms("distance"));
}

Verdict judge(const Outcomes& outcomes) {
  std::vector<Comparison> comparisons;
  std::string found;
  for (const auto& cell : grid_cells("batch")) {
    comparisons.push_back({fmt::format("mean cosine of BatchNorm minus none, {} at {}",
                                       cell.network.name, cell.rate_title()),
                           gap(outcomes, cell)});
    found += found_at(outcomes, cell);
  }
  Verdict verdict = judge_above(comparisons, 0, Format::decimal);
  verdict.depends_on = "the network and the learning rate";
  verdict.found = found;
  return verdict;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  Figure cosines{.title = "How a gradient keeps its direction while the layers below step",
                 .caption =
                     "Cosine between a layer's gradient before and after the layers below it took "
                     "their step, as a mean over the layers. 1: no shift.",
                 .panels = grid_panels(outcomes, "cosine", {.title = "Cosine"})};
  Figure distances{
      .title = "How far it moves",
      .caption = "Distance of the two gradients, relative to the size of the first.",
      .panels = grid_panels(outcomes, "relative", {.title = "Relative distance", .log = true})};
  Figure means{.title = "Over the whole training",
               .caption =
                   "Mean over checkpoints and layers. Hollow dots are seeds, whiskers 95% "
                   "bootstrap intervals.",
               .panels = grid_values(outcomes, "cosine", {.title = "Cosine"})};
  return {cosines, distances, means, rate_choice(outcomes)};
}

}  // namespace

Experiment experiment() {
  return {
      .id = "shift",
      .title = "Internal covariate shift",
      .claim =
          "BatchNorm reduces the internal covariate shift: a step of the layers below changes a "
          "layer's gradient less.",
      .source =
          "Ioffe & Szegedy 2015 and the course notes, claim (a); measured as Santurkar et al. "
          "2018, “How Does Batch Normalization Help Optimization?”, define it, who doubt it.",
      .protocol = fmt::format(
          "{} At {} checkpoints, and before training, a batch gives each layer's gradient. Then "
          "the layers take their step one after the other from below, and each layer's gradient on "
          "the same batch is computed again just before its own turn. The cosine and the distance "
          "of the two are averaged over the second to the last layer and over the checkpoints. The "
          "network is then put back.",
          grid_protocol(), checkpoints),
      .rule =
          "By seed, the mean cosine of BatchNorm minus that of none. Confirmed if its interval is "
          "above 0 on both networks, at equal and at own rates; refuted if nowhere; depends "
          "otherwise.",
      .refutation = "Gradients that keep their direction no better, or worse, with BatchNorm.",
      .quick_minutes = 0.6,
      .full_minutes = 6,
      .columns = {{"cosine", "Cosine", Format::decimal},
                  {"relative", "Relative distance", Format::decimal},
                  {"distance", "Distance", Format::decimal},
                  {"test_accuracy", "Test accuracy"}},
      .design = grid_design,
      .measure = measure,
      .judge = judge,
      .draw = draw};
}

}  // namespace evenkeel::lab::shift
