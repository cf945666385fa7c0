// The networks that the lab trains, and the normalizations that go into them.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace evenkeel::lab {

// Where it goes: batch and layer between a hidden layer's weights and its activation function, as
// in their papers; lrn after the activation function, as in AlexNet, with the paper's constants.
enum class Norm : std::uint8_t { none, batch, layer, lrn };
// In the order of the enumeration.
const std::vector<std::string>& norm_names();
// Throws Error, which lists the known ones.
Norm norm_of(std::string_view name);

enum class Activation : std::uint8_t { sigmoid, relu };
std::string_view name_of(Activation activation);

// One hidden layer: `width` units, or maps of a 3x3 convolution with padding 1, perhaps with a 2x2
// max pooling after all else.
struct LayerPlan {
  std::string name;
  bool convolution = false;
  std::int64_t width = 0;
  bool pool = false;
};

struct NetworkPlan {
  std::string name;
  std::string title;
  Activation activation = Activation::relu;
  std::vector<LayerPlan> layers;
  // Standard deviation of the initial weights; 0: sqrt(2 / fan in) (He et al. 2015). Biases are 0.
  double initial_std = 0;

  // What `compare` does if not told otherwise.
  std::int64_t steps = 0;
  std::int64_t quick_steps = 0;
  std::int64_t batch_size = 0;
  double lr = 0;

  std::vector<std::string> layer_names() const;
};

const std::vector<NetworkPlan>& network_plans();
std::vector<std::string> network_names();
// Throws Error, which lists the known ones.
const NetworkPlan& network_plan(std::string_view name);

// Gray images (N, 1, rows, cols) to logits (N, classes), channels first. To be made by
// std::make_shared, as every torch module whose submodules are looked up.
class Network : public torch::nn::Module {
 public:
  // Weights are drawn in the order of the layers from a generator of the network's own, and no norm
  // draws any: networks of one plan and seed start with equal weights whatever their norm. Throws
  // Error if the images are too small for the pooling.
  Network(const NetworkPlan& plan, Norm norm, std::int64_t rows, std::int64_t cols,
          std::uint64_t seed);

  // If asked for, `activation_inputs` receives what each hidden layer's activation function gets.
  torch::Tensor forward(torch::Tensor x, std::vector<torch::Tensor>* activation_inputs = nullptr);

  // The weights of each hidden layer, without biases and norms.
  std::vector<torch::Tensor> hidden_weights() const;
  std::int64_t parameter_count() const;

 private:
  struct Layer {
    LayerPlan plan;
    torch::Tensor weight;
    torch::Tensor bias;
    torch::nn::AnyModule norm;  // empty: none
  };

  Layer make_layer(const LayerPlan& plan, std::vector<std::int64_t> weight_shape,
                   double initial_std, at::Generator& generator);
  torch::Tensor activate(const torch::Tensor& x) const;

  Activation activation_;
  Norm norm_;
  std::vector<Layer> hidden_;
  Layer output_;
};

}  // namespace evenkeel::lab
