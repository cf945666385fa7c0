// Gradients of the loss, as experiments look at them outside of training.
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "lab/dataset.h"
#include "lab/networks.h"

namespace evenkeel::lab {

struct LossGradient {
  double loss = 0;
  std::vector<torch::Tensor> of;  // in the order of the parameters
};

// Of the mean loss on one batch, normalized as in training. Changes neither the network nor the
// gradients that its parameters hold.
LossGradient loss_gradient(Network& network, const Split& batch,
                           const std::vector<torch::Tensor>& parameters);

// Everything in one row.
torch::Tensor flat(const std::vector<torch::Tensor>& tensors);

// |a - b| / |b|, L2 norms. Not finite if b is 0 or either is not finite.
double relative_difference(const torch::Tensor& a, const torch::Tensor& b);
double cosine(const torch::Tensor& a, const torch::Tensor& b);

// From the first hidden layer to the output.
struct LayerParameters {
  std::string name;
  std::vector<torch::Tensor> all;  // the weights first, then the bias and the norm's
};
std::vector<LayerParameters> parameters_by_layer(const Network& network, const NetworkPlan& plan);

// parameters += factor * directions
void step(const std::vector<torch::Tensor>& parameters,
          const std::vector<torch::Tensor>& directions, double factor);

// Puts the values of parameters back when it goes out of scope.
class ParameterGuard {
 public:
  explicit ParameterGuard(std::vector<torch::Tensor> parameters);
  ~ParameterGuard();
  ParameterGuard(const ParameterGuard&) = delete;
  ParameterGuard& operator=(const ParameterGuard&) = delete;

  void restore();

 private:
  std::vector<torch::Tensor> parameters_;
  std::vector<torch::Tensor> kept_;
};

}  // namespace evenkeel::lab
