// Misuse of BatchNorm and LayerNorm: an Error that names the argument, and nothing touched.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Tensors {
  Shape shape{4, 3, 2};
  std::vector<float> x = random_values<float>(24), y = std::vector<float>(24, 42),
                     three = {1, 1, 1}, two = {1, 1}, four = {1, 1, 1, 1}, six = {1, 1, 1, 1, 1, 1};
  // For statistics.
  std::vector<double> two_saved = {1, 1}, three_saved = {1, 1, 1}, four_saved = {1, 1, 1, 1};

  BatchNormForward<float> batch_norm() { return {.x = view(x, shape), .y = view(y, shape)}; }
  LayerNormForward<float> layer_norm() { return {.x = view(x, shape), .y = view(y, shape)}; }
  void expect_untouched() const { EXPECT_EQ(y, std::vector<float>(24, 42)); }
};

TEST(BatchNormErrors, NameTheArgument) {
  Tensors t;
  const auto refuses = [&](auto change, const std::vector<std::string>& words,
                           BatchNormOptions options = {}) {
    auto args = t.batch_norm();
    change(args);
    expect_error([&] { batch_norm_forward<float>(args, options); }, words);
    t.expect_untouched();
  };
  const auto nothing = [](auto&) {};
  refuses([&](auto& a) { a.weight = t.two; },
          {"batch_norm: weight has 2 elements, expected 3 (channels)"});
  refuses([&](auto& a) { a.bias = t.four; }, {"bias has 4 elements, expected 3"});
  refuses([&](auto& a) { a.mean = t.two_saved; }, {"mean has 2"});
  refuses([&](auto& a) { a.rstd = t.two_saved; }, {"rstd has 2"});
  refuses([&](auto& a) { a.y = {}; }, {"batch_norm: y is absent, expected (N=4, C=3, S=2)"});
  refuses([&](auto& a) { a.y.shape.layout = Layout::channels_last; },
          {"y has the shape", "channels-last", "expected", "channels-first"});
  refuses([&](auto& a) { a.x.data = nullptr; }, {"x has no data", "24 elements"});
  refuses(
      [&](auto& a) {
        a.residual = view(t.x, {4, 2, 3});
      },
      {"batch_norm: residual has the shape (N=4, C=2, S=3)", "expected (N=4, C=3, S=2)"});
  refuses([&](auto& a) { a.residual = {nullptr, t.shape}; }, {"residual has no data"});
  refuses([&](auto& a) { a.x.shape.n = -1; }, {"x has the shape", "negative"});
  refuses(nothing, {"eps is 0", "above 0"}, {.eps = 0});
  refuses(nothing, {"eps is -"}, {.eps = -1e-5});
  refuses(nothing, {"eps is", "nan"}, {.eps = kNan});
  refuses(nothing, {"running.mean has 0"}, {.update = RunningUpdate::moving_average(0.1)});
  refuses([&](auto& a) { a.running = {.mean = t.three, .var = t.two}; }, {"running.var has 2"},
          {.update = RunningUpdate::moving_average(0.1)});
  std::vector<float> var = {1, 1, 1};
  const auto gives_running = [&](auto& a) { a.running = {.mean = t.three, .var = var}; };
  refuses(gives_running, {"new_batch_weight is 1.5", "[0, 1]"},
          {.update = RunningUpdate::moving_average(1.5)});
  refuses(gives_running, {"new_batch_weight"}, {.update = RunningUpdate::moving_average(kNan)});
  refuses(gives_running, {"cumulative", "running.batches"},
          {.update = RunningUpdate::cumulative()});
}

