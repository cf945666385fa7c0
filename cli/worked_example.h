// Pages that work one layer out on a few numbers. Statistics and results come from the library; a
// page only spells out how they come about. LRN's library function hands out no statistics, so its
// page adds up the windows itself and compares what follows from them with the library's result.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "evenkeel/local_response_norm.h"
#include "evenkeel/tensor.h"

namespace evenkeel::cli {

// A small samples x features matrix, row by row.
struct Matrix {
  std::int64_t samples = 0;
  std::int64_t features = 0;
  std::vector<double> values;

  double at(std::int64_t sample, std::int64_t feature) const {
    return values[static_cast<std::size_t>(sample * features + feature)];
  }
  TensorView<const double> view() const { return {values.data(), shape()}; }
  TensorView<double> view() { return {values.data(), shape()}; }
  Shape shape() const { return {.n = samples, .c = features}; }
};

struct NormExample {
  Matrix x;  // a sample's columns: channel by channel, position by position
  std::int64_t positions = 1;
  std::int64_t groups = 1;     // of channels; of group normalization alone
  std::vector<double> weight;  // per channel; empty: the one that changes nothing
  std::vector<double> bias;    // per channel; empty: 0
  double eps = 1e-5;
  bool unit_offset = false;  // whether 1 is added to the weight; of RMS normalization alone

  // Where there is one position, a channel is what the page calls a feature.
  std::int64_t channels() const { return x.features / positions; }
  Shape shape() const { return {.n = x.samples, .c = channels(), .s = positions}; }
};

// Each page as text; `bold` marks the group that is worked out by hand with terminal codes. They
// throw what the layer throws; that of LRN also throws Error if the library's result is another
// than the page's steps lead to.
std::string explain_batch_norm(const NormExample& example, bool bold);
std::string explain_layer_norm(const NormExample& example, bool bold);
std::string explain_group_norm(const NormExample& example, bool bold);
std::string explain_instance_norm(const NormExample& example, bool bold);
std::string explain_rms_norm(const NormExample& example, bool bold);
std::string explain_local_response_norm(const Matrix& x, const LocalResponseNormOptions& options,
                                        std::string_view convention, bool bold);

}  // namespace evenkeel::cli
