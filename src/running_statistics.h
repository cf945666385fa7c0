// How batches move running statistics.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "evenkeel/batch_norm.h"
#include "src/base/check.h"

namespace evenkeel {

template <class T>
void check_running(Check& check, const RunningStatistics<T>& running, RunningUpdate update,
                   std::int64_t channels) {
  if (update.kind == RunningUpdate::Kind::none) return;
  check.size("running.mean", running.mean, channels, "channels");
  check.size("running.var", running.var, channels, "channels");
  check.count("running.batches", running.batches);
  check.count("running.skipped", running.skipped);
  if (update.kind == RunningUpdate::Kind::cumulative) {
    check.require(running.batches != nullptr,
                  "a cumulative update needs running.batches, the count of batches so far");
  } else {
    const double w = update.new_batch_weight;
    check.require(w >= 0 && w <= 1,
                  "new_batch_weight is " + exactly(w) + ", expected a number in [0, 1]");
  }
}

struct MeanAndVariance {
  double mean, unbiased_variance;
};

// Moves the running statistics by a batch whose statistics are given a channel at a time.
template <class T, class StatisticsOf>
void update_running(const RunningStatistics<T>& running, RunningUpdate update,
                    const StatisticsOf& statistics_of) {
  const std::size_t channels = running.mean.size();
  for (std::size_t c = 0; c < channels; ++c) {
    const MeanAndVariance batch = statistics_of(c);
    // The stored type must hold the statistics too: a double variance may overflow float.
    if (!std::isfinite(static_cast<Wide<T>>(batch.mean)) ||
        !std::isfinite(static_cast<Wide<T>>(batch.unbiased_variance))) {
      if (running.skipped) ++*running.skipped;
      return;
    }
  }
  if (running.batches) ++*running.batches;
  const double weight = update.kind == RunningUpdate::Kind::cumulative
                            ? 1 / static_cast<double>(*running.batches)
                            : update.new_batch_weight;
  const auto move = [weight](Wide<T>& value, double batch) {
    value = static_cast<Wide<T>>((1 - weight) * static_cast<double>(value) + weight * batch);
  };
  for (std::size_t c = 0; c < channels; ++c) {
    const MeanAndVariance batch = statistics_of(c);
    move(running.mean[c], batch.mean);
    move(running.var[c], batch.unbiased_variance);
  }
}

}  // namespace evenkeel
