// The example of docs/local-response-norm.md.
#include "evenkeel/local_response_norm.h"

#include <vector>

#include "check.h"

// [snippet]
// The same layer as two frameworks write it. The paper multiplies the sum of squares by alpha,
// PyTorch multiplies the mean of `size` squares, so its alpha is `size` times as large.
const auto alexnet = evenkeel::LocalResponseNormOptions::paper(5, 1e-4, 0.75, 2);
const auto alexnet_in_pytorch = evenkeel::LocalResponseNormOptions::torch(5, 5e-4, 0.75, 2);

void normalize(const std::vector<float>& x, std::vector<float>& y,
               const evenkeel::LocalResponseNormOptions& options) {
  const evenkeel::Shape shape{
      .n = 4, .c = 96, .s = 27 * 27, .layout = evenkeel::Layout::channels_last};
  evenkeel::local_response_norm_forward<float>({.x = {x.data(), shape}, .y = {y.data(), shape}},
                                               options);
}
// [end snippet]

int main() {
  std::vector<float> x(4 * 96 * 27 * 27);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 37) % 101);
  std::vector<float> y(x.size());
  std::vector<float> y_in_pytorch(x.size());
  normalize(x, y, alexnet);
  normalize(x, y_in_pytorch, alexnet_in_pytorch);
  double base = 2;
  for (std::size_t c = 8; c <= 12; ++c) base += 1e-4 * x[c] * x[c];
  expect_near("y", y[10], x[10] * std::pow(base, -0.75), 1e-4);
  for (std::size_t i = 0; i < x.size(); ++i) {
    expect_near("y in PyTorch's convention", y_in_pytorch[i], y[i], 1e-4);
  }
}
