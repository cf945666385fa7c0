// invariance: scaling a layer's weights does not change what the network computes.
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/gradient.h"

namespace evenkeel::lab::invariance {
namespace {

// The library asks for an eps above 0; this one is lost beside any variance.
constexpr double no_eps = std::numeric_limits<double>::min();
constexpr double usual_eps = 1e-5;

constexpr std::int64_t scales = 12;  // an even number, which leaves out c = 1
constexpr double largest_exponent = 3;
constexpr std::int64_t path_steps = 20;
constexpr std::int64_t batch_size = 60;
constexpr std::int64_t depth = 2;
constexpr std::int64_t width = 64;
constexpr double lr = 0.1;
constexpr double bias_std = 0.1;
constexpr std::uint64_t bias_seed = 1000;

// The longest sum has 784 products, which float64 rounds to about 784 * 2^-53 = 1e-13 of its terms.
// Subtracting the mean and 20 steps of training may cost some digits more, for which four are left.
constexpr double tolerance = 1e-9;
// What does not hold at all is far off.
constexpr double violated = 1e-3;

struct Identity {
  std::string value;
  std::string title;
};
const std::array<Identity, 4> identities = {{{"output", "Output: f(cW) = f(W)"},
                                             {"gradient", "Gradient: c ∇f(cW) = ∇f(W)"},
                                             {"cosine", "Direction: ⟨W, ∇⟩ = 0"},
                                             {"path", "Path: (cW, c² lr) follows (W, lr)"}}};

struct Case {
  std::string arm;
  std::string norm;
  double eps;
  bool with_bias;  // the bias is scaled too
  int dash;
};
const std::array<Case, 6> cases = {
    {{"BatchNorm, eps ≈ 0", "batch", no_eps, false, 0},
     {"BatchNorm, eps = 1e-5", "batch", usual_eps, false, 1},
     {"LayerNorm, eps ≈ 0", "layer", no_eps, true, 0},
     {"LayerNorm, eps = 1e-5", "layer", usual_eps, true, 1},
     {"LayerNorm, eps ≈ 0, bias not scaled", "layer", no_eps, false, 2},
     {"none", "none", no_eps, true, 0}}};

Design design(Mode mode) {
  Design design;
  for (const auto& each : cases) {
    design.arms.push_back({.name = each.arm,
                           .norm = each.norm,
                           .settings = {{"eps", each.eps}, {"with_bias", each.with_bias}},
                           .steps = (scales + 1) * path_steps,
                           .rates = {lr}});
  }
  design.batch_size = batch_size;
  set_seeds(design, mode == Mode::full ? 5 : 2, 0);
  return design;
}

Normalization normalization(const Arm& arm) {
  const double eps = arm.settings.at("eps").get<double>();
  if (arm.norm == "batch") return batch_norm({.eps = eps});
  if (arm.norm == "layer") return layer_norm(eps);
  return no_norm();
}

// A network in float64 whose hidden layers' weights, and perhaps biases, are multiplied by c.
class Scaled {
 public:
  Scaled(const Trial& trial, const Dataset& data, double c) : c_(c) {
    const auto plan = perceptron(depth, width, Activation::relu);
    network_ = std::make_shared<Network>(plan, normalization(trial.arm), data.rows(), data.cols(),
                                         trial.seed);
    network_->to(torch::kFloat64);
    const bool with_bias = trial.arm.settings.at("with_bias").get<bool>();
    const torch::NoGradGuard no_grad;
    // Not the seed that the weights were drawn from.
    auto generator = at::make_generator<at::CPUGeneratorImpl>(trial.seed + bias_seed);
    const auto parameters = network_->named_parameters();
    for (const auto& layer : plan.layer_names()) {
      // Biases that start at 0 would hide whether they matter.
      auto bias = parameters[layer + "_bias"];
      bias.normal_(0, bias_std, generator);
      scaled_.push_back({parameters[layer + "_weight"]});
      if (with_bias) scaled_.back().push_back(bias);
      for (auto& parameter : scaled_.back()) parameter.mul_(c);
    }
  }

  torch::Tensor output(const Split& batch) {
    const torch::NoGradGuard no_grad;
    return network_->forward(batch.images);
  }

  // Of what was scaled of each layer.
  std::vector<torch::Tensor> values() const {
    std::vector<torch::Tensor> rows;
    for (const auto& layer : scaled_) rows.push_back(flat(layer));
    return rows;
  }
  std::vector<torch::Tensor> gradients(const Split& batch) {
    std::vector<torch::Tensor> rows;
    for (const auto& layer : scaled_)
      rows.push_back(flat(loss_gradient(*network_, batch, layer).of));
    return rows;
  }

