// The networks that the lab trains, and the normalizations that go into them.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "evenkeel/local_response_norm.h"

namespace evenkeel::lab {

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
  // Standard deviation of the initial weights; 0: sqrt(2 / fan in) (He et al. 2015), or with
  // `xavier` sqrt(2 / (fan in + fan out)) (Glorot & Bengio 2010). Biases are 0.
  double initial_std = 0;
  bool xavier = false;

  // What `compare` does if not told otherwise.
  std::int64_t steps = 0;
  std::int64_t quick_steps = 0;
  std::int64_t batch_size = 0;
  double lr = 0;

  std::vector<std::string> layer_names() const;
};

// `depth` hidden layers of `width` units.
NetworkPlan perceptron(std::int64_t depth, std::int64_t width, Activation activation);

// Those that `compare` knows.
const std::vector<NetworkPlan>& network_plans();
std::vector<std::string> network_names();
// Throws Error, which lists the known ones.
const NetworkPlan& network_plan(std::string_view name);

// A normalization, as a network takes it: what stands after each hidden layer's weights. lrn and
// scale go after the activation function, as in AlexNet; all others between the weights and the
// activation function, as in their papers.
struct Normalization {
  std::string name;
  bool after_activation = false;
  // For a layer whose output is (N, width) or, of a convolution, (N, width, rows, cols). Absent:
  // nothing stands there.
  std::function<torch::nn::AnyModule(const LayerPlan& layer, std::int64_t rows, std::int64_t cols)>
      make;
};

struct BatchNormPlan {
  double new_batch_weight = 0.1;  // of the moving average
  bool affine = true;             // false: gamma and beta stay 1 and 0
  double eps = 1e-5;
};

Normalization no_norm();
Normalization batch_norm(const BatchNormPlan& plan = {});
// Over all values of a sample: the units of a dense layer, the maps and positions of a convolution.
Normalization layer_norm(double eps = 1e-5);
Normalization rms_norm(double eps = 1e-5);
// Over each of `groups` groups of neighboring units, or of maps with their positions. The default
// divides the layers of every network here.
Normalization group_norm(std::int64_t groups = 4);
// Over the positions of each map. A dense layer's unit has a single value, so nothing stands there.
Normalization instance_norm();
Normalization local_response_norm(const LocalResponseNormOptions& options);
// Multiplies by a constant: the control for LRN.
Normalization constant_scale(double factor);

// The same on convolutions alone: on a network that has none, it is no normalization.
Normalization on_convolutions(Normalization norm);

// Those that `compare` knows, with their defaults above; lrn with the paper's constants.
const std::vector<std::string>& norm_names();
// Throws Error, which lists them.
Normalization norm_of(std::string_view name);

// Gray images (N, 1, rows, cols) to logits (N, classes), channels first. To be made by
// std::make_shared, as every torch module whose submodules are looked up.
class Network : public torch::nn::Module {
 public:
  // Weights are drawn in the order of the layers from a generator of the network's own, and no norm
  // draws any: networks of one plan and seed start with equal weights whatever their norm. Throws
  // Error if the images are too small for the pooling.
  Network(const NetworkPlan& plan, const Normalization& norm, std::int64_t rows, std::int64_t cols,
          std::uint64_t seed);

  // If asked for, `activation_inputs` receives what each hidden layer's activation function gets.
  torch::Tensor forward(torch::Tensor x, std::vector<torch::Tensor>* activation_inputs = nullptr);

  // The norm after hidden layer i; null: none.
  std::shared_ptr<torch::nn::Module> norm(std::size_t i) const;
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

  Layer make_layer(const LayerPlan& layer, std::vector<std::int64_t> weight_shape,
                   const NetworkPlan& plan, at::Generator& generator);
  torch::Tensor activate(const torch::Tensor& x) const;

  Activation activation_;
  bool norm_after_activation_;
  std::vector<Layer> hidden_;
  Layer output_;
};

}  // namespace evenkeel::lab
