// landscape: does BatchNorm make the loss smoother along the gradient?
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/gradient.h"
#include "lab/norm_grid.h"

namespace evenkeel::lab::landscape {
namespace {

constexpr std::int64_t checkpoints = 20;
constexpr std::array<double, 4> rate_factors = {0.5, 1, 2, 4};
constexpr std::array<double, 4> fractions = {0.005, 0.01, 0.02, 0.04};  // of the weights' size

// The two ways to choose how far to look: multiples of the learning rate, or steps that change the
// weights by a fraction of their size.
struct Form {
  std::string key;
  std::string title;
};
const Form absolute = {"absolute", "steps of the learning rate"};
const Form relative = {"relative", "steps of a fraction of the weights"};

// How a batch's loss and gradient g change from w to w - s g, for several s.
struct Landscape {
  double loss_low;
  double loss_high;
  double distance_low;  // of the gradients, |g(s) - g|
  double distance_high;
  double beta;    // largest |g(s) - g| / (s |g|), the change of the gradient by that of the weights
  double cosine;  // the smallest
};

Landscape look(Network& network, const Split& batch, const std::vector<double>& lengths) {
  const auto parameters = network.parameters();
  const auto here = loss_gradient(network, batch, parameters);
  const auto g = flat(here.of);
  ParameterGuard keep(parameters);
  Landscape seen{here.loss, here.loss, INFINITY, 0, 0, 1};
  for (const double s : lengths) {
    step(parameters, here.of, -s);
    const auto there = loss_gradient(network, batch, parameters);
    keep.restore();
    const auto g_there = flat(there.of);
    const double distance = (g_there - g).norm().item<double>();
    seen.loss_low = std::min(seen.loss_low, there.loss);
    seen.loss_high = std::max(seen.loss_high, there.loss);
    seen.distance_low = std::min(seen.distance_low, distance);
    seen.distance_high = std::max(seen.distance_high, distance);
    seen.beta = std::max(seen.beta, distance / (s * g.norm().item<double>()));
    seen.cosine = std::min(seen.cosine, cosine(g_there, g));
  }
  return seen;
}

// The lengths s of a form.
std::vector<double> lengths_of(const Form& form, Network& network, const Split& batch, double lr) {
  std::vector<double> lengths;
  if (form.key == absolute.key) {
    for (const double factor : rate_factors) lengths.push_back(factor * lr);
    return lengths;
  }
  // Of the weights alone: norms have parameters of their own, LayerNorm very many, and would look
  // larger for them.
  const auto weights = network.hidden_weights();
  const auto gradient = flat(loss_gradient(network, batch, weights).of);
  const double unit = (flat(weights).norm() / gradient.norm()).item<double>();
  for (const double fraction : fractions) lengths.push_back(fraction * unit);
  return lengths;
}

// In the relative form beta is that of the relative changes: |g(s) - g| / |g| by s |g| / |w|.
void measure_form(const Form& form, Network& network, const Split& batch, double lr, double at,
                  Measured& measured) {
  const auto lengths = lengths_of(form, network, batch, lr);
  auto seen = look(network, batch, lengths);
  if (form.key == relative.key) seen.beta *= lengths.front() / fractions.front();
  const auto add = [&](const std::string& curve, double value) {
    measured.curves[form.key + " " + curve].add(at, value);
  };
  add("loss low", seen.loss_low);
  add("loss high", seen.loss_high);
  add("range", seen.loss_high - seen.loss_low);
  add("distance low", seen.distance_low);
  add("distance high", seen.distance_high);
  add("beta", seen.beta);
  add("cosine", seen.cosine);
}

Measured measure(const Trial& trial, const Context& context) {
  TrialPlan plan = grid_plan(trial);
  Batches batches(context.data.train, plan.batch_size, trial.seed + 1000);
  if (!trial.tuning) plan.probe_points = checkpoints;
  plan.probe = [&](Network& network, std::int64_t step, double, Measured& measured) {
    const Split batch = batches.next();
    for (const auto& form : {absolute, relative}) {
      measure_form(form, network, batch, trial.lr, static_cast<double>(step), measured);
    }
  };
  Measured measured = train_trial(plan, trial, context);
  if (measured.status != Status::done) return measured;

  // Geometric means, so that every checkpoint counts alike however large its loss; of the cosine,
  // which may be negative, plain ones.
  for (const auto& form : {absolute, relative}) {
    for (const std::string name : {"range", "beta", "cosine"}) {
      const auto& all = measured.curve(form.key + " " + name).y;
      if (all.empty()) continue;  // of tuning
      double sum = 0;
      for (const double value : all) sum += name == "cosine" ? value : std::log(value);
      const double mean = sum / static_cast<double>(all.size());
      measured.values[form.key + "_" + name] = name == "cosine" ? mean : std::exp(mean);
    }
  }
  return measured;
}

// How many times larger it is without norm.
Interval none_over(const Outcomes& outcomes, const GridCell& cell, const std::string& value) {
  return paired_ratio(grid_values_of(outcomes, cell.without_norm(), value),
                      grid_values_of(outcomes, cell, value));
}

std::string found_at(const Outcomes& outcomes, const GridCell& cell) {
  const auto ratio = [&](const std::string& norm, const std::string& value) {
    return format_interval(none_over(outcomes, {cell.network, norm, cell.own_rate}, value),
                           Format::ratio);
  };
  const auto cosine_of = [&](const std::string& norm) {
    return format_number(
        bootstrap_mean(
            grid_values_of(outcomes, {cell.network, norm, cell.own_rate}, "relative_cosine"))
            .mean,
        Format::decimal);
  };
  const auto of_norm = [&](const std::string& norm) {
    return fmt::format(
        "none over {}: range of the loss {}, effective beta {}, after steps of a fraction of the "
        "weights {} and {}",
        grid_norm_title(norm), ratio(norm, "absolute_range"), ratio(norm, "absolute_beta"),
        ratio(norm, "relative_range"), ratio(norm, "relative_beta"));
  };
  return fmt::format(
      "{} at {}: {}; {}. The cosine of the gradients over such fractions is {} (none), {} "
      "(BatchNorm), {} (LayerNorm).\n",
      cell.network.name, cell.rate_title(), of_norm("batch"), of_norm("layer"), cosine_of("none"),
      cosine_of("batch"), cosine_of("layer"));
}

Verdict judge(const Outcomes& outcomes) {
  std::vector<Comparison> comparisons;
  std::string found;
  for (const auto& cell : grid_cells("batch")) {
    for (const auto& form : {absolute, relative}) {
      for (const std::string quantity : {"range", "beta"}) {
        comparisons.push_back(
            {fmt::format("{} of none over that of BatchNorm, {} at {}, {}",
                         quantity == "range" ? "range of the loss" : "effective beta",
                         cell.network.name, cell.rate_title(), form.title),
             none_over(outcomes, cell, fmt::format("{}_{}", form.key, quantity))});
      }
    }
    found += found_at(outcomes, cell);
  }
  Verdict verdict = judge_above(comparisons, 1, Format::ratio);
  verdict.depends_on = "the network, the learning rate and the measure";
  verdict.found = found;
  return verdict;
}

// The mean over seeds of what lies between two curves, as a band, where every seed has a value.
Series band(const Outcomes& outcomes, const Arm& arm, const std::string& low,
            const std::string& high) {
  const auto mean = [&](const std::string& curve) {
    return over_seeds(outcomes, arm, curve, "").back().points;
  };
  Series series{.label = grid_norm_title(arm.norm), .color = arm.norm};
  const auto lows = mean(low);
  const auto highs = mean(high);
  for (std::size_t i = 0; i < lows.size(); ++i) {
    series.points.push_back({lows[i].x, (lows[i].y + highs[i].y) / 2, lows[i].y, highs[i].y});
  }
  return series;
}

Figure bands(const Outcomes& outcomes, std::string title, std::string caption,
             const std::string& quantity, const std::string& y_title) {
  Figure figure{.title = std::move(title), .caption = std::move(caption)};
  for (const auto& cell : grid_cells("batch")) {
    Panel panel{.title = fmt::format("{}, {}", cell.network.name, cell.rate_title()),
                .x = {.title = "Step", .format = Format::count},
                .y = {.title = y_title, .log = true}};
    for (const auto& norm : grid_norms()) {
      const auto& arm = outcomes.arm(GridCell{cell.network, norm, cell.own_rate}.arm_name());
      panel.series.push_back(band(outcomes, arm, quantity + " low", quantity + " high"));
    }
    figure.panels.push_back(std::move(panel));
  }
  return figure;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  const auto over_training = [&](const Form& form) {
    return Figure{
        .title = "Effective beta, " + form.title,
        .caption =
            "The largest change of the gradient over the distance that the weights moved, along "
            "the gradient. Lower is smoother.",
        .panels =
            grid_panels(outcomes, form.key + " beta", {.title = "Effective beta", .log = true})};
  };
  return {
      bands(outcomes, "Loss along the gradient, " + absolute.title,
            "From the smallest to the largest loss of a batch along its gradient, mean over seeds. "
            "A narrow band is a smooth landscape at this step length.",
            "absolute loss", "Loss"),
      bands(outcomes, "Change of the gradient, " + absolute.title,
            "From the smallest to the largest distance between the gradient here and there, mean "
            "over seeds.",
            "absolute distance", "Distance of the gradients"),
      over_training(absolute),
      bands(outcomes, "Loss along the gradient, " + relative.title,
            "The same where every step changes the weights by the same fractions of their size, so "
            "that neither the learning rate nor the size of the gradient matters.",
            "relative loss", "Loss"),
      over_training(relative),
      rate_choice(outcomes)};
}

}  // namespace

Experiment experiment() {
  return {
      .id = "landscape",
      .title = "A smoother landscape",
      .claim =
          "BatchNorm makes the landscape of the loss smoother: along the gradient the loss and the "
          "gradient change less.",
      .source =
          "Santurkar et al. 2018, “How Does Batch Normalization Help Optimization?”; the course "
          "notes, claim (d).",
      .protocol = fmt::format(
          "{} At {} checkpoints, and before training, a batch's loss and gradient g are computed "
          "at the weights w and at w - s g, all parameters together. In the paper's form s is {} "
          "times the learning rate. In the relative form s |g| is {} of |w|, both of the hidden "
          "layers' weights alone, which compares networks whose gradients differ in size. Measured "
          "are the range of the loss (largest minus smallest), the distance of the gradients, the "
          "effective beta (the largest distance over s |g|; in the relative form both in relation "
          "to |g| and |w|), and their cosine. Ranges and betas are averaged geometrically over the "
          "checkpoints.",
          grid_protocol(), checkpoints, fmt::join(rate_factors, ", "), fmt::join(fractions, ", ")),
      .rule =
          "By seed, range and effective beta of none divided by those of BatchNorm, in both forms, "
          "on both networks, at equal and at own rates. Confirmed if all of these ratios' "
          "intervals are above 1, refuted if none is, depends otherwise.",
      .refutation =
          "A loss that varies as much along the gradient with BatchNorm as without, however it is "
          "looked at.",
      .quick_minutes = 1,
      .full_minutes = 5,
      .revision = 2,
      .columns = {{"absolute_range", "Range of the loss", Format::decimal},
                  {"absolute_beta", "Effective beta", Format::decimal},
                  {"relative_range", "Range, relative steps", Format::decimal},
                  {"relative_beta", "beta, relative steps", Format::decimal},
                  {"relative_cosine", "Cosine, relative steps", Format::decimal},
                  {"test_accuracy", "Test accuracy"}},
      .design = grid_design,
      .measure = measure,
      .judge = judge,
      .draw = draw};
}

}  // namespace evenkeel::lab::landscape
