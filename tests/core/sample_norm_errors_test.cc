// Misuse of the normalizations of single samples, GroupNorm, InstanceNorm and RMSNorm: an Error
// that names the argument, and nothing touched. Nothing to do is no error.
#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Four samples of six channels at two positions.
struct Tensors {
  Shape shape{4, 6, 2};
  std::vector<float> x = random_values<float>(48), y = std::vector<float>(48, 42),
                     out = std::vector<float>(24, 42), short_out = std::vector<float>(5, 42);
  const std::vector<float> four = std::vector<float>(4, 1), six = std::vector<float>(6, 1),
                           eight = std::vector<float>(8, 1), twelve = std::vector<float>(12, 1),
                           twenty_four = std::vector<float>(24, 1);
  // For statistics.
  std::vector<double> four_saved = std::vector<double>(4, 1),
                      five_saved = std::vector<double>(5, 1), six_saved = std::vector<double>(6, 1),
                      eight_saved = std::vector<double>(8, 1),
                      twenty_four_saved = std::vector<double>(24, 1);

  void expect_untouched() const {
    EXPECT_EQ(y, std::vector<float>(48, 42));
    EXPECT_EQ(out, std::vector<float>(24, 42));
    EXPECT_EQ(short_out, std::vector<float>(5, 42));
  }
};

TEST(GroupNormErrors, ForwardNamesTheArgument) {
  Tensors t;
  const auto refuses = [&](auto change, const std::vector<std::string>& words,
                           GroupNormOptions options = {.groups = 2}) {
    GroupNormForward<float> args{.x = view(t.x, t.shape), .y = view(t.y, t.shape)};
    change(args);
    expect_error([&] { group_norm_forward<float>(args, options); }, words);
    t.expect_untouched();
  };
  const auto nothing = [](auto&) {};
  refuses([&](auto& a) { a.weight = t.four; },
          {"group_norm: weight has 4 elements, expected 6 (channels)"});
  refuses([&](auto& a) { a.bias = t.eight; }, {"group_norm: bias has 8 elements, expected 6"});
  refuses([&](auto& a) { a.mean = t.five_saved; }, {"group_norm: mean has 5 elements, expected 8"});
  refuses([&](auto& a) { a.rstd = t.twenty_four_saved; },
          {"group_norm: rstd has 24 elements, expected 8"});
  refuses([&](auto& a) { a.y = {}; }, {"group_norm: y is absent"});
  refuses([&](auto& a) { a.y.shape.layout = Layout::channels_last; },
          {"y has the shape", "channels-last", "expected", "channels-first"});
  refuses([&](auto& a) { a.x.data = nullptr; }, {"group_norm: x has no data", "48 elements"});
  refuses([&](auto& a) { a.x.shape.s = -2; }, {"x has the shape", "negative"});
  refuses(nothing, {"group_norm: groups is 4", "6 channels"}, {.groups = 4});
  refuses(nothing, {"group_norm: groups is 0"}, {.groups = 0});
  refuses(nothing, {"group_norm: groups is -1"}, {.groups = -1});
  refuses(nothing, {"group_norm: groups is 12", "6 channels"}, {.groups = 12});
  refuses(nothing, {"eps is 0", "above 0"}, {.groups = 2, .eps = 0});
  refuses(nothing, {"eps is", "nan"}, {.groups = 2, .eps = kNan});
  refuses(nothing, {"eps is inf"}, {.groups = 2, .eps = HUGE_VAL});
}

TEST(GroupNormErrors, BackwardNamesTheArgument) {
  Tensors t;
  const auto refuses = [&](auto change, const std::vector<std::string>& words,
                           GroupNormOptions options = {.groups = 2}) {
    GroupNormBackward<float> args{.dy = view(t.x, t.shape),
                                  .x = view(t.x, t.shape),
                                  .mean = t.eight_saved,
                                  .rstd = t.eight_saved,
                                  .dx = view(t.y, t.shape)};
    change(args);
    expect_error([&] { group_norm_backward<float>(args, options); }, words);
    t.expect_untouched();
  };
  refuses([&](auto& a) { a.mean = {}; }, {"group_norm_backward: mean has 0 elements, expected 8"});
  refuses([&](auto& a) { a.rstd = t.four_saved; }, {"rstd has 4 elements, expected 8"});
  refuses([&](auto& a) { a.weight = t.four; }, {"weight has 4 elements, expected 6"});
  refuses([&](auto& a) { a.bias = t.four; }, {"bias has 4 elements, expected 6"});
  refuses([&](auto& a) { a.dy = {}; }, {"dy is absent"});
  refuses([&](auto& a) { a.dx.shape.n = 3; }, {"dx has the shape", "N=3", "expected (N=4"});
  refuses([&](auto& a) { a.dweight = t.short_out; }, {"dweight has 5 elements, expected 6"});
  refuses([&](auto& a) { a.dbias = t.short_out; }, {"dbias has 5 elements, expected 6"});
  refuses([](auto&) {}, {"group_norm_backward: groups is 5"}, {.groups = 5});
}

