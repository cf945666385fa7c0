#include "lab/measure.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "evenkeel/error.h"
#include "evenkeel/torch.h"

namespace evenkeel::lab {
namespace {

// Nearest rank: the smallest value that at least a fraction q of all is not above.
double percentile(const torch::Tensor& values, double q) {
  const auto n = values.numel();
  const auto rank = static_cast<std::int64_t>(std::ceil(q * static_cast<double>(n)));
  return std::get<0>(values.flatten().kthvalue(std::max<std::int64_t>(rank, 1))).item<double>();
}

// A sigmoid's output below 0.05 or above 0.95 has lost more than 4/5 of its largest slope; a ReLU
// passes nothing back for an input of 0 or below.
double saturated_fraction(const torch::Tensor& inputs, Activation activation) {
  const auto lost =
      activation == Activation::sigmoid ? (torch::sigmoid(inputs) - 0.5).abs() > 0.45 : inputs <= 0;
  return static_cast<double>(lost.sum().item<std::int64_t>()) / static_cast<double>(inputs.numel());
}

// In the mode that the network is in, `batch_size` images at a time; the last batch also takes what
// is left over, so none is too small for batch statistics unless the split is.
Score score_in_mode(Network& network, const Split& split, std::int64_t batch_size) {
  torch::NoGradGuard no_grad;
  const std::int64_t n = split.size();
  double loss = 0;
  std::int64_t correct = 0;
  for (std::int64_t first = 0; first < n;) {
    const std::int64_t left = n - first;
    const std::int64_t count = left < 2 * batch_size ? left : batch_size;
    const Split batch = split.narrow(first, count);
    const auto logits = network.forward(batch.images);
    loss += torch::cross_entropy_loss(logits, batch.labels, {}, at::Reduction::Sum).item<double>();
    correct += logits.argmax(1).eq(batch.labels).sum().item<std::int64_t>();
    first += count;
  }
  return {loss / static_cast<double>(n), static_cast<double>(correct) / static_cast<double>(n)};
}

// Images at once where the result does not depend on it: activations of this many fit the caches.
constexpr std::int64_t evaluation_batch = 100;

double exact_accuracy(Network& network, const Split& split, const torch::Tensor& population) {
  try {
    nn::estimate_population_statistics(network, population.split(evaluation_batch));
  } catch (const Error&) {
    // Every layer sees the whole population, so all that can be wrong is a value that is not
    // finite.
    return std::numeric_limits<double>::quiet_NaN();
  }
  return score_in_mode(network, split, evaluation_batch).accuracy;
}

}  // namespace

Score score(Network& network, const Split& split) {
  const nn::BatchNormStateGuard keep(network);
  network.eval();
  return score_in_mode(network, split, evaluation_batch);
}

BatchNormAccuracy batch_norm_accuracy(Network& network, const Split& split,
                                      const torch::Tensor& population, std::int64_t batch_size) {
  const nn::BatchNormStateGuard keep(network);
  network.eval();
  BatchNormAccuracy result;
  result.moving_average = score_in_mode(network, split, evaluation_batch).accuracy;
  result.exact = exact_accuracy(network, split, population);
  nn::use_batch_statistics(network);
  result.batch = score_in_mode(network, split, batch_size).accuracy;
  return result;
}

Probe probe(Network& network, Activation activation, const Split& batch) {
  const nn::BatchNormStateGuard keep(network);
  nn::use_batch_statistics(network);
  std::vector<torch::Tensor> inputs;
  const auto logits = network.forward(batch.images, &inputs);
  const auto loss = torch::cross_entropy_loss(logits, batch.labels);
  const auto gradients = torch::autograd::grad({loss}, network.hidden_weights());

  torch::NoGradGuard no_grad;
  Probe result;
  for (const auto& input : inputs) {
    result.bands.push_back(
        {percentile(input, 0.15), percentile(input, 0.50), percentile(input, 0.85)});
    result.saturated.push_back(saturated_fraction(input, activation));
  }
  for (const auto& gradient : gradients) {
    result.gradient_norm.push_back(gradient.norm().item<double>());
  }
  return result;
}

}  // namespace evenkeel::lab
