// Bitwise the same for every number of threads, and for data at any address.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

// Every output of every operation on one input, one after the other.
std::vector<float> run_everything(const float* x, const float* dy, const Shape& shape) {
  std::vector<float> all;
  const auto keep = [&](const std::vector<float>& values) {
    all.insert(all.end(), values.begin(), values.end());
  };
  const auto size = static_cast<std::size_t>(shape.size());
  const auto channels = static_cast<std::size_t>(shape.c),
             samples = static_cast<std::size_t>(shape.n);
  const auto features = static_cast<std::size_t>(shape.c * shape.s);
  std::vector<float> y(size), dx(size), mean(channels), rstd(channels), dweight(channels),
      dbias(channels), running_mean(channels, 0), running_var(channels, 1);
  batch_norm_forward<float>({.x = {x, shape},
                             .y = view(y, shape),
                             .mean = mean,
                             .rstd = rstd,
                             .running = {.mean = running_mean, .var = running_var}},
                            {.update = RunningUpdate::moving_average(0.1)});
  for (const auto& v : {y, mean, rstd, running_mean, running_var}) keep(v);
  batch_norm_backward<float>({.dy = {dy, shape},
                              .x = {x, shape},
                              .mean = mean,
                              .rstd = rstd,
                              .dx = view(dx, shape),
                              .dweight = dweight,
                              .dbias = dbias});
  for (const auto& v : {dx, dweight, dbias}) keep(v);
  batch_norm_inference<float>(
      {.x = {x, shape}, .mean = mean, .var = running_var, .y = view(y, shape)});
  keep(y);

  std::vector<float> row_mean(samples), row_rstd(samples), feature_weight(features),
      feature_bias(features);
  layer_norm_forward<float>(
      {.x = {x, shape}, .y = view(y, shape), .mean = row_mean, .rstd = row_rstd});
  layer_norm_backward<float>({.dy = {dy, shape},
                              .x = {x, shape},
                              .mean = row_mean,
                              .rstd = row_rstd,
                              .dx = view(dx, shape),
                              .dweight = feature_weight,
                              .dbias = feature_bias});
  for (const auto& v : {y, row_mean, row_rstd, dx, feature_weight, feature_bias}) keep(v);

  local_response_norm_forward<float>({.x = {x, shape}, .y = view(y, shape)});
  local_response_norm_backward<float>({.dy = {dy, shape}, .x = {x, shape}, .dx = view(dx, shape)});
  keep(y);
  keep(dx);

  ChannelMoments moments(shape.c);
  moments.add(TensorView<const float>(x, shape));
  Standardization::from(moments).apply<float>({x, shape}, view(y, shape));
  keep(y);
  return all;
}

// Large enough for several threads and several blocks in each geometry: many and few channels,
// many and few rows, long and short ones.
const std::vector<Shape> kShapes = {
    {40, 64, 49},   {40, 64, 49, Layout::channels_last},
    {3, 2, 70001},  {3, 2, 70001, Layout::channels_last},
    {5000, 33, 1},  {60, 3001, 1},
    {2, 1, 150000},
};

TEST(Determinism, TheNumberOfThreadsChangesNothing) {
  const int before = num_threads();
  for_each_target([] {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(name_of(shape));
      const auto x = random_values<float>(shape.size(), 1, 2);
      const auto dy = random_values<float>(shape.size(), 0, 1, 2);
      set_num_threads(1);
      const auto one = run_everything(x.data(), dy.data(), shape);
      for (const int threads : {2, 3, 16}) {
        set_num_threads(threads);
        EXPECT_EQ(run_everything(x.data(), dy.data(), shape), one) << threads << " threads";
      }
    }
  });
  set_num_threads(before);
}

TEST(Determinism, AlignmentChangesNothing) {
  for_each_target([] {
    for (const Shape& shape : {Shape{6, 5, 33}, Shape{6, 35, 33, Layout::channels_last}}) {
      const auto x = random_values<float>(shape.size()), dy = random_values<float>(shape.size(), 1);
      const auto aligned = run_everything(x.data(), dy.data(), shape);
      auto moved_x = x, moved_dy = dy;
      moved_x.insert(moved_x.begin(), 1, 0.0f);
      moved_dy.insert(moved_dy.begin(), 3, 0.0f);
      EXPECT_EQ(run_everything(moved_x.data() + 1, moved_dy.data() + 3, shape), aligned);
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
