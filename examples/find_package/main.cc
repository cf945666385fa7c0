// Batch normalization of a batch of images, as training does it.

// [snippet]
#include <vector>

#include "evenkeel/evenkeel.h"

// Normalizes 32 images of 3 channels and 28 x 28 pixels in place, channel by channel, and moves
// the running statistics a tenth of the way to those of this batch.
void normalize(std::vector<float>& images, std::vector<float>& running_mean,
               std::vector<float>& running_var) {
  evenkeel::TensorView<float> x(images.data(), {.n = 32, .c = 3, .s = 28 * 28});
  evenkeel::batch_norm_forward<float>(
      {.x = x, .running = {.mean = running_mean, .var = running_var}, .y = x},
      {.update = evenkeel::RunningUpdate::moving_average(0.1)});
}
// [end snippet]

#include <cmath>
#include <cstdio>

int main() {
  constexpr int channels = 3;
  constexpr int pixels = 28 * 28;
  std::vector<float> images(32 * channels * pixels);
  for (std::size_t i = 0; i < images.size(); ++i) images[i] = 100 + static_cast<float>(i % 251);
  std::vector<float> running_mean(channels, 0);
  std::vector<float> running_var(channels, 1);

  normalize(images, running_mean, running_var);

  double sum = 0;
  double sum_of_squares = 0;
  for (float value : images) {
    sum += value;
    sum_of_squares += static_cast<double>(value) * value;
  }
  const double mean = sum / static_cast<double>(images.size());
  const double variance = sum_of_squares / static_cast<double>(images.size()) - mean * mean;
  std::printf("mean %.6f, variance %.6f, running mean %.3f\n", mean, variance, running_mean[0]);
  // The values before were 100 to 350, so the running mean moved from 0 to about 22.5.
  const bool right = std::abs(mean) < 1e-5 && std::abs(variance - 1) < 1e-4 &&
                     std::abs(running_mean[0] - 22.5F) < 0.1F;
  return right ? 0 : 1;
}
