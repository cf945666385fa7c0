// The example of docs/standardization.md.
#include "evenkeel/standardization.h"

#include <span>
#include <sstream>
#include <vector>

#include "check.h"

// [snippet]
// One pass over the data, batch by batch; the data set never has to be in memory at once.
evenkeel::Standardization standardization_of(
    std::span<const evenkeel::TensorView<const float>> batches, std::int64_t features) {
  evenkeel::ChannelMoments moments(features);
  for (const auto& batch : batches) moments.add(batch);
  return evenkeel::Standardization::from(moments);
}
// [end snippet]

int main() {
  std::vector<float> x = {1, 7, 2, 7, 3, 7, 4, 7};  // four samples; the second feature is constant
  const evenkeel::TensorView<float> all(x.data(), {.n = 4, .c = 2});
  const std::vector<evenkeel::TensorView<const float>> batches = {{x.data(), {.n = 3, .c = 2}},
                                                                  {x.data() + 6, {.n = 1, .c = 2}}};
  const auto standardization = standardization_of(batches, 2);
  expect_near("std", standardization.std[0], std::sqrt(1.25), 1e-12);
  expect_near("constant features", static_cast<double>(standardization.constant_features().at(0)),
              1, 0);

  std::stringstream file;
  standardization.save(file);
  evenkeel::Standardization::load(file).apply<float>(all, all);
  expect_near("x~", x[0], -1.5 / std::sqrt(1.25), 1e-6);
  expect_near("a constant feature", x[1], 0, 0);
}
