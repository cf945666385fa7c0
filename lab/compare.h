// The same networks trained with each normalization, side by side.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lab/arm.h"
#include "lab/dataset.h"
#include "lab/parallel.h"
#include "lab/results.h"

namespace evenkeel::lab {

// One arm for each network x norm x seed. What is absent is the network's own default.
struct CompareConfig {
  std::vector<std::string> networks = {"mlp"};
  std::vector<std::string> norms = {"none", "batch", "layer", "lrn"};
  std::vector<std::uint64_t> seeds = {1};
  std::optional<std::int64_t> steps;
  std::optional<std::int64_t> epochs;  // instead of steps
  std::optional<std::int64_t> batch_size;
  std::optional<double> lr;
  std::optional<int> jobs;  // arms that train at once; absent: see default_jobs
  bool quick = false;
  Points points;
  std::int64_t exact_images = 3000;
  std::string command;  // kept in the results
};

// A first look: fewer steps, points and images for exact statistics.
CompareConfig quick(CompareConfig config);
// `limit` of load_dataset that goes with it.
constexpr std::int64_t quick_limit = 6000;

// Throws Error if a name is unknown or given twice, or if a number is out of its range. Needs no
// data, so that the program can say so before anything else.
void check(const CompareConfig& config);

// Hears how the arms get on. Calls come from the training threads, one at a time. An exception that
// it throws harms no arm: it is dropped, and the observer is not called again.
class Observer {
 public:
  virtual ~Observer() = default;
  // Before training, with all arms in the order of Results::arms.
  virtual void planned(const std::vector<ArmConfig>& arms) = 0;
  virtual void stepped(std::size_t arm, std::int64_t step, double loss) = 0;
  // `results` is what compare would return if it ended here; arms that still train are as if they
  // had not started.
  virtual void ended(std::size_t arm, const Results& results) = 0;
};

// Trains all arms, `jobs` at once, each in a thread of its own with one intra-op thread (a setting
// of libtorch's that stays). Arms of one network and seed share initial weights and the order of
// the batches; the numbers depend on neither `jobs` nor the other arms. An arm that diverges or
// fails leaves the others alone. When `stop` becomes true, what was measured until then is
// returned. Throws Error, before training, as `check`, if a batch is larger than the training set,
// or if more than one job is asked for and the BLAS is not made for it.
Results compare(const CompareConfig& config, const Dataset& data, Observer& observer,
                const std::atomic<bool>& stop);

}  // namespace evenkeel::lab
