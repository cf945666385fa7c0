// Exact population statistics: "the mean and variance over the whole training set at the present
// parameters", of which a moving average is only the memory of past batches at past parameters.
#pragma once

#include <torch/torch.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "evenkeel/torch/batch_norm.h"

namespace evenkeel::nn {

// Puts back, when it goes out of scope, what an evaluation may disturb in a network: the training
// flag of every module, and the switches, hook and running statistics of every evenkeel BatchNorm.
// So moving-average, exact and batch statistics can be compared in the middle of training:
//
//   {
//     BatchNormStateGuard keep(*network);
//     estimate_population_statistics(*network, batches);
//     network->eval();
//     ... evaluate ...
//   }
class BatchNormStateGuard {
 public:
  explicit BatchNormStateGuard(torch::nn::Module& network);
  ~BatchNormStateGuard();
  BatchNormStateGuard(const BatchNormStateGuard&) = delete;
  BatchNormStateGuard& operator=(const BatchNormStateGuard&) = delete;

 private:
  struct Layer;
  std::vector<Layer> layers_;
  std::vector<std::pair<std::shared_ptr<torch::nn::Module>, bool>> training_;
};

// Every evenkeel BatchNorm in the network normalizes with the statistics of the batch and leaves
// its running statistics alone, in train() and in eval(), until its switches are changed again.
void use_batch_statistics(torch::nn::Module& network);

enum class PopulationMethod : std::uint8_t {
  // Layer by layer: the input of a layer is computed with the layers before it already normalizing
  // by their own population statistics. The statistics are exactly those of the inference network;
  // they do not depend on how the data is cut into batches. One pass over the data per layer.
  exact,
  // Ioffe & Szegedy 2015, Algorithm 2: every layer normalizes by its batch, and the moments of all
  // batches are merged. One pass in all; for layers behind another BatchNorm an approximation that
  // is good for large batches. Needs more than one value per channel in every batch.
  single_pass,
};

// Sets the running statistics (mean, unbiased variance) of every evenkeel BatchNorm in the network
// that has them and is not frozen to those of all the data. `pass` must run the network's forward
// on every batch once, each time it is called:
//
//   estimate_population_statistics(*network, [&] {
//     for (auto& batch : *loader) network->forward(batch.data);
//   });
//
// While it runs the network is in eval() (no dropout) and without gradients; afterwards training
// flags, switches and num_batches_tracked are as before. A layer that is called several times in
// one forward gets the moments of all its inputs together. A network without such layers is left
// alone and `pass` is not called. Throws Error, with all statistics as they were, if a layer that
// the pass reached saw fewer than two values per channel or one that is not finite, or if the pass
// reached no layer.
void estimate_population_statistics(torch::nn::Module& network, const std::function<void()>& pass,
                                    PopulationMethod method = PopulationMethod::exact);

// The same for any range of batches (tensors, or examples with a member `data`) or torch data
// loader that can be gone through several times, and a network with forward(Tensor).
template <class Network, class Batches>
requires(!std::invocable<Batches&>) void estimate_population_statistics(
    Network& network, Batches&& batches, PopulationMethod method = PopulationMethod::exact) {
  estimate_population_statistics(
      static_cast<torch::nn::Module&>(network),
      [&] {
        for (auto&& batch : batches) {
          if constexpr (std::is_convertible_v<decltype(batch), torch::Tensor>) {
            const torch::Tensor& x = batch;
            network.forward(x);
          } else {
            network.forward(batch.data);
          }
        }
      },
      method);
}

}  // namespace evenkeel::nn
