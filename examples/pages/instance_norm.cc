// The example of docs/instance-norm.md.
#include "evenkeel/instance_norm.h"

#include <cstddef>
#include <span>
#include <vector>

#include "check.h"

// [snippet]
// A layer that normalizes each channel of each image by itself in training, and by the average of
// what it has seen once it is trained.
struct InstanceNormLayer {
  std::vector<float> weight, bias;               // learned
  std::vector<float> running_mean, running_var;  // for inference
  std::vector<double> mean, rstd;                // of the last batch, for the backward

  InstanceNormLayer(std::size_t largest_batch, std::size_t channels)
      : weight(channels, 1.0F),
        bias(channels, 0.0F),
        running_mean(channels, 0.0F),
        running_var(channels, 1.0F),
        mean(largest_batch * channels),
        rstd(largest_batch * channels) {}

  void train(evenkeel::TensorView<const float> x, evenkeel::TensorView<float> y) {
    const auto groups = static_cast<std::size_t>(x.shape.n * x.shape.c);
    evenkeel::instance_norm_forward<float>(
        {.x = x,
         .weight = weight,
         .bias = bias,
         .mean = std::span(mean).first(groups),
         .rstd = std::span(rstd).first(groups),
         .running = {.mean = running_mean, .var = running_var},
         .y = y},
        {.update = evenkeel::RunningUpdate::moving_average(0.1)});
  }

  // Given statistics are per channel, as BatchNorm's are.
  void infer(evenkeel::TensorView<const float> x, evenkeel::TensorView<float> y) const {
    evenkeel::batch_norm_inference<float>(
        {.x = x, .weight = weight, .bias = bias, .mean = running_mean, .var = running_var, .y = y});
  }

  // Of the batch that was trained on last. dx may be the memory of dy.
  void backward(evenkeel::TensorView<const float> dy, evenkeel::TensorView<const float> x,
                evenkeel::TensorView<float> dx, std::span<float> dweight, std::span<float> dbias) {
    const auto groups = static_cast<std::size_t>(x.shape.n * x.shape.c);
    evenkeel::instance_norm_backward<float>({.dy = dy,
                                             .x = x,
                                             .weight = weight,
                                             .mean = std::span(mean).first(groups),
                                             .rstd = std::span(rstd).first(groups),
                                             .dx = dx,
                                             .dweight = dweight,
                                             .dbias = dbias});
  }
};
// [end snippet]

int main() {
  // Two images of one channel and four pixels; the second one is ten times as bright.
  const std::vector<float> x = {1, 2, 3, 4, 10, 20, 30, 40};
  std::vector<float> y(x.size());
  const evenkeel::Shape shape{.n = 2, .c = 1, .s = 4};
  const evenkeel::TensorView<const float> input(x.data(), shape);

  InstanceNormLayer layer(2, 1);
  layer.train(input, {y.data(), shape});
  expect_near("y", y[0], -1.5 / std::sqrt(1.25 + 1e-5), 1e-6);
  expect_near("y of the brighter image", y[4], -15 / std::sqrt(125 + 1e-5), 1e-6);
  // The averages over both images of the mean and of the unbiased variance.
  expect_near("running mean", layer.running_mean[0], 0.1 * (2.5 + 25) / 2, 1e-6);
  expect_near("running variance", layer.running_var[0], 0.9 * 1 + 0.1 * (5.0 / 3 + 500.0 / 3) / 2,
              1e-5);

  // Each image's y adds up to a constant, whatever x is, so a constant dy moves nothing.
  std::vector<float> dx(x.size(), 1.0F);
  std::vector<float> dweight(1);
  std::vector<float> dbias(1);
  layer.backward({dx.data(), shape}, input, {dx.data(), shape}, dweight, dbias);
  expect_near("dx", dx[7], 0, 1e-6);
  expect_near("dbias", dbias[0], 8, 1e-6);

  layer.infer(input, {y.data(), shape});
  expect_near("y in inference", y[0],
              (1 - layer.running_mean[0]) / std::sqrt(layer.running_var[0] + 1e-5), 1e-6);
}
