// Layer normalization of two samples with four features.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "evenkeel/evenkeel.h"

int main() {
  const std::array<float, 8> x = {1, 2, 3, 4, 10, 20, 30, 40};
  std::array<float, 8> y{};
  const evenkeel::Shape shape{.n = 2, .c = 4};
  evenkeel::LayerNormForward<float> layer_norm;
  layer_norm.x = {x.data(), shape};
  layer_norm.y = {y.data(), shape};
  evenkeel::layer_norm_forward(layer_norm);

  for (float value : y) std::printf("%.4f ", value);
  std::printf("\n");
  // (1, 2, 3, 4) has mean 2.5 and variance 1.25, and the second sample is ten times the first, so
  // both become the same up to eps: 1e-5 against a variance of 1.25 moves y by 4e-6 of itself.
  const std::array<float, 4> expected = {-1.3416F, -0.4472F, 0.4472F, 1.3416F};
  const auto close = [](float a, float b) { return std::abs(a - b) < 1e-4F; };
  const bool right = std::equal(y.begin(), y.begin() + 4, expected.begin(), close) &&
                     std::equal(y.begin() + 4, y.end(), expected.begin(), close);
  return right ? 0 : 1;
}
