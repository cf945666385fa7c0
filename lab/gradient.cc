#include "lab/gradient.h"

#include <torch/torch.h>

#include <utility>

#include "evenkeel/torch.h"

namespace evenkeel::lab {

LossGradient loss_gradient(Network& network, const Split& batch,
                           const std::vector<torch::Tensor>& parameters) {
  const nn::BatchNormStateGuard keep(network);
  nn::use_batch_statistics(network);
  const auto loss = torch::cross_entropy_loss(network.forward(batch.images), batch.labels);
  return {loss.item<double>(), torch::autograd::grad({loss}, parameters)};
}

torch::Tensor flat(const std::vector<torch::Tensor>& tensors) {
  std::vector<torch::Tensor> rows;
  for (const auto& tensor : tensors) rows.push_back(tensor.detach().flatten());
  return torch::cat(rows);
}

double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

double cosine(const torch::Tensor& a, const torch::Tensor& b) {
  return (torch::dot(a.flatten(), b.flatten()) / (a.norm() * b.norm())).item<double>();
}

std::vector<LayerParameters> parameters_by_layer(const Network& network, const NetworkPlan& plan) {
  auto names = plan.layer_names();
  names.emplace_back("output");
  const auto parameters = network.named_parameters();
  std::vector<LayerParameters> layers;
  for (const auto& name : names) {
    LayerParameters layer{.name = name, .all = {parameters[name + "_weight"]}};
    for (const auto& parameter : parameters) {
      const bool is_weight = parameter.value().is_same(layer.all.front());
      if (parameter.key().starts_with(name + "_") && !is_weight) {
        layer.all.push_back(parameter.value());
      }
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

void step(const std::vector<torch::Tensor>& parameters,
          const std::vector<torch::Tensor>& directions, double factor) {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    torch::Tensor parameter = parameters[i];
    parameter.add_(directions[i], factor);
  }
}

ParameterGuard::ParameterGuard(std::vector<torch::Tensor> parameters)
    : parameters_(std::move(parameters)) {
  for (const auto& parameter : parameters_) kept_.push_back(parameter.detach().clone());
}

ParameterGuard::~ParameterGuard() { restore(); }

void ParameterGuard::restore() {
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i].copy_(kept_[i]);
}

}  // namespace evenkeel::lab
