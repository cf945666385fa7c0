// Input standardization: x~ = (x - mean) / std per feature, over a whole data set in one pass.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

#include "evenkeel/moments.h"
#include "evenkeel/tensor.h"

namespace evenkeel {

// The transform of one data set. Feed the data set batch by batch to a ChannelMoments (features are
// channels), then:
//
//   ChannelMoments moments(features);
//   for (batch : data) moments.add(batch);
//   auto standardization = Standardization::from(moments);
//   standardization.apply(batch, out);
//
// A constant feature (M2 exactly 0) has std 0 and scale 1: it becomes 0, not NaN.
struct Standardization {
  std::int64_t count = 0;     // samples (times positions) that were seen
  std::vector<double> mean;   // per feature
  std::vector<double> std;    // per feature: square root of the biased variance
  std::vector<double> scale;  // per feature: what x - mean is divided by: std, or 1 if std is 0

  // Throws Error if there are no samples or if a feature's statistics are not finite, or vary too
  // much or too little for a double to hold the variance (names it).
  static Standardization from(const ChannelMoments& moments);

  std::int64_t features() const { return static_cast<std::int64_t>(mean.size()); }
  // Indices of the constant features, ascending.
  std::vector<std::int64_t> constant_features() const;

  // y = (x - mean) / scale per channel; y may be x itself. Throws Error if the channels differ.
  template <class T>
  void apply(TensorView<const T> x, TensorView<T> y) const;

  // A text form that restores every value exactly. load throws Error on anything else.
  void save(std::ostream& out) const;
  static Standardization load(std::istream& in);
};

}  // namespace evenkeel
