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

using torch::nn::AnyModule;

// Multiplies by a constant.
class ScaleImpl : public torch::nn::Module {
 public:
  explicit ScaleImpl(double factor) : factor_(factor) {}
  torch::Tensor forward(const torch::Tensor& x) { return x * factor_; }

 private:
  double factor_;
};
TORCH_MODULE(Scale);

std::int64_t fan_in_of(const torch::Tensor& weight) { return weight.numel() / weight.size(0); }

// Of a convolution, each output value goes into as many sums as the kernel has positions, for each
// of its maps.
std::int64_t fan_out_of(const torch::Tensor& weight) { return weight.numel() / weight.size(1); }

double initial_std(const NetworkPlan& plan, const torch::Tensor& weight) {
  if (plan.initial_std > 0) return plan.initial_std;
  const auto fan_in = static_cast<double>(fan_in_of(weight));
  if (plan.xavier) return std::sqrt(2 / (fan_in + static_cast<double>(fan_out_of(weight))));
  return std::sqrt(2 / fan_in);
}

// The shape of one sample's values.
std::vector<std::int64_t> features_of(const LayerPlan& layer, std::int64_t rows,
                                      std::int64_t cols) {
  if (layer.convolution) return {layer.width, rows, cols};
  return {layer.width};
}

}  // namespace

Normalization no_norm() { return {.name = "none", .make = {}}; }

Normalization batch_norm(const BatchNormPlan& plan) {
  const auto make = [plan](const LayerPlan& layer, std::int64_t, std::int64_t) {
    const auto options = torch::nn::BatchNormOptions(layer.width)
                             .momentum(plan.new_batch_weight)
                             .affine(plan.affine)
                             .eps(plan.eps);
    return layer.convolution ? AnyModule(nn::BatchNorm2d(options))
                             : AnyModule(nn::BatchNorm1d(options));
  };
  return {.name = "batch", .make = make};
}

Normalization layer_norm(double eps) {
  const auto make = [eps](const LayerPlan& layer, std::int64_t rows, std::int64_t cols) {
    return AnyModule(
        nn::LayerNorm(torch::nn::LayerNormOptions(features_of(layer, rows, cols)).eps(eps)));
  };
  return {.name = "layer", .make = make};
}

Normalization rms_norm(double eps) {
  const auto make = [eps](const LayerPlan& layer, std::int64_t rows, std::int64_t cols) {
    return AnyModule(nn::RMSNorm(nn::RMSNormOptions(features_of(layer, rows, cols)).eps(eps)));
  };
  return {.name = "rms", .make = make};
}

Normalization group_norm(std::int64_t groups) {
  const auto make = [groups](const LayerPlan& layer, std::int64_t, std::int64_t) {
    return AnyModule(nn::GroupNorm(groups, layer.width));
  };
  return {.name = "group", .make = make};
}

Normalization instance_norm() {
  const auto make = [](const LayerPlan& layer, std::int64_t, std::int64_t) {
    return AnyModule(
        nn::InstanceNorm2d(torch::nn::InstanceNorm2dOptions(layer.width).affine(true)));
  };
  return on_convolutions({.name = "instance", .make = make});
}

Normalization local_response_norm(const LocalResponseNormOptions& options) {
  const auto make = [options](const LayerPlan&, std::int64_t, std::int64_t) {
    return AnyModule(nn::LocalResponseNorm(options));
  };
  return {.name = "lrn", .after_activation = true, .make = make};
}

Normalization constant_scale(double factor) {
  const auto make = [factor](const LayerPlan&, std::int64_t, std::int64_t) {
    return AnyModule(Scale(factor));
  };
  return {.name = "scale", .after_activation = true, .make = make};
}

Normalization on_convolutions(Normalization norm) {
  norm.make = [make = norm.make](const LayerPlan& layer, std::int64_t rows, std::int64_t cols) {
    return layer.convolution ? make(layer, rows, cols) : AnyModule(torch::nn::Identity());
  };
  return norm;
}

