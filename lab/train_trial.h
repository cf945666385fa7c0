// The common course of a trial: train a network, score it on the way, test it once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "lab/experiment.h"
#include "lab/networks.h"

namespace evenkeel::lab {

struct TrialPlan {
  NetworkPlan network;
  Normalization norm;
  std::int64_t batch_size = 64;
  std::int64_t loss_points = 50;  // of the curve "loss": mean training loss since the last point
  std::int64_t eval_points = 10;  // of "held_out_accuracy" and "held_out_loss", with step 0
  bool test = true;               // at the end; the test images decide nothing else
  // How often, and what else is measured on the way, also at step 0. `seconds` is the training's.
  std::int64_t probe_points = 0;
  std::function<void(Network& network, std::int64_t step, double seconds, Measured& measured)>
      probe = {};
  // Called before training, e.g. to set parameters.
  std::function<void(Network& network)> prepare = {};
  // Called after a training that did not diverge, unless it is for tuning.
  std::function<void(Network& network, Measured& measured)> finish = {};
};

// Trains from the trial's seed at its rate for its arm's steps. Measures the curves above (x: step)
// and the values train_seconds, held_out_accuracy and held_out_loss; if asked to test, and not for
// tuning, test_accuracy and test_loss.
Measured train_trial(const TrialPlan& plan, const Trial& trial, const Context& context);

}  // namespace evenkeel::lab
