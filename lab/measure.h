// What is read off a network besides its training loss. Nothing here changes the network, its
// gradients, its running statistics or any random generator.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "lab/dataset.h"
#include "lab/networks.h"

namespace evenkeel::lab {

struct Score {
  double loss = 0;
  double accuracy = 0;  // a fraction
};

// Mean loss and accuracy over a split, as the trained network would be used (BatchNorm: moving
// average).
Score score(Network& network, const Split& split);

// Accuracy of a network with BatchNorm by the statistics that normalize. `exact` is NaN if the
// population's are not finite, as those of huge activations are.
struct BatchNormAccuracy {
  double moving_average = 0;  // the running statistics that training left behind
  double exact = 0;           // those of a whole population at the present parameters
  double batch = 0;           // those of the very batch that is scored, as in training
};

// Exact statistics are taken over `population`, images of the training set. Batch statistics are
// those of `batch_size` images of the split; the last batch also takes what is left over.
BatchNormAccuracy batch_norm_accuracy(Network& network, const Split& split,
                                      const torch::Tensor& population, std::int64_t batch_size);

// One number, or three, for each hidden layer.
struct Probe {
  std::vector<std::array<double, 3>> bands;  // percentiles 15, 50, 85 of the activation's inputs
  std::vector<double> saturated;      // fraction of them where the activation's slope is lost
  std::vector<double> gradient_norm;  // L2 norm of the loss's gradient for the layer's weights
};

// Of one batch, normalized as in training.
Probe probe(Network& network, Activation activation, const Split& batch);

}  // namespace evenkeel::lab
