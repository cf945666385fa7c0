#include "evenkeel/torch/population.h"

#include <algorithm>
#include <string>

#include "evenkeel/error.h"
#include "evenkeel/moments.h"
#include "evenkeel/torch/convert.h"

namespace evenkeel::nn {
namespace {

// One layer whose statistics are estimated.
struct Target {
  std::string name;
  BatchNormSwitches* layer;
  ChannelMoments moments;

  void check() const {
    if (moments.count() < 2) {
      throw Error(c10::str("estimate_population_statistics: layer '", name, "' saw ",
                           moments.count(),
                           " values per channel, expected 2 or more; give it more data"));
    }
    if (!moments.finite()) {
      throw Error(c10::str("estimate_population_statistics: the inputs of layer '", name,
                           "' have a mean or variance that is not finite; check the data and the "
                           "parameters before it"));
    }
  }

  void write() const {
    const RunningTensors running = layer->running();
    std::vector<double> mean(moments.mean().begin(), moments.mean().end());
    std::vector<double> var;
    for (std::int64_t c = 0; c < moments.channels(); ++c) {
      var.push_back(moments.unbiased_variance(c));
    }
    running.mean.copy_(torch::tensor(mean, torch::kFloat64));
    running.var.copy_(torch::tensor(var, torch::kFloat64));
  }
};

// The layers to estimate; stable addresses, because the hooks point to them.
std::vector<std::unique_ptr<Target>> targets_of(torch::nn::Module& network) {
  std::vector<std::unique_ptr<Target>> targets;
  for (const auto& [name, layer] : batch_norm_layers(network)) {
    const torch::Tensor mean = layer->running().mean;
    if (mean.defined() && !layer->frozen()) {
      targets.push_back(
          std::make_unique<Target>(Target{name, layer, ChannelMoments(mean.numel())}));
    }
  }
  return targets;
}

// `reached` holds the moments of one pass: right for the first layer, whose input depends on no
// other; every later layer is measured again with those before it at their own statistics.
void measure_in_order(const std::vector<Target*>& reached, const std::function<void()>& pass) {
  for (std::size_t i = 0; i < reached.size(); ++i) {
    Target& target = *reached[i];
    if (i > 0) {
      target.moments = ChannelMoments(target.moments.channels());
      target.layer->on_input = [&](const torch::Tensor& x) { add_moments(target.moments, x); };
      pass();
      target.layer->on_input = nullptr;
    }
    target.write();
  }
}

}  // namespace

struct BatchNormStateGuard::Layer {
  BatchNormSwitches* layer;
  std::optional<Statistics> normalize_with;
  std::optional<bool> update_running;
  bool in_place;
  std::function<void(const torch::Tensor&)> on_input;
  RunningTensors values;  // copies
};

BatchNormStateGuard::BatchNormStateGuard(torch::nn::Module& network) {
  const auto copy = [](const torch::Tensor& t) { return t.defined() ? t.clone() : t; };
  for (const auto& module : network.modules())
    training_.emplace_back(module, module->is_training());
  for (const auto& [name, layer] : batch_norm_layers(network)) {
    const RunningTensors running = layer->running();
    layers_.push_back({layer,
                       layer->normalize_with,
                       layer->update_running,
                       layer->in_place,
                       layer->on_input,
                       {copy(running.mean), copy(running.var), copy(running.batches)}});
  }
}

BatchNormStateGuard::~BatchNormStateGuard() {
  const torch::NoGradGuard no_grad;
  const auto restore = [](const torch::Tensor& to, const torch::Tensor& from) {
    if (from.defined()) to.copy_(from);
  };
  for (auto& saved : layers_) {
    const RunningTensors running = saved.layer->running();
    restore(running.mean, saved.values.mean);
    restore(running.var, saved.values.var);
    restore(running.batches, saved.values.batches);
    saved.layer->normalize_with = saved.normalize_with;
    saved.layer->update_running = saved.update_running;
    saved.layer->in_place = saved.in_place;
    saved.layer->on_input = std::move(saved.on_input);
  }
  // Parents come before their children, so each module ends with its own flag.
  for (const auto& [module, on] : training_) module->train(on);
}

void use_batch_statistics(torch::nn::Module& network) {
  for (const auto& [name, layer] : batch_norm_layers(network)) {
    layer->normalize_with = Statistics::batch;
    layer->update_running = false;
  }
}

void estimate_population_statistics(torch::nn::Module& network, const std::function<void()>& pass,
                                    PopulationMethod method) {
  const auto targets = targets_of(network);
  if (targets.empty()) return;
  const torch::NoGradGuard no_grad;
  std::vector<Target*> reached;  // in order of execution
  {
    const BatchNormStateGuard keep(network);
    network.eval();
    // Every pass is to see the batches as they are, also the layer that they come to first.
    for (const auto& [name, layer] : batch_norm_layers(network)) layer->in_place = false;
    for (const auto& target : targets) {
      target->layer->normalize_with =
          method == PopulationMethod::exact ? Statistics::given : Statistics::batch;
      target->layer->update_running = false;
      target->layer->on_input = [&reached, t = target.get()](const torch::Tensor& x) {
        if (std::ranges::find(reached, t) == reached.end()) reached.push_back(t);
        add_moments(t->moments, x);
      };
    }
    pass();
    if (reached.empty()) {
      throw Error(
          "estimate_population_statistics: the pass reached no BatchNorm layer; it must call the "
          "network's forward on at least one batch");
    }
    for (const auto& target : targets) target->layer->on_input = nullptr;
    if (method == PopulationMethod::exact) measure_in_order(reached, pass);
    for (const Target* target : reached) target->check();
  }
  for (const Target* target : reached) target->write();
}

}  // namespace evenkeel::nn
