// The examples of docs/batch-norm.md.
#include "evenkeel/batch_norm.h"

#include <cstddef>
#include <span>
#include <vector>

#include "check.h"

// [snippet]
// A layer of an engine of one's own. It keeps the parameters and every statistic.
struct BatchNormLayer {
  std::vector<float> weight, bias;               // learned
  std::vector<float> running_mean, running_var;  // for inference
  std::vector<double> mean, rstd;                // of the last batch, for the backward

  explicit BatchNormLayer(std::size_t channels)
      : weight(channels, 1.0F),
        bias(channels, 0.0F),
        running_mean(channels, 0.0F),
        running_var(channels, 1.0F),
        mean(channels),
        rstd(channels) {}

  void train(evenkeel::TensorView<const float> x, evenkeel::TensorView<float> y) {
    evenkeel::batch_norm_forward<float>({.x = x,
                                         .weight = weight,
                                         .bias = bias,
                                         .mean = mean,
                                         .rstd = rstd,
                                         .running = {.mean = running_mean, .var = running_var},
                                         .y = y},
                                        {.update = evenkeel::RunningUpdate::moving_average(0.1)});
  }

  void infer(evenkeel::TensorView<const float> x, evenkeel::TensorView<float> y) const {
    evenkeel::batch_norm_inference<float>(
        {.x = x, .weight = weight, .bias = bias, .mean = running_mean, .var = running_var, .y = y});
  }

  // dx may be the memory of dy.
  void backward(evenkeel::TensorView<const float> dy, evenkeel::TensorView<const float> x,
                evenkeel::TensorView<float> dx, std::span<float> dweight, std::span<float> dbias) {
    evenkeel::batch_norm_backward<float>({.dy = dy,
                                          .x = x,
                                          .weight = weight,
                                          .mean = mean,
                                          .rstd = rstd,
                                          .dx = dx,
                                          .dweight = dweight,
                                          .dbias = dbias});
  }
};
// [end snippet]

// [snippet]
// Replaces the moving averages by the exact statistics of a layer's input over a whole data set.
void use_exact_statistics(BatchNormLayer& layer,
                          std::span<const evenkeel::TensorView<const float>> batches) {
  evenkeel::ChannelMoments moments(static_cast<std::int64_t>(layer.weight.size()));
  for (const auto& batch : batches) moments.add(batch);
  for (std::size_t c = 0; c < layer.weight.size(); ++c) {
    layer.running_mean[c] = static_cast<float>(moments.mean()[c]);
    layer.running_var[c] =
        static_cast<float>(moments.unbiased_variance(static_cast<std::int64_t>(c)));
  }
}
// [end snippet]

// [snippet]
// Starts a layer as the identity for one batch: what it puts out is what came in.
void start_as_identity(BatchNormLayer& layer, evenkeel::TensorView<const float> batch) {
  evenkeel::ChannelMoments moments(batch.shape.c);
  moments.add(batch);
  evenkeel::batch_norm_identity_init<float>(moments, 1e-5, layer.weight, layer.bias);
}
// [end snippet]

int main() {
  // Two samples, two channels, two positions; channel 0 is {1, 2, 3, 4}, channel 1 ten times that.
  std::vector<float> x = {1, 2, 10, 20, 3, 4, 30, 40};
  std::vector<float> y(x.size());
  const evenkeel::Shape shape{.n = 2, .c = 2, .s = 2};
  const evenkeel::TensorView<const float> input(x.data(), shape);

  BatchNormLayer layer(2);
  layer.train(input, {y.data(), shape});
  expect_near("mean", layer.mean[1], 25, 1e-5);
  expect_near("y", y[0], -1.5 / std::sqrt(1.25 + 1e-5), 1e-6);
  expect_near("running mean", layer.running_mean[1], 0.1 * 25, 1e-5);
  // The running variance takes the unbiased one: 5 / 3 for {1, 2, 3, 4}.
  expect_near("running variance", layer.running_var[0], 0.9 * 1 + 0.1 * 5 / 3, 1e-6);

  // y sums to a constant, whatever x is, so a constant dy moves nothing.
  std::vector<float> dx(x.size(), 1.0F);
  std::vector<float> dweight(2);
  std::vector<float> dbias(2);
  layer.backward({dx.data(), shape}, input, {dx.data(), shape}, dweight, dbias);
  expect_near("dx", dx[0], 0, 1e-6);
  expect_near("dbias", dbias[0], 4, 1e-6);

  const std::vector<evenkeel::TensorView<const float>> batches = {
      {x.data(), {.n = 1, .c = 2, .s = 2}}, {x.data() + 4, {.n = 1, .c = 2, .s = 2}}};
  use_exact_statistics(layer, batches);
  layer.infer(input, {y.data(), shape});
  expect_near("exact variance", layer.running_var[0], 5.0 / 3, 1e-6);
  expect_near("y in inference", y[7], 15 / std::sqrt(500.0 / 3 + 1e-5), 1e-6);

  start_as_identity(layer, input);
  layer.train(input, {y.data(), shape});
  for (std::size_t i = 0; i < x.size(); ++i) expect_near("identity", y[i], x[i], 1e-5);
}