TEST(BatchNormErrors, OneValuePerChannelInTraining) {
  const std::vector<float> x = {1, 2, 3};
  const std::vector<double> saved = {1, 2, 3};
  std::vector<float> y(3);
  const std::vector<std::string> words = {"one value per channel", "batch_norm_inference"};
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    const Shape shape{1, 3, 1, layout};
    expect_error([&] { batch_norm_forward<float>({.x = view(x, shape), .y = view(y, shape)}); },
                 words);
    expect_error(
        [&] {
          batch_norm_backward<float>({.dy = view(x, shape),
                                      .x = view(x, shape),
                                      .mean = saved,
                                      .rstd = saved,
                                      .dx = view(y, shape)});
        },
        words);
  }
}

TEST(BatchNormErrors, InferenceAndBackwardNeedTheirStatistics) {
  Tensors t;
  expect_error(
      [&] {
        batch_norm_inference<float>(
            {.x = view(t.x, t.shape), .var = t.three, .y = view(t.y, t.shape)});
      },
      {"batch_norm_inference: mean has 0 elements, expected 3"});
  expect_error(
      [&] {
        batch_norm_inference<float>(
            {.x = view(t.x, t.shape), .mean = t.three, .var = t.two, .y = view(t.y, t.shape)});
      },
      {"var has 2"});
  expect_error(
      [&] {
        batch_norm_backward<float>({.dy = view(t.x, t.shape),
                                    .x = view(t.x, t.shape),
                                    .mean = t.three_saved,
                                    .dx = view(t.y, t.shape)});
      },
      {"batch_norm_backward: rstd has 0"});
  expect_error(
      [&] {
        batch_norm_backward<float>({.dy = view(t.x, {2, 3, 2}),
                                    .x = view(t.x, t.shape),
                                    .mean = t.three_saved,
                                    .rstd = t.three_saved});
      },
      {"dy has the shape", "N=2"});
  expect_error(
      [&] {
        batch_norm_inference<float>({.x = view(t.x, t.shape),
                                     .mean = t.three,
                                     .var = t.three,
                                     .residual = view(t.x, {4, 6}),
                                     .y = view(t.y, t.shape)});
      },
      {"batch_norm_inference: residual has the shape"});
  t.expect_untouched();
}

TEST(BatchNormErrors, BackwardNamesWhatBelongsToTheActivation) {
  Tensors t;
  const auto refuses = [&](auto change, const std::vector<std::string>& words) {
    for (const Activation activation : {Activation::none, Activation::relu}) {
      BatchNormBackward<float> args{.dy = view(t.x, t.shape),
                                    .x = view(t.x, t.shape),
                                    .mean = t.three_saved,
                                    .rstd = t.three_saved,
                                    .dx = view(t.y, t.shape)};
      change(args);
      expect_error(
          [&] {
            batch_norm_backward<float>(args,
                                       {.statistics = Statistics::batch, .activation = activation});
          },
          words);
    }
  };
  refuses(
      [&](auto& a) {
        a.residual = view(t.x, {4, 6});
      },
      {"batch_norm_backward: residual has the shape", "expected (N=4, C=3, S=2)"});
  refuses(
      [&](auto& a) {
        a.dresidual = view(t.y, {2, 3, 4});
      },
      {"batch_norm_backward: dresidual has the shape", "expected (N=4, C=3, S=2)"});
  refuses([&](auto& a) { a.bias = t.two; }, {"batch_norm_backward: bias has 2", "expected 3"});
  t.expect_untouched();
}

