// Mergeable moments: the one statistic behind every normalization.
//
// (count, mean, M2) of two disjoint sets give those of their union exactly (Chan, Golub & LeVeque
// 1979). SIMD lanes, cache blocks, threads, mini-batches and whole data sets are all this merge.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "evenkeel/tensor.h"

namespace evenkeel {

// Moments of one group of values. m2 is the sum of squared deviations from the mean: infinity where
// it exceeds a double, and 0 only if all values are equal.
struct Moments {
  double count = 0;
  double mean = 0;
  double m2 = 0;

  // Adds one value (Welford 1962).
  void add(double value);
  // Adds all values of another, disjoint, group. Merging with an empty group changes nothing.
  void merge(const Moments& other);
  // m2 / count: the variance that normalizes. NaN for an empty group.
  double biased_variance() const { return m2 / count; }
  // m2 / (count - 1): the estimate of the population's variance. NaN for fewer than two values.
  double unbiased_variance() const;
};

// Moments of a contiguous array. Sums are in Wide<T> over blocks of 4096 values, about a pivot that
// is the mean of the block's first values, and are merged in double.
template <class T>
Moments moments_of(std::span<const T> x);

// Moments of each of C channels; all channels share one count. Add the batches of a data set one
// by one, or merge those of several workers: the result is the exact statistics of the whole.
class ChannelMoments {
 public:
  explicit ChannelMoments(std::int64_t channels);

  // The moments that count(), mean() and m2() gave elsewhere, such as in another process. Throws
  // Error if the sizes differ, if the count is not a whole number from 0 on, or if an M2 is
  // negative. NaN and infinity are legal, as they are in moments of such values.
  ChannelMoments(double count, std::span<const double> mean, std::span<const double> m2);

  // Adds a batch of shape.c channels, in either layout. Throws Error if the channels differ.
  // Threads: parallel over channels or rows; bitwise the same for every number of threads.
  template <class T>
  void add(TensorView<const T> x);
  template <class T>
  void add(TensorView<T> x) requires(!std::is_const_v<T>) {
    add(TensorView<const T>(x));
  }
  // Adds the moments of another, disjoint, set of values. Throws Error if the channels differ.
  void merge(const ChannelMoments& other);

  std::int64_t channels() const { return static_cast<std::int64_t>(mean_.size()); }
  double count() const { return count_; }
  std::span<const double> mean() const { return mean_; }
  std::span<const double> m2() const { return m2_; }
  double biased_variance(std::int64_t channel) const;
  double unbiased_variance(std::int64_t channel) const;
  // True if the mean and M2 of every channel are finite.
  bool finite() const;

 private:
  double count_ = 0;
  std::vector<double> mean_;
  std::vector<double> m2_;
};

}  // namespace evenkeel
