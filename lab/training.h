// Plain stochastic gradient descent, as every arm and every trial does it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "lab/dataset.h"
#include "lab/networks.h"

namespace evenkeel::lab {

enum class Status : std::uint8_t { not_started, done, diverged, interrupted, failed };
std::string_view name_of(Status status);
Status status_of(std::string_view name);  // throws Error

struct Training {
  std::int64_t steps = 0;
  std::int64_t batch_size = 0;
  double lr = 0;
};

// The batches of all epochs: drawn without replacement from an order that depends on the seed
// alone; what does not fill a last batch of an epoch is left out. Throws Error if the data does not
// fill a single one.
class Batches {
 public:
  Batches(const Split& data, std::int64_t batch_size, std::uint64_t seed);
  Split next();

 private:
  const Split& data_;
  std::int64_t batch_size_;
  at::Generator generator_;
  torch::Tensor order_;
  std::int64_t next_ = 0;
};

struct TrainingEnd {
  Status status = Status::interrupted;
  std::int64_t steps = 0;                        // that were made
  double seconds = 0;                            // in them, without what `on_step` takes
  std::optional<std::int64_t> diverged_at_step;  // the first whose loss was not finite
};

// After a step was made: its number, from 1 on, its batch's loss before the update, and the seconds
// of all steps so far.
using OnTrained = std::function<void(std::int64_t step, double loss, double seconds)>;

// Trains in the calling thread. Stops at the first loss that is not finite (diverged) and soon
// after `stop` becomes true (interrupted). The last step's update is judged by no loss: whoever
// scores the network sees whether it is finite.
TrainingEnd train(Network& network, const Split& data, const Training& training, std::uint64_t seed,
                  const std::atomic<bool>& stop, const OnTrained& on_step);

// Whether one of `points` equal parts of `steps` ends with this step; step 0 counts as one.
bool due(std::int64_t step, std::int64_t points, std::int64_t steps);

}  // namespace evenkeel::lab