  // One step of gradient descent, at c² times the rate for what was scaled.
  void train(const Split& batch) {
    const auto all = network_->parameters();
    const auto gradient = loss_gradient(*network_, batch, all).of;
    for (std::size_t i = 0; i < all.size(); ++i) {
      step({all[i]}, {gradient[i]}, is_scaled(all[i]) ? -c_ * c_ * lr : -lr);
    }
  }

 private:
  bool is_scaled(const torch::Tensor& parameter) const {
    return std::ranges::any_of(scaled_, [&](const auto& layer) {
      return std::ranges::any_of(layer, [&](const auto& each) { return each.is_same(parameter); });
    });
  }

  double c_;
  std::shared_ptr<Network> network_;
  std::vector<std::vector<torch::Tensor>> scaled_;
};

struct Observed {
  torch::Tensor output;
  std::vector<torch::Tensor> gradients;
  double cosine = 0;
  torch::Tensor output_after;  // of training
};

// Within what a logarithmic axis can show well; one that is not finite is as large as any.
double shown(double deviation) {
  return std::isfinite(deviation) ? std::clamp(deviation, 1e-17, 1e7) : 1e7;
}

Measured measure(const Trial& trial, const Context& context) {
  Measured measured;
  std::int64_t steps = 0;
  const auto observe = [&](double c) {
    Batches batches(context.data.train, batch_size, trial.seed);
    const auto next = [&] {
      auto batch = batches.next();
      batch.images = batch.images.to(torch::kFloat64);
      return batch;
    };
    const Split first = next();
    Scaled network(trial, context.data, c);
    Observed observed{network.output(first), network.gradients(first), 0, {}};
    const auto values = network.values();
    for (std::size_t i = 0; i < values.size(); ++i) {
      observed.cosine =
          std::max(observed.cosine, shown(std::abs(cosine(values[i], observed.gradients[i]))));
    }
    for (std::int64_t i = 0; i < path_steps; ++i) {
      network.train(next());
      context.on_step(++steps);
    }
    observed.output_after = network.output(first);
    return observed;
  };

  const auto unscaled = observe(1);
  for (std::int64_t i = 0; i < scales; ++i) {
    if (context.stop) {
      measured.status = Status::interrupted;
      return measured;
    }
    const double c =
        std::pow(10, largest_exponent * (2.0 * static_cast<double>(i) / (scales - 1) - 1));
    const auto scaled = observe(c);
    double gradient = 0;
    for (std::size_t layer = 0; layer < scaled.gradients.size(); ++layer) {
      gradient = std::max(gradient, shown(relative_difference(c * scaled.gradients[layer],
                                                              unscaled.gradients[layer])));
    }
    measured.curves["output"].add(c, shown(relative_difference(scaled.output, unscaled.output)));
    measured.curves["gradient"].add(c, gradient);
    measured.curves["cosine"].add(c, scaled.cosine);
    measured.curves["path"].add(
        c, shown(relative_difference(scaled.output_after, unscaled.output_after)));
  }
  for (const auto& [name, curve] : measured.curves) {
    measured.values[name] = *std::ranges::max_element(curve.y);
  }
  measured.status = Status::done;
  return measured;
}

// By seed, the largest deviation from any identity.
std::vector<double> worst(const Outcomes& outcomes, const std::string& arm) {
  std::vector<double> all(outcomes.design().seeds.size(), 0);
  for (const auto& identity : identities) {
    const auto values = outcomes.values(outcomes.arm(arm), identity.value);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = std::max(all[i], values[i]);
  }
  return all;
}

double worst_of_all(const Outcomes& outcomes, const std::string& arm) {
  return std::ranges::max(worst(outcomes, arm));
}

// Whether every identity is far off in every seed.
bool all_violated(const Outcomes& outcomes, const std::string& arm) {
  return std::ranges::all_of(identities, [&](const Identity& identity) {
    return std::ranges::min(outcomes.values(outcomes.arm(arm), identity.value)) > violated;
  });
}

Verdict judge(const Outcomes& outcomes) {
  const auto power = [](double value) { return format_number(value, Format::power); };
  const auto batch = worst(outcomes, cases[0].arm);
  const auto layer = worst(outcomes, cases[2].arm);
  const bool none_violates = all_violated(outcomes, cases[5].arm);
  std::vector<double> either;
  for (std::size_t i = 0; i < batch.size(); ++i) either.push_back(std::max(batch[i], layer[i]));

  Verdict verdict;
  verdict.answer = answer_of({none_violates && std::ranges::max(batch) <= tolerance,
                              none_violates && std::ranges::max(layer) <= tolerance});
  if (verdict.answer == Answer::depends) verdict.depends_on = "the normalization";
  verdict.number_is =
      "largest relative deviation of BatchNorm and LayerNorm from the identities, mean over seeds";
  verdict.number = bootstrap_mean(either);
  verdict.format = Format::power;
  verdict.found = fmt::format(
      "Without eps, the largest relative deviation from any of the four identities, over all c and "
      "seeds, is {} with BatchNorm and {} with LayerNorm; without normalization it is {}. With eps "
      "= {} the identities are only approximate: the largest deviation is {} with BatchNorm and {} "
      "with LayerNorm, at the small c, where the variance of the scaled net inputs no longer hides "
      "eps. LayerNorm needs the bias to be scaled with the weights, else the deviation is {}: a "
      "bias is the same for all samples, so that BatchNorm subtracts it, but it differs between "
      "the neurons over which LayerNorm averages.",
      power(std::ranges::max(batch)), power(std::ranges::max(layer)),
      power(worst_of_all(outcomes, cases[5].arm)), power(usual_eps),
      power(worst_of_all(outcomes, cases[1].arm)), power(worst_of_all(outcomes, cases[3].arm)),
      power(worst_of_all(outcomes, cases[4].arm)));
  return verdict;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  Figure figure{
      .title = "Deviation from the identities against the scale c",
      .caption = fmt::format(
          "Relative deviations, both axes logarithmic. A line along the bottom is the rounding of "
          "float64: the identity is exact. The dashed lines have eps = {}, which breaks it at "
          "small c; at large c eps is lost beside the variance, and what remains is the deviation "
          "of c = 1, which has its eps as well. What is above 10⁷, or no number, stands at 10⁷.",
          format_number(usual_eps, Format::power))};
  for (const auto& identity : identities) {
    Panel panel{.title = identity.title,
                .x = {.title = "c", .format = Format::power, .log = true},
                .y = {.title = "Deviation", .format = Format::power, .log = true}};
    for (const auto& each : cases) {
      auto lines =
          over_seeds(outcomes, outcomes.arm(each.arm), identity.value, each.arm, each.dash);
      std::ranges::move(lines, std::back_inserter(panel.series));
    }
    figure.panels.push_back(std::move(panel));
  }
  return {figure};
}

}  // namespace

Experiment experiment() {
  return {
      .id = "invariance",
      .title = "Scale invariance",
      .claim =
          "Multiplying the weights of a normalized layer by a constant does not change what the "
          "network computes, and divides their gradient by the same constant.",
      .source =
          "The course notes, claim (b); van Laarhoven 2017, “L2 Regularization versus Batch and "
          "Weight Normalization”.",
      .protocol = fmt::format(
          "A perceptron of {} layers of {} ReLU units in float64, on batches of {} images. The "
          "weights W of all hidden layers are multiplied by c, {} values between 10^-{} and 10^{}. "
          "Four identities are checked against c = 1: the outputs are the same; the gradient for "
          "cW is that for W divided by c; the gradient is at right angles to the weights; and {} "
          "steps of gradient descent from cW at the learning rate c² lr compute the same as from W "
          "at lr = {}. For LayerNorm the layer's bias is scaled too: one arm shows why. Each norm "
          "runs with the smallest eps that the library takes, which no variance notices, and with "
          "{}.",
          depth, width, batch_size, scales, largest_exponent, largest_exponent, path_steps, lr,
          usual_eps),
      .rule = fmt::format(
          "A norm has the property if, without eps, no identity is off by more than {} at any c "
          "and seed, while the network without a norm violates each of them by more than {}. "
          "Confirmed if BatchNorm and LayerNorm have it, refuted if neither, depends otherwise. {} "
          "is float64 rounding of sums of 784 products, 10^-13, with four digits to spare.",
          tolerance, violated, tolerance),
      .refutation =
          "A deviation far above rounding without eps, or a plain network that shows the same "
          "invariance.",
      .quick_minutes = 0.1,
      .full_minutes = 0.3,
      .revision = 3,
      .columns = {{"output", "Output", Format::power},
                  {"gradient", "Gradient", Format::power},
                  {"cosine", "Direction", Format::power},
                  {"path", "Path", Format::power}},
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw};
}

}  // namespace evenkeel::lab::invariance
