// Evenkeel's modules in libtorch networks.

// [snippet]
#include <torch/torch.h>

#include "evenkeel/torch.h"

// Drop-ins for torch::nn: same options, same parameter and buffer names, same saved state.
torch::nn::Sequential make_network() {
  return torch::nn::Sequential(torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 8, 3).bias(false)),
                               evenkeel::nn::BatchNorm2d(8), torch::nn::ReLU(),
                               torch::nn::Flatten(), torch::nn::Linear(8 * 26 * 26, 10));
}

// Or take an existing network as it is; its parameters and buffers stay the same tensors.
void take_over(torch::nn::Sequential& network) { evenkeel::nn::replace_normalization(*network); }
// [end snippet]

// [snippet]
// After training: inference with the exact statistics of all the data, not with moving averages.
void finish(torch::nn::Sequential& network, const std::vector<torch::Tensor>& batches) {
  evenkeel::nn::estimate_population_statistics(*network, batches);
  network->eval();
}
// [end snippet]

// [snippet]
// Fine-tuning: the statistics stay as they are, even in train(); weight and bias go on learning.
void freeze_statistics(torch::nn::Module& network) {
  for (auto& [name, layer] : evenkeel::nn::batch_norm_layers(network)) layer->freeze();
}
// [end snippet]

#include <cstdio>
#include <cstdlib>

namespace {

void expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}

}  // namespace

int main() {
  torch::manual_seed(1);
  const auto images = 100 + 10 * torch::randn({64, 1, 28, 28});

  // One training step.
  auto network = make_network();
  torch::optim::SGD optimizer(network->parameters(), 0.01);
  const auto labels = torch::arange(64) % 10;
  torch::nn::functional::cross_entropy(network->forward(images), labels).backward();
  optimizer.step();

  // The running statistics become those of the layer's input over both batches together.
  finish(network, {images.slice(0, 0, 40), images.slice(0, 40)});
  const auto z = network->ptr<torch::nn::Conv2dImpl>(0)->forward(images).detach();
  auto batch_norm = network->ptr<evenkeel::nn::BatchNorm2dImpl>(1);
  expect(torch::allclose(batch_norm->running_mean, z.mean({0, 2, 3}), 1e-4, 1e-4) &&
             torch::allclose(batch_norm->running_var, z.var({0, 2, 3}), 1e-4, 1e-4),
         "the running statistics are the exact ones");

  // Frozen, they stay so in training.
  freeze_statistics(*network);
  network->train();
  const auto frozen_mean = batch_norm->running_mean.clone();
  network->forward(images);
  expect(torch::equal(batch_norm->running_mean, frozen_mean), "frozen statistics stay");

  // A network of torch::nn puts out the same with evenkeel's layers.
  torch::nn::Sequential existing(torch::nn::Conv2d(1, 8, 3), torch::nn::BatchNorm2d(8));
  const auto before = existing->forward(images);
  take_over(existing);
  expect(existing->ptr<evenkeel::nn::BatchNorm2dImpl>(1) != nullptr, "the layer is evenkeel's");
  expect(torch::allclose(existing->forward(images), before, 1e-4, 1e-4), "the output is the same");
}