TEST(InstanceNormErrors, NameTheArgument) {
  Tensors t;
  const auto refuses = [&](auto change, const std::vector<std::string>& words,
                           InstanceNormOptions options = {}) {
    InstanceNormForward<float> args{.x = view(t.x, t.shape), .y = view(t.y, t.shape)};
    change(args);
    expect_error([&] { instance_norm_forward<float>(args, options); }, words);
    t.expect_untouched();
  };
  const auto nothing = [](auto&) {};
  refuses([&](auto& a) { a.weight = t.four; },
          {"instance_norm: weight has 4 elements, expected 6 (channels)"});
  refuses([&](auto& a) { a.bias = t.eight; }, {"bias has 8 elements, expected 6"});
  refuses([&](auto& a) { a.mean = t.five_saved; }, {"mean has 5 elements, expected 24"});
  refuses([&](auto& a) { a.rstd = t.five_saved; }, {"rstd has 5 elements, expected 24"});
  refuses([&](auto& a) { a.y.shape.c = 3; }, {"instance_norm: y has the shape"});
  refuses(nothing, {"eps is -"}, {.eps = -1e-5});
  refuses(nothing, {"running.mean has 0"}, {.update = RunningUpdate::moving_average(0.1)});
  std::vector<float> running(6, 42), var(6, 42);
  refuses([&](auto& a) { a.running = {.mean = running, .var = t.short_out}; },
          {"running.var has 5 elements, expected 6"},
          {.update = RunningUpdate::moving_average(0.1)});
  refuses([&](auto& a) { a.running = {.mean = running, .var = var}; },
          {"new_batch_weight is 1.5", "[0, 1]"}, {.update = RunningUpdate::moving_average(1.5)});
  refuses([&](auto& a) { a.running = {.mean = running, .var = var}; },
          {"cumulative", "running.batches"}, {.update = RunningUpdate::cumulative()});
  EXPECT_EQ(running, std::vector<float>(6, 42));
  EXPECT_EQ(var, running);

  const auto backward_refuses = [&](auto change, const std::vector<std::string>& words) {
    InstanceNormBackward<float> args{.dy = view(t.x, t.shape),
                                     .x = view(t.x, t.shape),
                                     .mean = t.twenty_four_saved,
                                     .rstd = t.twenty_four_saved,
                                     .dx = view(t.y, t.shape)};
    change(args);
    expect_error([&] { instance_norm_backward<float>(args); }, words);
    t.expect_untouched();
  };
  backward_refuses([&](auto& a) { a.mean = t.six_saved; },
                   {"instance_norm_backward: mean has 6 elements, expected 24"});
  backward_refuses([&](auto& a) { a.rstd = {}; }, {"rstd has 0 elements, expected 24"});
  backward_refuses([&](auto& a) { a.dweight = t.short_out; }, {"dweight has 5"});
  backward_refuses([&](auto& a) { a.dbias = t.short_out; }, {"dbias has 5"});
  backward_refuses([&](auto& a) { a.dy.shape.s = 1; }, {"dy has the shape"});
}

TEST(InstanceNormErrors, OnePositionHasNoVariance) {
  const std::vector<float> x(6, 1);
  std::vector<float> y(6, 42);
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    const Shape shape{2, 3, 1, layout};
    expect_error([&] { instance_norm_forward<float>({.x = view(x, shape), .y = view(y, shape)}); },
                 {"instance_norm: ", "one position", "batch_norm_inference"});
    EXPECT_EQ(y, std::vector<float>(6, 42));
  }
}

