#include "lab/networks.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "evenkeel/error.h"
#include "evenkeel/torch.h"
#include "lab/dataset.h"

namespace evenkeel::lab {
namespace {

torch::nn::AnyModule make_norm(Norm norm, const LayerPlan& plan, std::int64_t rows,
                               std::int64_t cols) {
  switch (norm) {
    case Norm::none:
      return {};
    case Norm::batch:
      if (plan.convolution) return torch::nn::AnyModule(nn::BatchNorm2d(plan.width));
      return torch::nn::AnyModule(nn::BatchNorm1d(plan.width));
    case Norm::layer: {
      std::vector<std::int64_t> features = {plan.width};
      if (plan.convolution) features.insert(features.end(), {rows, cols});
      return torch::nn::AnyModule(nn::LayerNorm(torch::nn::LayerNormOptions(features)));
    }
    case Norm::lrn:
      return torch::nn::AnyModule(nn::LocalResponseNorm(LocalResponseNormOptions::paper()));
  }
  return {};
}

}  // namespace

const std::vector<std::string>& norm_names() {
  static const std::vector<std::string> names = {"none", "batch", "layer", "lrn"};
  return names;
}

Norm norm_of(std::string_view name) {
  const auto& names = norm_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    throw Error(fmt::format("unknown norm '{}', expected one of {}", name, fmt::join(names, ", ")));
  }
  return static_cast<Norm>(found - names.begin());
}

std::string_view name_of(Activation activation) {
  return activation == Activation::sigmoid ? "sigmoid" : "relu";
}

std::vector<std::string> NetworkPlan::layer_names() const {
  std::vector<std::string> names;
  for (const auto& layer : layers) names.push_back(layer.name);
  return names;
}

const std::vector<NetworkPlan>& network_plans() {
  static const std::vector<NetworkPlan> plans = {
      // Figure 1 of Ioffe & Szegedy 2015: three hidden layers of 100 sigmoid units, small random
      // weights, 60 examples a batch.
      {.name = "mlp",
       .title = "3 hidden layers of 100 sigmoid units, initial weights N(0, 0.01²)",
       .activation = Activation::sigmoid,
       .layers = {{.name = "hidden1", .width = 100},
                  {.name = "hidden2", .width = 100},
                  {.name = "hidden3", .width = 100}},
       .initial_std = 0.01,
       .steps = 5000,
       .quick_steps = 200,
       .batch_size = 60,
       .lr = 0.1},
      {.name = "cnn",
       .title =
           "2 convolutions (16 and 32 maps, 3x3, pooled) and 64 units, ReLU, He initialization",
       .activation = Activation::relu,
       .layers = {{.name = "conv1", .convolution = true, .width = 16, .pool = true},
                  {.name = "conv2", .convolution = true, .width = 32, .pool = true},
                  {.name = "dense", .width = 64}},
       .steps = 2000,
       .quick_steps = 50,
       .batch_size = 64,
       .lr = 0.1},
  };
  return plans;
}

std::vector<std::string> network_names() {
  std::vector<std::string> names;
  for (const auto& plan : network_plans()) names.push_back(plan.name);
  return names;
}

const NetworkPlan& network_plan(std::string_view name) {
  const auto& plans = network_plans();
  const auto found = std::find_if(plans.begin(), plans.end(),
                                  [&](const NetworkPlan& plan) { return plan.name == name; });
  if (found == plans.end()) {
    throw Error(fmt::format("unknown network '{}', expected one of {}", name,
                            fmt::join(network_names(), ", ")));
  }
  return *found;
}

Network::Network(const NetworkPlan& plan, Norm norm, std::int64_t rows, std::int64_t cols,
                 std::uint64_t seed)
    : activation_(plan.activation), norm_(norm) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::int64_t channels = 1;
  for (const auto& layer : plan.layers) {
    std::vector<std::int64_t> shape = {layer.width, channels, 3, 3};
    if (!layer.convolution) shape = {layer.width, channels * rows * cols};
    hidden_.push_back(make_layer(layer, shape, plan.initial_std, generator));
    hidden_.back().norm = make_norm(norm, layer, rows, cols);
    if (norm != Norm::none) register_module(layer.name + "_norm", hidden_.back().norm.ptr());
    channels = layer.width;
    if (!layer.convolution) rows = cols = 1;
    if (layer.pool) {
      rows /= 2;
      cols /= 2;
    }
    if (rows == 0 || cols == 0) {
      throw Error(fmt::format("network {}: the images are too small for its pooling", plan.name));
    }
  }
  const LayerPlan output = {.name = "output", .width = classes};
  output_ = make_layer(output, {classes, channels * rows * cols}, plan.initial_std, generator);
}

Network::Layer Network::make_layer(const LayerPlan& plan, std::vector<std::int64_t> weight_shape,
                                   double initial_std, at::Generator& generator) {
  auto weight = torch::empty(weight_shape);
  const auto fan_in = static_cast<double>(weight.numel() / plan.width);
  weight.normal_(0, initial_std > 0 ? initial_std : std::sqrt(2 / fan_in), generator);
  return {plan,
          register_parameter(plan.name + "_weight", weight),
          register_parameter(plan.name + "_bias", torch::zeros({plan.width})),
          {}};
}

torch::Tensor Network::activate(const torch::Tensor& x) const {
  return activation_ == Activation::sigmoid ? torch::sigmoid(x) : torch::relu(x);
}

torch::Tensor Network::forward(torch::Tensor x, std::vector<torch::Tensor>* activation_inputs) {
  for (auto& layer : hidden_) {
    x = layer.plan.convolution
            ? torch::conv2d(x, layer.weight, layer.bias, /*stride=*/1, /*padding=*/1)
            : torch::linear(x.flatten(1), layer.weight, layer.bias);
    if (norm_ == Norm::batch || norm_ == Norm::layer) x = layer.norm.forward(x);
    if (activation_inputs) activation_inputs->push_back(x);
    x = activate(x);
    if (norm_ == Norm::lrn) x = layer.norm.forward(x);
    if (layer.plan.pool) x = torch::max_pool2d(x, 2);
  }
  return torch::linear(x.flatten(1), output_.weight, output_.bias);
}

std::vector<torch::Tensor> Network::hidden_weights() const {
  std::vector<torch::Tensor> weights;
  for (const auto& layer : hidden_) weights.push_back(layer.weight);
  return weights;
}

std::int64_t Network::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& parameter : parameters()) count += parameter.numel();
  return count;
}

}  // namespace evenkeel::lab
