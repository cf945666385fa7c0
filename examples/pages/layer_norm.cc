// The example of docs/layer-norm.md.
#include "evenkeel/layer_norm.h"

#include <vector>

#include "check.h"

// [snippet]
// Forward and backward of 8 tokens with 768 features. y may be x, and dx may be dy.
void layer_norm(const std::vector<float>& x, const std::vector<float>& weight,
                const std::vector<float>& bias, std::vector<float>& y, std::vector<float>& dy,
                std::vector<float>& dweight, std::vector<float>& dbias) {
  const evenkeel::Shape shape{.n = 8, .c = 768};
  std::vector<double> mean(8);  // per sample, from the forward to the backward
  std::vector<double> rstd(8);
  evenkeel::layer_norm_forward<float>({.x = {x.data(), shape},
                                       .weight = weight,
                                       .bias = bias,
                                       .mean = mean,
                                       .rstd = rstd,
                                       .y = {y.data(), shape}});
  evenkeel::layer_norm_backward<float>({.dy = {dy.data(), shape},
                                        .x = {x.data(), shape},
                                        .weight = weight,
                                        .mean = mean,
                                        .rstd = rstd,
                                        .dx = {dy.data(), shape},
                                        .dweight = dweight,
                                        .dbias = dbias});
}
// [end snippet]

int main() {
  std::vector<float> x(8 * 768);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 37) % 101);
  const std::vector<float> weight(768, 2.0F);
  const std::vector<float> bias(768, 1.0F);
  std::vector<float> y(x.size());
  std::vector<float> dy(x.size(), 1.0F);
  std::vector<float> dweight(768);
  std::vector<float> dbias(768);
  layer_norm(x, weight, bias, y, dy, dweight, dbias);

  double sum = 0;
  double sum_of_squares = 0;
  for (std::size_t i = 0; i < 768; ++i) {
    sum += y[i];
    sum_of_squares += (y[i] - 1.0) * (y[i] - 1.0);
  }
  expect_near("mean of a sample", sum / 768, 1, 1e-5);
  expect_near("variance of a sample", sum_of_squares / 768, 4, 1e-4);
  expect_near("dbias", dbias[0], 8, 1e-5);
  // With equal weights a constant dy moves nothing: the features of a sample always sum to 0.
  expect_near("dx", dy[0], 0, 1e-5);
}
