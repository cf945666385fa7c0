// The example of docs/batch-norm.md for a batch that lies in several places.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "check.h"
#include "evenkeel/batch_norm.h"

// [snippet]
// A part of a batch, and its gradients. Several processes would hold one part each.
struct Part {
  evenkeel::TensorView<const float> x, dy;
  evenkeel::TensorView<float> y, dx;
};

// Normalizes every part with the statistics of all of them.
void forward(std::span<const Part> parts, std::span<double> mean, std::span<double> rstd) {
  evenkeel::ChannelMoments batch(static_cast<std::int64_t>(mean.size()));
  for (const Part& part : parts) {
    evenkeel::ChannelMoments own(batch.channels());
    own.add(part.x);
    batch.merge(own);  // between processes: send count, mean and M2, and merge in a fixed order
  }
  for (const Part& part : parts) {
    evenkeel::batch_norm_forward<float>({.x = part.x, .mean = mean, .rstd = rstd, .y = part.y},
                                        batch);
  }
}

// The gradients of every part, which depend on the sums over all of them.
void backward(std::span<const Part> parts, std::span<const double> mean,
              std::span<const double> rstd, std::vector<float>& dweight,
              std::vector<float>& dbias) {
  const std::size_t channels = mean.size();
  std::vector<double> dy(channels), dy_x(channels);
  double count = 0;
  for (const Part& part : parts) {
    std::vector<double> own_dy(channels), own_dy_x(channels);
    std::vector<float> own_dweight(channels), own_dbias(channels);
    evenkeel::batch_norm_gradient_sums<float>({.dy = part.dy,
                                               .x = part.x,
                                               .mean = mean,
                                               .rstd = rstd,
                                               .dweight = own_dweight,
                                               .dbias = own_dbias},
                                              {.dy = own_dy, .dy_x = own_dy_x});
    for (std::size_t c = 0; c < channels; ++c) {
      dy[c] += own_dy[c];  // between processes: an all-reduce
      dy_x[c] += own_dy_x[c];
      dweight[c] += own_dweight[c];
      dbias[c] += own_dbias[c];
    }
    count += static_cast<double>(part.x.shape.per_channel());
  }
  for (const Part& part : parts) {
    evenkeel::batch_norm_backward<float>(
        {.dy = part.dy, .x = part.x, .mean = mean, .rstd = rstd, .dx = part.dx},
        {.dy = dy, .dy_x = dy_x}, count);
  }
}
// [end snippet]

int main() {
  // Three samples of two features, of which the second part has one: alone it could not be
  // normalized at all.
  const std::vector<float> x = {1, 10, 2, 30, 6, 20};
  const std::vector<float> dy = {1, 0, -1, 2, 3, 1};
  std::vector<float> y(x.size());
  std::vector<float> dx(x.size());
  const auto part = [&](std::size_t first, std::int64_t samples) {
    const evenkeel::Shape shape{.n = samples, .c = 2};
    return Part{.x = {x.data() + first, shape},
                .dy = {dy.data() + first, shape},
                .y = {y.data() + first, shape},
                .dx = {dx.data() + first, shape}};
  };
  const std::vector<Part> parts = {part(0, 2), part(4, 1)};
  std::vector<double> mean(2);
  std::vector<double> rstd(2);
  std::vector<float> dweight(2);
  std::vector<float> dbias(2);
  forward(parts, mean, rstd);
  backward(parts, mean, rstd, dweight, dbias);

  // The same in one piece.
  const Part whole = part(0, 3);
  const std::vector<float> y_of_parts = y;
  const std::vector<float> dx_of_parts = dx;
  std::vector<float> dweight_of_whole(2);
  std::vector<float> dbias_of_whole(2);
  evenkeel::batch_norm_forward<float>({.x = whole.x, .y = whole.y});
  evenkeel::batch_norm_backward<float>({.dy = whole.dy,
                                        .x = whole.x,
                                        .mean = mean,
                                        .rstd = rstd,
                                        .dx = whole.dx,
                                        .dweight = dweight_of_whole,
                                        .dbias = dbias_of_whole});
  for (std::size_t i = 0; i < x.size(); ++i) {
    expect_near("y", y_of_parts[i], y[i], 1e-6);
    expect_near("dx", dx_of_parts[i], dx[i], 1e-6);
  }
  for (std::size_t c = 0; c < 2; ++c) {
    expect_near("dweight", dweight[c], dweight_of_whole[c], 1e-6);
    expect_near("dbias", dbias[c], dbias_of_whole[c], 1e-6);
  }
}