TEST(RmsNormErrors, NameTheArgument) {
  Tensors t;
  const auto refuses = [&](auto change, const std::vector<std::string>& words,
                           RmsNormOptions options = {}) {
    RmsNormForward<float> args{.x = view(t.x, t.shape), .y = view(t.y, t.shape)};
    change(args);
    expect_error([&] { rms_norm_forward<float>(args, options); }, words);
    t.expect_untouched();
  };
  refuses([&](auto& a) { a.weight = t.six; },
          {"rms_norm: weight has 6 elements, expected 12 (features)"});
  refuses([&](auto& a) { a.rstd = t.five_saved; },
          {"rms_norm: rstd has 5 elements, expected 4 (samples)"});
  refuses([&](auto& a) { a.y.shape = {4, 2, 6}; }, {"rms_norm: y has the shape"});
  refuses(
      [&](auto& a) {
        a.residual = view(t.x, {4, 2, 6});
      },
      {"rms_norm: residual has the shape", "expected (N=4, C=6, S=2)"});
  std::vector<float> sum(48, 42);
  refuses([&](auto& a) { a.sum = view(sum, t.shape); }, {"rms_norm: sum", "residual"});
  refuses(
      [&](auto& a) {
        a.residual = view(t.x, t.shape);
        a.sum = view(sum, {4, 12});
      },
      {"rms_norm: sum has the shape", "expected (N=4, C=6, S=2)"});
  EXPECT_EQ(sum, std::vector<float>(48, 42));
  for (const double eps : {0.0, -1e-5, kNan, HUGE_VAL}) {
    refuses([](auto&) {}, {"rms_norm: eps is"}, {.eps = eps});
  }

  const auto backward_refuses = [&](auto change, const std::vector<std::string>& words) {
    RmsNormBackward<float> args{.dy = view(t.x, t.shape),
                                .x = view(t.x, t.shape),
                                .rstd = t.four_saved,
                                .dx = view(t.y, t.shape)};
    change(args);
    expect_error([&] { rms_norm_backward<float>(args); }, words);
    t.expect_untouched();
  };
  backward_refuses([&](auto& a) { a.rstd = {}; },
                   {"rms_norm_backward: rstd has 0 elements, expected 4"});
  backward_refuses([&](auto& a) { a.weight = t.six; }, {"weight has 6 elements, expected 12"});
  backward_refuses([&](auto& a) { a.dweight = t.short_out; }, {"dweight has 5"});
  backward_refuses([&](auto& a) { a.dy.shape.n = 2; }, {"dy has the shape"});
  backward_refuses(
      [&](auto& a) {
        a.dsum = view(t.x, {4, 12});
      },
      {"rms_norm_backward: dsum has the shape", "expected (N=4, C=6, S=2)"});
}

// The gradients of parameters over no values are 0.
TEST(EmptyTensors, AreLegalForSampleNorms) {
  for (const Shape& shape :
       {Shape{0, 4, 3}, Shape{2, 0, 3}, Shape{2, 4, 0}, Shape{0, 4, 3, Layout::channels_last}}) {
    SCOPED_TRACE(name_of(shape));
    const std::int64_t groups = 2;
    const auto zeros = [](std::int64_t size) {
      return std::vector<float>(static_cast<std::size_t>(size));
    };
    const std::vector<double> per_group(static_cast<std::size_t>(shape.n * groups)),
        per_instance(static_cast<std::size_t>(shape.n * shape.c)),
        per_sample(static_cast<std::size_t>(shape.n));
    const TensorView<float> empty(nullptr, shape);
    group_norm_forward<float>({.x = empty, .y = empty}, {.groups = groups});
    instance_norm_forward<float>({.x = empty, .y = empty});
    rms_norm_forward<float>({.x = empty, .residual = empty, .sum = empty, .y = empty});

    const std::vector<float> none = zeros(shape.c);
    std::vector<float> dweight(none.size(), 7), dbias(none.size(), 7);
    group_norm_backward<float>({.dy = empty,
                                .x = empty,
                                .mean = per_group,
                                .rstd = per_group,
                                .dx = empty,
                                .dweight = dweight,
                                .dbias = dbias},
                               {.groups = groups});
    EXPECT_EQ(dweight, none);
    EXPECT_EQ(dbias, none);
    dweight.assign(none.size(), 7);
    dbias = dweight;
    instance_norm_backward<float>({.dy = empty,
                                   .x = empty,
                                   .mean = per_instance,
                                   .rstd = per_instance,
                                   .dx = empty,
                                   .dweight = dweight,
                                   .dbias = dbias});
    EXPECT_EQ(dweight, none);
    EXPECT_EQ(dbias, none);
    const std::vector<float> no_features = zeros(shape.c * shape.s);
    std::vector<float> of_features(no_features.size(), 7);
    rms_norm_backward<float>(
        {.dy = empty, .x = empty, .rstd = per_sample, .dx = empty, .dweight = of_features});
    EXPECT_EQ(of_features, no_features);
  }
}

TEST(ActivationErrors, BoundsInTheWrongOrderAndNoNumbers) {
  const Shape shape{2, 4, 3};
  std::vector<float> x(24, 1), mean(4), var(4, 1), y(24, 7);
  const std::vector<float> untouched = y;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Activation& wrong :
       {Activation::hardtanh(1, -1), Activation::hardtanh(nan, 1), Activation::hardtanh(0, nan)}) {
    expect_error(
        [&] {
          group_norm_forward<float>({.x = view(std::as_const(x), shape), .y = view(y, shape)},
                                    {.groups = 2, .activation = wrong});
        },
        {"group_norm: the activation has the bounds", "expected low <= high"});
    expect_error(
        [&] {
          batch_norm_inference<float>(
              {.x = view(std::as_const(x), shape), .mean = mean, .var = var, .y = view(y, shape)},
              {.activation = wrong});
        },
        {"batch_norm_inference: the activation has the bounds"});
  }
  expect_error(
      [&] {
        batch_norm_forward<float>({.x = view(std::as_const(x), shape), .y = view(y, shape)},
                                  {.activation = Activation::leaky_relu(nan)});
      },
      {"batch_norm: the activation has the slope", "expected a finite number"});
  EXPECT_EQ(y, untouched);
}

}  // namespace
}  // namespace evenkeel::testing