TEST(LayerNormErrors, NameTheArgument) {
  Tensors t;
  const auto refuses = [&](auto change, const std::vector<std::string>& words, double eps = 1e-5) {
    auto args = t.layer_norm();
    change(args);
    expect_error([&] { layer_norm_forward<float>(args, {.eps = eps}); }, words);
    t.expect_untouched();
  };
  refuses([&](auto& a) { a.weight = t.three; },
          {"layer_norm: weight has 3 elements, expected 6 (features)"});
  refuses([&](auto& a) { a.bias = t.four; }, {"bias has 4"});
  refuses([&](auto& a) { a.mean = t.three_saved; }, {"mean has 3 elements, expected 4 (samples)"});
  refuses([&](auto& a) { a.rstd = t.three_saved; }, {"rstd has 3"});
  refuses([&](auto& a) { a.y.shape = {2, 3, 4}; }, {"y has the shape"});
  refuses([](auto&) {}, {"eps is 0"}, 0);
  refuses([](auto&) {}, {"eps is", "nan"}, kNan);
  refuses([](auto&) {}, {"eps is inf"}, HUGE_VAL);
  refuses(
      [&](auto& a) {
        a.residual = view(t.x, {4, 2, 3});
      },
      {"layer_norm: residual has the shape", "expected (N=4, C=3, S=2)"});
  std::vector<float> sum(24);
  refuses([&](auto& a) { a.sum = view(sum, t.shape); }, {"layer_norm: sum", "residual"});
  refuses(
      [&](auto& a) {
        a.residual = view(t.x, t.shape);
        a.sum = view(sum, {4, 6});
      },
      {"layer_norm: sum has the shape", "expected (N=4, C=3, S=2)"});
  expect_error(
      [&] {
        layer_norm_backward<float>({.dy = view(t.x, t.shape),
                                    .x = view(t.x, t.shape),
                                    .mean = t.four_saved,
                                    .rstd = t.four_saved,
                                    .dx = view(t.y, t.shape),
                                    .dweight = t.two});
      },
      {"layer_norm_backward: dweight has 2 elements, expected 6"});
  expect_error(
      [&] {
        layer_norm_backward<float>({.dy = view(t.x, t.shape),
                                    .x = view(t.x, t.shape),
                                    .mean = t.four_saved,
                                    .rstd = t.four_saved,
                                    .dsum = view(t.x, {4, 6}),
                                    .dx = view(t.y, t.shape)});
      },
      {"layer_norm_backward: dsum has the shape", "expected (N=4, C=3, S=2)"});
  t.expect_untouched();
}

// Nothing to do is not an error; the gradients of parameters over no samples are 0.
TEST(EmptyTensors, AreLegal) {
  for (const Shape& shape :
       {Shape{0, 3, 4}, Shape{2, 0, 4}, Shape{2, 3, 0}, Shape{0, 3, 4, Layout::channels_last}}) {
    std::vector<float> per_channel(static_cast<std::size_t>(shape.c), 1);
    std::vector<double> saved(per_channel.size(), 1),
        per_sample(static_cast<std::size_t>(shape.n), 1);
    const TensorView<float> empty(nullptr, shape);
    batch_norm_forward<float>({.x = empty, .weight = per_channel, .residual = empty, .y = empty},
                              {.activation = Activation::relu});
    batch_norm_inference<float>({.x = empty, .mean = per_channel, .var = per_channel, .y = empty});
    layer_norm_forward<float>(
        {.x = empty, .mean = per_sample, .residual = empty, .sum = empty, .y = empty});
    local_response_norm_forward<float>({.x = empty, .y = empty});
    std::vector<float> dweight(per_channel.size(), 7), dbias(per_channel.size(), 7);
    batch_norm_backward<float>({.dy = empty,
                                .x = empty,
                                .mean = saved,
                                .rstd = saved,
                                .dx = empty,
                                .dweight = dweight,
                                .dbias = dbias});
    EXPECT_EQ(dweight, std::vector<float>(per_channel.size(), 0));
    EXPECT_EQ(dbias, dweight);
    ChannelMoments moments(shape.c);
    moments.add(TensorView<const float>(empty));
    EXPECT_EQ(moments.count(), static_cast<double>(shape.per_channel()));
  }
  std::vector<float> dweight(5, 7);
  layer_norm_backward<float>({.dy = {nullptr, {0, 5}}, .x = {nullptr, {0, 5}}, .dweight = dweight});
  EXPECT_EQ(dweight, std::vector<float>(5, 0));
}

}  // namespace
}  // namespace evenkeel::testing
