// identity-init: is gamma = sigma, beta = mu the same as no batch normalization?
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "evenkeel/torch.h"
#include "lab/draw.h"
#include "lab/experiment.h"
#include "lab/gradient.h"
#include "lab/train_trial.h"

namespace evenkeel::lab::identity_init {
namespace {

constexpr double lr = 0.1;
constexpr std::int64_t batch_size = 64;
constexpr std::int64_t path_steps = 50;
constexpr double nudge = 1e-7;  // about what float32 rounds to

// The longest sum that a layer computes has 32 * 7 * 7 products, which float32 rounds to at most
// 1568 * 2^-24 = 1e-4 of its terms. A gradient passes through the layers twice and gets ten times
// that.
constexpr double output_tolerance = 1e-4;
constexpr double gradient_tolerance = 1e-3;
// Two trainings that rounding alone sets apart drift as the nudged one does, within this factor.
// They are compared early: later a network that is sensitive has lost its way by rounding alone.
constexpr double drift_factor = 10;
constexpr std::size_t judged_step = 5;

struct Subject {
  std::string name;
  NetworkPlan plan;
  std::int64_t steps;
  std::int64_t quick_steps;
};

const std::vector<Subject>& subjects() {
  static const std::vector<Subject> all = {{"mlp", perceptron(3, 100, Activation::relu), 3000, 600},
                                           {"cnn", network_plan("cnn"), 1000, 200}};
  return all;
}

const Subject& subject_of(const Arm& arm) {
  const auto name = arm.settings.at("network").get<std::string>();
  return *std::ranges::find(subjects(), name, &Subject::name);
}

struct Init {
  std::string key;
  std::string title;
  std::string norm;
  std::string color;
  int dash;
};
const Init none = {"none", "none", "none", "none", 0};
const Init standard = {"standard", "BatchNorm (1, 0)", "batch", "batch", 0};
const Init inverse = {"inverse", "BatchNorm (σ, μ)", "batch", "instance", 0};
const std::array<Init, 3> inits = {none, standard, inverse};

std::string arm_name(const Subject& subject, const Init& init) {
  return fmt::format("{}, {}", subject.name, init.title);
}

Design design(Mode mode) {
  Design design;
  for (const auto& subject : subjects()) {
    for (const auto& init : inits) {
      design.arms.push_back({.name = arm_name(subject, init),
                             .norm = init.norm,
                             .settings = {{"network", subject.name}, {"init", init.key}},
                             .steps = mode == Mode::full ? subject.steps : subject.quick_steps,
                             .rates = {lr}});
    }
  }
  design.batch_size = batch_size;
  set_seeds(design, mode == Mode::full ? 5 : 2, 0);
  return design;
}

// Layer by layer, gamma = sigma and beta = mu of what arrives when the layers before are already
// the identity on this batch. sigma includes eps, so that gamma * (z - mu) / sigma + beta = z
// exactly.
void make_identity(Network& network, const Split& batch) {
  const nn::BatchNormStateGuard keep(network);
  nn::use_batch_statistics(network);
  const double eps = BatchNormPlan().eps;
  const auto layers = nn::batch_norm_layers(network);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto parameters = network.norm(i)->named_parameters();
    layers[i].layer->on_input = [parameters, eps](const torch::Tensor& z) {
      const auto channels = z.transpose(0, 1).flatten(1).to(torch::kFloat64);
      parameters["weight"].copy_((channels.var(1, /*unbiased=*/false) + eps).sqrt());
      parameters["bias"].copy_(channels.mean(1));
    };
  }
  const torch::NoGradGuard no_grad;
  network.forward(batch.images);
}

// The network of an arm as its training starts, given the first batch.
std::shared_ptr<Network> start(const Subject& subject, const std::string& init, const Dataset& data,
                               std::uint64_t seed, const Split& first) {
  auto network = std::make_shared<Network>(
      subject.plan, init == none.key ? no_norm() : batch_norm(), data.rows(), data.cols(), seed);
  if (init == inverse.key) make_identity(*network, first);
  return network;
}

// Multiplies each weight by 1 + nudge * N(0, 1).
void nudge_weights(Network& network, std::uint64_t seed) {
  const torch::NoGradGuard no_grad;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(~seed);
  for (auto weight : network.hidden_weights()) {
    weight.mul_(1 + nudge * torch::empty_like(weight).normal_(0, 1, generator));
  }
}

// Trains the arm's network beside one without norm, from the same weights on the same batches, and
// records how far apart they are; of the arm without norm, beside a nudged copy of itself.
void compare_with_none(const Trial& trial, const Context& context, Measured& measured) {
  const auto& subject = subject_of(trial.arm);
  const auto init = trial.arm.settings.at("init").get<std::string>();
  Batches batches(context.data.train, batch_size, trial.seed);
  Split batch = batches.next();
  const auto plain = start(subject, none.key, context.data, trial.seed, batch);
  const auto other = start(subject, init, context.data, trial.seed, batch);
  if (init == none.key) nudge_weights(*other, trial.seed);

  const auto gradients_of = [&](Network& network) {
    return loss_gradient(network, batch, network.hidden_weights()).of;
  };
  const auto expected = gradients_of(*plain);
  const auto actual = gradients_of(*other);
  measured.values["gradient_difference"] = relative_difference(flat(actual), flat(expected));
  measured.values["gradient_cosine"] = cosine(flat(actual), flat(expected));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto layer = static_cast<double>(i);
    measured.curves["layer_difference"].add(layer, relative_difference(actual[i], expected[i]));
    measured.curves["layer_cosine"].add(layer, cosine(actual[i], expected[i]));
  }

