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

// [snippet]
// A residual block: each normalization has its ReLU, the second one also adds the shortcut.
struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(std::int64_t channels)
      : conv1(torch::nn::Conv2dOptions(channels, channels, 3).padding(1).bias(false)),
        conv2(torch::nn::Conv2dOptions(channels, channels, 3).padding(1).bias(false)),
        norm1(channels),
        norm2(channels) {
    register_module("conv1", conv1);
    register_module("conv2", conv2);
    register_module("norm1", norm1);
    register_module("norm2", norm2);
    norm1->activation = norm2->activation = evenkeel::Activation::relu;
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const auto h = norm1->forward(conv1->forward(x));
    return norm2->forward(conv2->forward(h), /*residual=*/x);
  }

  torch::nn::Conv2d conv1, conv2;
  evenkeel::nn::BatchNorm2d norm1, norm2;
};
TORCH_MODULE(Block);
// [end snippet]

// [snippet]
// GroupNorm and the SiLU behind it in one pass, as in the blocks of a diffusion network.
evenkeel::nn::GroupNorm make_group_norm(std::int64_t channels) {
  evenkeel::nn::GroupNorm norm(/*num_groups=*/4, channels);
  norm->activation = evenkeel::Activation::silu;
  return norm;
}
// [end snippet]

// [snippet]
// A step of a transformer: what goes into the layer, and the sum that goes past it.
torch::Tensor feed_forward(evenkeel::nn::LayerNorm& norm, torch::nn::Linear& layer,
                           const torch::Tensor& attention, const torch::Tensor& stream) {
  const auto [y, sum] = norm->forward_residual(attention, stream);
  return sum + layer->forward(y);
}
// [end snippet]

// [snippet]
// For inference: evenkeel's layers, each activation within its BatchNorm, and that in place.
void prepare_for_inference(torch::nn::Sequential& network) {
  evenkeel::nn::replace_normalization(*network);
  evenkeel::nn::fuse_activations(*network);
  for (auto& [name, layer] : evenkeel::nn::batch_norm_layers(*network)) layer->in_place = true;
  network->eval();
}
// [end snippet]

// [snippet]
// Everything in bfloat16, but the normalization's parameters and statistics.
void to_bfloat16(torch::nn::Sequential& network) {
  network->to(torch::kBFloat16);
  for (auto& layer : network->children()) {
    if (layer->as<evenkeel::nn::BatchNorm1d>()) layer->to(torch::kFloat32);
  }
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

  // The fused block is the composition of its parts.
  Block block(4);
  const auto x = torch::randn({8, 4, 6, 6});
  const auto by_torch = [](const torch::Tensor& z) {
    return torch::batch_norm(z, {}, {}, {}, {}, true, 0.1, 1e-5, false);
  };
  const auto h = torch::relu(by_torch(block->conv1->forward(x)));
  expect(torch::allclose(block->forward(x), torch::relu(by_torch(block->conv2->forward(h)) + x),
                         1e-4, 1e-4),
         "the fused block is that of torch's layers");

  // GroupNorm with its SiLU likewise.
  const auto features = torch::randn({2, 8, 6, 6});
  expect(torch::allclose(make_group_norm(8)->forward(features),
                         torch::silu(torch::group_norm(features, 4)), 1e-4, 1e-4),
         "the group norm is that of torch's layers");

  // The step of a transformer likewise.
  evenkeel::nn::LayerNorm norm(std::vector<std::int64_t>{16});
  torch::nn::Linear linear(16, 16);
  const auto attention = torch::randn({8, 16}), stream = torch::randn({8, 16});
  const auto sum = attention + stream;
  expect(torch::allclose(feed_forward(norm, linear, attention, stream),
                         sum + linear->forward(torch::layer_norm(sum, {16})), 1e-4, 1e-4),
         "the step is that of torch's layers");

  // Prepared for inference a network puts out the same.
  torch::nn::Sequential trained(torch::nn::Conv2d(1, 8, 3), torch::nn::BatchNorm2d(8),
                                torch::nn::ReLU());
  trained->forward(images);
  trained->eval();
  const torch::NoGradGuard no_grad;
  const auto slow = trained->forward(images);
  prepare_for_inference(trained);
  expect(torch::allclose(trained->forward(images), slow, 1e-4, 1e-4), "inference is the same");

  // In bfloat16 the running statistics still are floats.
  torch::nn::Sequential narrow(torch::nn::Linear(16, 8), evenkeel::nn::BatchNorm1d(8));
  to_bfloat16(narrow);
  expect(narrow->forward(stream.to(torch::kBFloat16)).scalar_type() == torch::kBFloat16 &&
             narrow->ptr<evenkeel::nn::BatchNorm1dImpl>(1)->running_mean.scalar_type() ==
                 torch::kFloat32,
         "16-bit activations beside float statistics");
}