const std::vector<std::string>& norm_names() {
  static const std::vector<std::string> names = {"none",     "batch", "layer", "group",
                                                 "instance", "rms",   "lrn"};
  return names;
}

Normalization norm_of(std::string_view name) {
  if (name == "none") return no_norm();
  if (name == "batch") return batch_norm();
  if (name == "layer") return layer_norm();
  if (name == "group") return group_norm();
  if (name == "instance") return instance_norm();
  if (name == "rms") return rms_norm();
  if (name == "lrn") return local_response_norm(LocalResponseNormOptions::paper());
  throw Error(
      fmt::format("unknown norm '{}', expected one of {}", name, fmt::join(norm_names(), ", ")));
}

std::string_view name_of(Activation activation) {
  return activation == Activation::sigmoid ? "sigmoid" : "relu";
}

std::vector<std::string> NetworkPlan::layer_names() const {
  std::vector<std::string> names;
  for (const auto& layer : layers) names.push_back(layer.name);
  return names;
}

NetworkPlan perceptron(std::int64_t depth, std::int64_t width, Activation activation) {
  NetworkPlan plan;
  plan.name = fmt::format("{}x{} {}", depth, width, name_of(activation));
  plan.title = fmt::format("{} hidden layers of {} {} units", depth, width, name_of(activation));
  plan.activation = activation;
  for (std::int64_t i = 1; i <= depth; ++i) {
    plan.layers.push_back({.name = fmt::format("hidden{}", i), .width = width});
  }
  return plan;
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

Network::Network(const NetworkPlan& plan, const Normalization& norm, std::int64_t rows,
                 std::int64_t cols, std::uint64_t seed)
    : activation_(plan.activation), norm_after_activation_(norm.after_activation) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::int64_t channels = 1;
  const std::int64_t image_rows = rows, image_cols = cols;
  for (const auto& layer : plan.layers) {
    std::vector<std::int64_t> shape = {layer.width, channels, 3, 3};
    if (!layer.convolution) shape = {layer.width, channels * rows * cols};
    hidden_.push_back(make_layer(layer, shape, plan, generator));
    if (norm.make) {
      hidden_.back().norm = norm.make(layer, rows, cols);
      register_module(layer.name + "_norm", hidden_.back().norm.ptr());
    }
    channels = layer.width;
    if (!layer.convolution) rows = cols = 1;
    if (layer.pool) {
      rows /= 2;
      cols /= 2;
    }
    if (rows == 0 || cols == 0) {
      const auto pools = std::ranges::count_if(plan.layers, &LayerPlan::pool);
      throw Error(
          fmt::format("network {}: images of {} x {} are too small for its pooling, expected at "
                      "least {} pixels in each direction",
                      plan.name, image_rows, image_cols, std::int64_t{1} << pools));
    }
  }
  const LayerPlan output = {.name = "output", .width = classes};
  output_ = make_layer(output, {classes, channels * rows * cols}, plan, generator);
}

Network::Layer Network::make_layer(const LayerPlan& layer, std::vector<std::int64_t> weight_shape,
                                   const NetworkPlan& plan, at::Generator& generator) {
  auto weight = torch::empty(weight_shape);
  weight.normal_(0, initial_std(plan, weight), generator);
  return {layer,
          register_parameter(layer.name + "_weight", weight),
          register_parameter(layer.name + "_bias", torch::zeros({layer.width})),
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
    const bool normalized = !layer.norm.is_empty();
    if (normalized && !norm_after_activation_) x = layer.norm.forward(x);
    if (activation_inputs) activation_inputs->push_back(x);
    x = activate(x);
    if (normalized && norm_after_activation_) x = layer.norm.forward(x);
    if (layer.plan.pool) x = torch::max_pool2d(x, 2);
  }
  return torch::linear(x.flatten(1), output_.weight, output_.bias);
}

std::shared_ptr<torch::nn::Module> Network::norm(std::size_t i) const {
  const auto& norm = hidden_.at(i).norm;
  return norm.is_empty() ? nullptr : norm.ptr();
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