  const auto train_on_batch = [&](Network& network) {
    const auto parameters = network.parameters();
    step(parameters, loss_gradient(network, batch, parameters).of, -trial.lr);
  };
  const auto outputs_differ = [&] {
    const torch::NoGradGuard no_grad;
    return relative_difference(other->forward(batch.images), plain->forward(batch.images));
  };
  for (std::int64_t i = 0; i <= path_steps; ++i) {
    if (context.stop) return;
    measured.curves["path"].add(static_cast<double>(i), outputs_differ());
    if (i == path_steps) break;
    train_on_batch(*plain);
    train_on_batch(*other);
    batch = batches.next();
  }
  measured.values["output_difference"] = measured.curve("path").y.front();
  measured.values["path_difference"] = measured.curve("path").y.back();
}

Measured measure(const Trial& trial, const Context& context) {
  const auto& subject = subject_of(trial.arm);
  TrialPlan plan{.network = subject.plan,
                 .norm = trial.arm.norm == none.norm ? no_norm() : batch_norm()};
  plan.batch_size = batch_size;
  plan.prepare = [&](Network& network) {
    if (trial.arm.settings.at("init") != inverse.key) return;
    make_identity(network, Batches(context.data.train, batch_size, trial.seed).next());
  };
  plan.finish = [&](Network&, Measured& measured) { compare_with_none(trial, context, measured); };
  return train_trial(plan, trial, context);
}

double mean(const Outcomes& outcomes, const Subject& subject, const Init& init,
            const std::string& value) {
  return bootstrap_mean(outcomes.values(outcomes.arm(arm_name(subject, init)), value)).mean;
}

// How far the outputs of an arm are from those without norm after some steps, by seed.
std::vector<double> path_at(const Outcomes& outcomes, const Subject& subject, const Init& init,
                            std::size_t step) {
  std::vector<double> values;
  for (const auto seed : outcomes.design().seeds) {
    const auto& path = outcomes.trial(outcomes.arm(arm_name(subject, init)), seed).curve("path").y;
    values.push_back(step < path.size() ? path[step] : NAN);
  }
  return values;
}

