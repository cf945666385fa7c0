// The example of docs/moments.md.
#include "evenkeel/moments.h"

#include <array>

#include "check.h"

// [snippet]
// Two workers see half of the data each; together they know the exact statistics of all of it.
evenkeel::ChannelMoments statistics_of_both(evenkeel::TensorView<const float> first_half,
                                            evenkeel::TensorView<const float> second_half) {
  evenkeel::ChannelMoments first_worker(first_half.shape.c);
  evenkeel::ChannelMoments second_worker(second_half.shape.c);
  first_worker.add(first_half);
  second_worker.add(second_half);
  first_worker.merge(second_worker);
  return first_worker;
}
// [end snippet]

int main() {
  const std::array<float, 2> first = {1, 2};
  const std::array<float, 3> second = {3, 4, 5};
  const auto both =
      statistics_of_both({first.data(), {.n = 2, .c = 1}}, {second.data(), {.n = 3, .c = 1}});
  expect_near("count", both.count(), 5, 0);
  expect_near("mean", both.mean()[0], 3, 1e-12);
  expect_near("biased variance", both.biased_variance(0), 2, 1e-12);
  expect_near("unbiased variance", both.unbiased_variance(0), 2.5, 1e-12);
}
