// The example of docs/group-norm.md.
#include "evenkeel/group_norm.h"

#include <cstddef>
#include <vector>

#include "check.h"

// [snippet]
// GroupNorm and SiLU in one pass, as they stand between the convolutions of a diffusion model, on 2
// images of 64 channels and 16 x 16 pixels. y may be x, and dx may be dy.
void group_norm(const std::vector<float>& x, const std::vector<float>& weight,
                const std::vector<float>& bias, std::vector<float>& y, std::vector<float>& dy,
                std::vector<float>& dweight, std::vector<float>& dbias) {
  const evenkeel::Shape shape{
      .n = 2, .c = 64, .s = 16 * 16, .layout = evenkeel::Layout::channels_last};
  const evenkeel::GroupNormOptions options{.groups = 32, .activation = evenkeel::Activation::silu};
  std::vector<double> mean(2 * 32);  // per sample and group, from the forward to the backward
  std::vector<double> rstd(2 * 32);
  evenkeel::group_norm_forward<float>({.x = {x.data(), shape},
                                       .weight = weight,
                                       .bias = bias,
                                       .mean = mean,
                                       .rstd = rstd,
                                       .y = {y.data(), shape}},
                                      options);
  evenkeel::group_norm_backward<float>({.dy = {dy.data(), shape},
                                        .x = {x.data(), shape},
                                        .weight = weight,
                                        .bias = bias,
                                        .mean = mean,
                                        .rstd = rstd,
                                        .dx = {dy.data(), shape},
                                        .dweight = dweight,
                                        .dbias = dbias},
                                       options);
}
// [end snippet]

int main() {
  std::vector<float> x(2 * 64 * 16 * 16);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 37) % 101);
  const std::vector<float> weight(64, 2.0F);
  const std::vector<float> bias(64, 1.0F);
  std::vector<float> y(x.size());
  std::vector<float> dy(x.size(), 1.0F);
  std::vector<float> dweight(64);
  std::vector<float> dbias(64);
  group_norm(x, weight, bias, y, dy, dweight, dbias);

  // The first group of the first image: channels 0 and 1 of every pixel.
  double sum = 0;
  double sum_of_squares = 0;
  double sum_of_dx = 0;
  for (std::size_t i = 0; i < 16 * 16 * 64; i += 64) {
    for (const std::size_t j : {i, i + 1}) {
      sum += x[j];
      sum_of_squares += static_cast<double>(x[j]) * x[j];
      sum_of_dx += dy[j];
    }
  }
  const double mean = sum / 512;
  const double variance = sum_of_squares / 512 - mean * mean;
  const double before = (x[0] - mean) / std::sqrt(variance + 1e-5) * 2 + 1;
  expect_near("y", y[0], before / (1 + std::exp(-before)), 1e-5);
  // A constant that is added to a group changes nothing, so the gradients of its values add up to
  // 0.
  expect_near("sum of dx", sum_of_dx, 0, 1e-4);
}