// Whether (sigma, mu) and none are the same network, in every seed.
bool same(const Outcomes& outcomes, const Subject& subject) {
  const auto& arm = outcomes.arm(arm_name(subject, inverse));
  const auto within = [](const std::vector<double>& differences, double limit) {
    return std::ranges::all_of(differences, [&](double each) { return each <= limit; });
  };
  const double drift = std::ranges::max(path_at(outcomes, subject, none, judged_step));
  return within(outcomes.values(arm, "output_difference"), output_tolerance) &&
         within(outcomes.values(arm, "gradient_difference"), gradient_tolerance) &&
         within(path_at(outcomes, subject, inverse, judged_step), drift_factor * drift);
}

Interval accuracy_gap(const Outcomes& outcomes, const Subject& subject, const Init& other) {
  const auto of = [&](const Init& init) {
    return outcomes.values(outcomes.arm(arm_name(subject, init)), "test_accuracy");
  };
  return paired_difference(of(inverse), of(other));
}

std::string found_of(const Outcomes& outcomes, const Subject& subject) {
  const auto number = [&](const Init& init, const std::string& value, Format format) {
    return format_number(mean(outcomes, subject, init, value), format);
  };
  const auto path = [&](const Init& init, std::size_t step) {
    const auto [least, most] = std::ranges::minmax(path_at(outcomes, subject, init, step));
    return fmt::format("{:.2g} to {:.2g}", least, most);
  };
  return fmt::format(
      "{}: with (σ, μ) the outputs at step 0 are those without norm but for {} of their size, "
      "while the gradients of the weights are off by {} of theirs (cosine {}). After {} steps on "
      "the same batches the outputs are {} apart, those of a network without norm whose weights "
      "were nudged by rounding {}; after {} steps {} and {} (least to most of the seeds). At the "
      "end the test accuracy of (σ, μ) minus that of none is {}, minus that of (1, 0) {}.",
      subject.name, number(inverse, "output_difference", Format::power),
      number(inverse, "gradient_difference", Format::decimal),
      number(inverse, "gradient_cosine", Format::decimal), judged_step, path(inverse, judged_step),
      path(none, judged_step), path_steps, path(inverse, path_steps), path(none, path_steps),
      format_interval(accuracy_gap(outcomes, subject, none), Format::points),
      format_interval(accuracy_gap(outcomes, subject, standard), Format::points));
}

Verdict judge(const Outcomes& outcomes) {
  Verdict verdict;
  std::vector<bool> confirmed;
  for (const auto& subject : subjects()) {
    confirmed.push_back(same(outcomes, subject));
    verdict.found += found_of(outcomes, subject) + "\n";
    for (const auto& other : {none, standard}) {
      warn_if_within_noise(
          verdict, accuracy_gap(outcomes, subject, other), 0,
          fmt::format("the test accuracy of (σ, μ) minus {} on the {}", other.title, subject.name),
          Format::points);
    }
  }
  verdict.answer = answer_of(confirmed);
  if (verdict.answer == Answer::depends) verdict.depends_on = "the network";
  verdict.number_is = "relative difference of the gradients of (σ, μ) and none at step 0, cnn";
  verdict.number = bootstrap_mean(
      outcomes.values(outcomes.arm(arm_name(subjects().back(), inverse)), "gradient_difference"));
  return verdict;
}

// The curve of all arms of a network, in colors of their own.
Panel panel_of(const Outcomes& outcomes, const Subject& subject, const std::string& curve, Axis x,
               Axis y) {
  Panel panel{.title = subject.name, .x = std::move(x), .y = std::move(y)};
  for (const auto& init : inits) {
    const bool nudged = init.key == none.key && curve != "loss" && curve != "held_out_accuracy";
    auto lines = seeds_and_mean(curves_of(outcomes, outcomes.arm(arm_name(subject, init)), curve),
                                nudged ? "none, nudged" : init.title, init.color, init.dash);
    std::ranges::move(lines, std::back_inserter(panel.series));
  }
  return panel;
}

