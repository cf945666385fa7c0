// One arm of a comparison: one network with one norm, trained from one seed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "lab/dataset.h"
#include "lab/networks.h"
#include "lab/results.h"

namespace evenkeel::lab {

// How many times a series is recorded, at equal distances over the training; all but the training
// loss also at step 0. 0: never.
struct Points {
  std::int64_t train = 100;
  std::int64_t eval = 20;
  std::int64_t probe = 25;
  std::int64_t batch_norm = 5;
};

struct ArmConfig {
  std::string network;
  std::string norm;
  std::uint64_t seed = 1;
  Training training;
  Points points;
  std::int64_t exact_images = 3000;  // first training images, for exact statistics
};

// Called after every step that was made, outside the clock, with its number and loss.
using OnStep = std::function<void(std::int64_t step, double loss)>;

// Trains the network by plain stochastic gradient descent in the calling thread. Batches are drawn
// without replacement from an order that depends on the seed alone; what does not fill a last batch
// of an epoch is left out. Stops at the first loss that is not finite (diverged) and soon after
// `stop` becomes true (interrupted); what was recorded stays. An arm whose last update leaves a
// network without a finite test loss has diverged as well. `result` is filled as it goes, so that
// it holds that much even if an exception ends the training.
void train_arm(Network& network, const ArmConfig& config, const Dataset& data,
               const std::atomic<bool>& stop, const OnStep& on_step, ArmResult& result);

}  // namespace evenkeel::lab
