#include "lab/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>
#include <utility>

#include "evenkeel/error.h"
#include "lab/parallel.h"

namespace evenkeel::lab {
namespace {

template <class T>
void require_distinct(const char* what, const std::vector<T>& values) {
  if (values.empty()) throw Error(fmt::format("compare: no {} is given", what));
  std::set<T> seen;
  for (const auto& value : values) {
    if (!seen.insert(value).second) {
      throw Error(fmt::format("compare: {} {} is given twice", what, value));
    }
  }
}

void require_at_least(const char* what, std::int64_t least, std::optional<std::int64_t> value) {
  if (value && *value < least) {
    throw Error(fmt::format("compare: {} is {}, expected {} or more", what, *value, least));
  }
}

Training training_of(const CompareConfig& config, const NetworkPlan& plan, const Dataset& data) {
  Training training;
  training.batch_size = config.batch_size.value_or(plan.batch_size);
  if (training.batch_size > data.train.size()) {
    throw Error(
        fmt::format("compare: batch size is {}, expected at most {} (training images beside the {} "
                    "that are held out)",
                    training.batch_size, data.train.size(), data.held_out.size()));
  }
  training.lr = config.lr.value_or(plan.lr);
  training.steps = config.steps.value_or(config.quick ? plan.quick_steps : plan.steps);
  if (config.epochs) {
    const std::int64_t batches = data.train.size() / training.batch_size;
    if (__builtin_mul_overflow(*config.epochs, batches, &training.steps)) {
      throw Error(
          fmt::format("compare: epochs is {}, of {} batches each, expected fewer than 2^63 "
                      "batches in all",
                      *config.epochs, batches));
    }
  }
  return training;
}

Results plan_results(const CompareConfig& config, const Dataset& data) {
  Results results;
  results.command = config.command;
  results.started = utc_now();
  results.quick = config.quick;
  results.machine = this_machine();
  results.data_name = data.name;
  results.train_images = data.train.size();
  results.held_out_images = data.held_out.size();
  results.test_images = data.test.size();
  results.exact_images = std::min(config.exact_images, data.train.size());
  results.networks = config.networks;
  results.norms = config.norms;
  results.seeds = config.seeds;
  const auto arms = config.networks.size() * config.norms.size() * config.seeds.size();
  results.jobs = std::min(config.jobs.value_or(default_jobs()), static_cast<int>(arms));
  for (const auto& network : config.networks) {
    results.training[network] = training_of(config, network_plan(network), data);
  }
  return results;
}

std::vector<ArmConfig> plan_arms(const CompareConfig& config, const Results& results) {
  std::vector<ArmConfig> arms;
  for (const auto& network : config.networks) {
    for (const auto& norm : config.norms) {
      for (const auto seed : config.seeds) {
        arms.push_back({.network = network,
                        .norm = norm,
                        .seed = seed,
                        .training = results.training.at(network),
                        .points = config.points,
                        .exact_images = results.exact_images});
      }
    }
  }
  return arms;
}

ArmResult planned_result(const ArmConfig& arm) {
  ArmResult result;
  result.network = arm.network;
  result.norm = arm.norm;
  result.seed = arm.seed;
  return result;
}

void train(const ArmConfig& config, const Dataset& data, const std::atomic<bool>& stop,
           const OnStep& on_step, ArmResult& result) {
  result.error = failure_of([&] {
    const auto network = std::make_shared<Network>(
        network_plan(config.network), norm_of(config.norm), data.rows(), data.cols(), config.seed);
    train_arm(*network, config, data, stop, on_step, result);
  });
  if (result.error) result.status = Status::failed;
}

// The results as they are now.
void close(Results& results) {
  results.interrupted = std::ranges::any_of(results.arms, [](const ArmResult& arm) {
    return arm.status == Status::interrupted || arm.status == Status::not_started;
  });
  results.finished = utc_now();
}

void train_all(const std::vector<ArmConfig>& arms, const Dataset& data, Observer& unguarded,
               const std::atomic<bool>& stop, Results& results) {
  std::mutex mutex;  // of the observer and of `results`
  Guarded observer(unguarded);
  observer.tell([&](Observer& o) { o.planned(arms); });
  run_side_by_side(arms.size(), results.jobs, stop, [&](std::size_t i) {
    const auto on_step = [&](std::int64_t step, double loss) {
      const std::scoped_lock lock(mutex);
      observer.tell([&](Observer& o) { o.stepped(i, step, loss); });
    };
    ArmResult result = planned_result(arms[i]);
    train(arms[i], data, stop, on_step, result);
    const std::scoped_lock lock(mutex);
    results.arms[i] = std::move(result);
    close(results);
    observer.tell([&](Observer& o) { o.ended(i, results); });
  });
}

}  // namespace

CompareConfig quick(CompareConfig config) {
  config.quick = true;
  config.points = {.train = 20, .eval = 4, .probe = 5, .batch_norm = 2};
  config.exact_images = 500;
  return config;
}

void check(const CompareConfig& config) {
  require_distinct("network", config.networks);
  require_distinct("norm", config.norms);
  require_distinct("seed", config.seeds);
  for (const auto& network : config.networks) network_plan(network);
  for (const auto& norm : config.norms) norm_of(norm);
  require_at_least("steps", 1, config.steps);
  require_at_least("epochs", 1, config.epochs);
  require_at_least("batch size", 2, config.batch_size);
  require_at_least("jobs", 1, config.jobs);
  require_at_least("exact images", 2, config.exact_images);
  if (config.steps && config.epochs) {
    throw Error("compare: steps and epochs are both given, expected one of them");
  }
  if (config.lr && !(std::isfinite(*config.lr) && *config.lr > 0)) {
    throw Error(fmt::format("compare: lr is {}, expected a finite number above 0", *config.lr));
  }
}

Results compare(const CompareConfig& config, const Dataset& data, Observer& observer,
                const std::atomic<bool>& stop) {
  check(config);
  Results results = plan_results(config, data);
  const std::vector<ArmConfig> arms = plan_arms(config, results);
  for (const auto& arm : arms) results.arms.push_back(planned_result(arm));
  require_jobs("compare", results.jobs);
  train_all(arms, data, observer, stop, results);
  close(results);
  return results;
}

}  // namespace evenkeel::lab