std::vector<Figure> draw(const Outcomes& outcomes) {
  const Axis steps{.title = "Step", .format = Format::count};
  Figure path{.title = "How far from no normalization",
              .caption =
                  "Relative difference of the outputs from those of the network without norm, over "
                  "the first steps from the same weights on the same batches. (σ, μ) starts at "
                  "rounding; if it were the same as none it would drift as the nudged network "
                  "does, which differs from none by rounding alone."};
  Figure layers{
      .title = "Gradients at step 0",
      .caption =
          "Cosine between the gradient of each hidden layer's weights and that without norm. The "
          "inputs of every layer are equal at this step, but every gradient came back through the "
          "layer's own norm and those above it."};
  Figure training{.title = "Training",
                  .caption =
                      "Training loss, and accuracy on held-out images. Evaluation uses the moving "
                      "average, which at step 0 knows no batch yet."};
  for (const auto& subject : subjects()) {
    path.panels.push_back(
        panel_of(outcomes, subject, "path", steps,
                 {.title = "Relative difference", .format = Format::power, .log = true}));
    layers.panels.push_back(panel_of(outcomes, subject, "layer_cosine",
                                     {.title = "Layer", .categories = subject.plan.layer_names()},
                                     {.title = "Cosine"}));
    training.panels.push_back(panel_of(outcomes, subject, "loss", steps, {.title = "Loss"}));
    training.panels.push_back(panel_of(outcomes, subject, "held_out_accuracy", steps,
                                       {.title = "Held-out accuracy", .format = Format::percent}));
  }
  return {path, layers, training};
}

}  // namespace

Experiment experiment() {
  return {
      .id = "identity-init",
      .title = "Is gamma = σ, beta = μ the same as no BatchNorm?",
      .claim =
          "With gamma = σ and beta = μ, the inverse of the normalization, BatchNorm is the same as "
          "no BatchNorm at all.",
      .source =
          "The course notes ask it and leave it open; the initialization is from Qiu, “Neural "
          "Networks and Deep Learning”, chapter 7.",
      .protocol = fmt::format(
          "A perceptron of 3 layers of 100 ReLU units and the convolutional network, each without "
          "norm, with BatchNorm at gamma = 1, beta = 0, and with gamma = σ, beta = μ of the first "
          "batch, set layer by layer (σ includes eps, so that the inverse is exact). All start "
          "from the same weights and see the same batches of {} at lr = {}, the same for all, "
          "since the question is about sameness. What one expects: σ and μ in the forward pass "
          "follow the weights and the backward pass goes through them, taking out the parts of the "
          "gradient that would only shift or scale z, while gamma and beta are numbers that equal "
          "σ and μ at step 0 only. At step 0 outputs and gradients are compared on the first "
          "batch; then the networks take {} steps side by side. A control without norm, whose "
          "weights are nudged by {} of their size, shows how far rounding alone drifts. Then each "
          "arm is trained to the end.",
          batch_size, lr, path_steps, nudge),
      .rule = fmt::format(
          "On a network they are the same if, in every seed, at step 0 the outputs differ by no "
          "more than {} of their size and the gradients of the hidden weights by no more than {} "
          "(float32 rounding of the longest sums), and after {} steps side by side the outputs "
          "differ by no more than {} times what the nudged control does. Confirmed if so on both "
          "networks, refuted if on neither, depends otherwise.",
          output_tolerance, gradient_tolerance, judged_step, drift_factor),
      .refutation =
          "Equal outputs at step 0 but other gradients, and trainings that go apart faster than "
          "rounding explains.",
      .quick_minutes = 0.3,
      .full_minutes = 3,
      .columns = {{"output_difference", "Outputs differ at step 0", Format::power},
                  {"gradient_difference", "Gradients differ", Format::power},
                  {"gradient_cosine", "Their cosine", Format::decimal},
                  {"path_difference", fmt::format("Outputs differ at step {}", path_steps),
                   Format::power},
                  {"test_accuracy", "Test accuracy"}},
      .design = design,
      .measure = measure,
      .judge = judge,
      .draw = draw};
}

}  // namespace evenkeel::lab::identity_init
