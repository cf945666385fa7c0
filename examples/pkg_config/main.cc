// Local response normalization across the channels of one pixel.
#include <array>
#include <cmath>
#include <cstdio>

#include "evenkeel/evenkeel.h"

int main() {
  const std::array<float, 4> x = {1, 2, 3, 4};
  std::array<float, 4> y{};
  const evenkeel::Shape shape{.n = 1, .c = 4};
  evenkeel::local_response_norm_forward<float>(
      {.x = {x.data(), shape}, .y = {y.data(), shape}},
      {.behind = 1, .ahead = 1, .alpha = 1, .beta = 0.5, .k = 2});

  // y_c = x_c / sqrt(2 + the squares of the channel and its two neighbors).
  const std::array<double, 4> base = {2 + 1 + 4, 2 + 1 + 4 + 9, 2 + 4 + 9 + 16, 2 + 9 + 16};
  bool right = true;
  for (std::size_t c = 0; c < x.size(); ++c) {
    const double expected = x[c] / std::sqrt(base[c]);
    std::printf("%.6f (expected %.6f)\n", y[c], expected);
    right = right && std::abs(y[c] - expected) < 1e-6;
  }
  return right ? 0 : 1;
}
