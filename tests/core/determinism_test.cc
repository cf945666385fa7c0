// Bitwise the same for every number of threads, and for data at any address.
#include <cfenv>

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

template <class T>
class Determinism : public ::testing::Test {};
TYPED_TEST_SUITE(Determinism, AllTypes, TypeName);

// A tensor whose data begin `offset` elements into its memory.
template <class T>
class Tensor {
 public:
  Tensor(const Shape& shape, std::size_t offset)
      : shape_(shape), offset_(offset), memory_(static_cast<std::size_t>(shape.size()) + offset) {}
  Tensor(const std::vector<T>& values, const Shape& shape, std::size_t offset)
      : Tensor(shape, offset) {
    std::ranges::copy(values, begin());
  }
  TensorView<T> view() { return {memory_.data() + offset_, shape_}; }
  auto begin() { return memory_.begin() + static_cast<std::ptrdiff_t>(offset_); }
  auto end() { return memory_.end(); }

 private:
  Shape shape_;
  std::size_t offset_;
  std::vector<T> memory_;
};

template <class T>
struct Inputs {
  Shape shape;
  std::vector<T> x = random_values<T>(shape.size(), 1, 1, 1),
                 dy = random_values<T>(shape.size(), 0, 1, 2),
                 residual = random_values<T>(shape.size(), 0, 1, 3);
};

// Every output of GroupNorm, InstanceNorm and RMSNorm, appended to `all`. The groups that fit the
// shapes: one, two where they divide the channels, and as many as channels.
template <class T>
void run_sample_norms(const Inputs<T>& inputs, std::size_t offset, std::vector<double>& all) {
  const Shape& shape = inputs.shape;
  const auto keep = [&](auto&& values) {
    for (const auto& v : values) all.push_back(to_double(v));
  };
  Tensor<T> x(inputs.x, shape, offset), dy(inputs.dy, shape, 2 * offset),
      residual(inputs.residual, shape, offset), y(shape, 2 * offset), dx(shape, offset),
      sum(shape, offset);
  const auto channels = static_cast<std::size_t>(shape.c);
  const auto weight = random_values<Wide<T>>(shape.c, 1, 0.5, 4),
             bias = random_values<Wide<T>>(shape.c, 0, 0.5, 5);
  std::vector<Wide<T>> dweight(channels), dbias(channels);
  for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{2}, shape.c}) {
    if (shape.c % groups != 0) continue;
    std::vector<double> mean(static_cast<std::size_t>(shape.n * groups)), rstd(mean.size());
    const GroupNormOptions options{.groups = groups,
                                   .activation = groups == 1 ? Activation::none : Activation::silu};
    group_norm_forward<T>(
        {.x = x.view(), .weight = weight, .bias = bias, .mean = mean, .rstd = rstd, .y = y.view()},
        options);
    group_norm_backward<T>({.dy = dy.view(),
                            .x = x.view(),
                            .weight = weight,
                            .bias = bias,
                            .mean = mean,
                            .rstd = rstd,
                            .dx = dx.view(),
                            .dweight = dweight,
                            .dbias = dbias},
                           options);
    for (auto* v : {&y, &dx}) keep(*v);
    for (auto* v : {&mean, &rstd}) keep(*v);
    for (auto* v : {&dweight, &dbias}) keep(*v);
  }

  if (shape.s > 1) {
    std::vector<double> mean(static_cast<std::size_t>(shape.n * shape.c)), rstd(mean.size());
    std::vector<Wide<T>> running_mean(channels, 0), running_var(channels, 1);
    instance_norm_forward<T>({.x = x.view(),
                              .weight = weight,
                              .mean = mean,
                              .rstd = rstd,
                              .running = {.mean = running_mean, .var = running_var},
                              .y = y.view()},
                             {.update = RunningUpdate::moving_average(0.1)});
    instance_norm_backward<T>({.dy = dy.view(),
                               .x = x.view(),
                               .weight = weight,
                               .mean = mean,
                               .rstd = rstd,
                               .dx = dx.view(),
                               .dweight = dweight,
                               .dbias = dbias});
    for (auto* v : {&y, &dx}) keep(*v);
    for (auto* v : {&mean, &rstd}) keep(*v);
    for (auto* v : {&running_mean, &running_var, &dweight, &dbias}) keep(*v);
  }

  std::vector<double> rstd(static_cast<std::size_t>(shape.n));
  std::vector<Wide<T>> feature_weight(static_cast<std::size_t>(shape.c * shape.s));
  for (const bool fused : {false, true}) {
    const TensorView<const T> added = fused ? residual.view() : TensorView<const T>();
    rms_norm_forward<T>({.x = x.view(),
                         .rstd = rstd,
                         .residual = added,
                         .sum = fused ? sum.view() : TensorView<T>(),
                         .y = y.view()});
    rms_norm_backward<T>({.dy = dy.view(),
                          .x = fused ? sum.view() : x.view(),
                          .rstd = rstd,
                          .dsum = added,
                          .dx = dx.view(),
                          .dweight = feature_weight});
    for (auto* v : {&y, &sum, &dx}) keep(*v);
    keep(rstd);
    keep(feature_weight);
  }
}

// Every output of a batch that BatchNorm takes in halves: given moments, and given sums.
template <class T>
void run_halves(const Inputs<T>& inputs, std::size_t offset, std::vector<double>& all) {
  const Shape& shape = inputs.shape;
  const auto keep = [&](auto&& values) {
    for (const auto& v : values) all.push_back(to_double(v));
  };
  Tensor<T> x(inputs.x, shape, offset), dy(inputs.dy, shape, 2 * offset), y(shape, 2 * offset),
      dx(shape, offset);
  const auto channels = static_cast<std::size_t>(shape.c);
  std::vector<double> mean(channels), rstd(channels);
  std::vector<double> sum_dy(channels), sum_dy_x(channels);
  ChannelMoments batch(shape.c);
  batch.add(x.view());
  batch_norm_forward<T>({.x = x.view(), .mean = mean, .rstd = rstd, .y = y.view()}, batch,
                        {.activation = Activation::hardswish});
  const BatchNormBackwardOptions options{.activation = Activation::hardswish};
  BatchNormBackward<T> args{.dy = dy.view(), .x = x.view(), .mean = mean, .rstd = rstd};
  batch_norm_gradient_sums<T>(args, {.dy = sum_dy, .dy_x = sum_dy_x}, options);
  args.dx = dx.view();
  batch_norm_backward<T>(args, {.dy = sum_dy, .dy_x = sum_dy_x}, batch.count(), options);
  for (auto* v : {&y, &dx}) keep(*v);
  for (auto* v : {&mean, &rstd}) keep(*v);
  for (auto* v : {&sum_dy, &sum_dy_x}) keep(*v);
}

// Every output of every operation, one after the other; each tensor lies `offset` elements from the
// start of its memory, or twice that.
template <class T>
std::vector<double> run_everything(const Inputs<T>& inputs, std::size_t offset = 0) {
  const Shape& shape = inputs.shape;
  std::vector<double> all;
  const auto keep = [&](auto&& values) {
    for (const auto& v : values) all.push_back(to_double(v));
  };
  Tensor<T> x(inputs.x, shape, offset), dy(inputs.dy, shape, 2 * offset),
      residual(inputs.residual, shape, offset), y(shape, 2 * offset), dx(shape, offset),
      more(shape, offset);

  const auto channels = static_cast<std::size_t>(shape.c);
  std::vector<double> mean(channels), rstd(channels);
  std::vector<Wide<T>> dweight(channels), dbias(channels), running_mean(channels, 0),
      running_var(channels, 1);
  const auto weight = random_values<Wide<T>>(shape.c, 1, 0.5, 4),
             bias = random_values<Wide<T>>(shape.c, 0, 0.5, 5);
  for (const bool fused : {false, true}) {
    const TensorView<const T> added = fused ? residual.view() : TensorView<const T>();
    const Activation activation = fused ? Activation::relu : Activation::none;
    batch_norm_forward<T>({.x = x.view(),
                           .weight = weight,
                           .bias = bias,
                           .mean = mean,
                           .rstd = rstd,
                           .running = {.mean = running_mean, .var = running_var},
                           .residual = added,
                           .y = y.view()},
                          {.update = RunningUpdate::moving_average(0.1), .activation = activation});
    keep(y);
    for (auto* v : {&mean, &rstd}) keep(*v);
    for (auto* v : {&running_mean, &running_var}) keep(*v);
    for (const Statistics statistics : {Statistics::batch, Statistics::given}) {
      batch_norm_backward<T>({.dy = dy.view(),
                              .x = x.view(),
                              .weight = weight,
                              .bias = bias,
                              .mean = mean,
                              .rstd = rstd,
                              .residual = added,
                              .dx = dx.view(),
                              .dresidual = fused ? more.view() : TensorView<T>(),
                              .dweight = dweight,
                              .dbias = dbias},
                             {.statistics = statistics, .activation = activation});
      keep(dx);
      if (fused) keep(more);
      for (auto* v : {&dweight, &dbias}) keep(*v);
    }
    batch_norm_inference<T>({.x = x.view(),
                             .weight = weight,
                             .bias = bias,
                             .mean = running_mean,
                             .var = running_var,
                             .residual = added,
                             .y = y.view()},
                            {.activation = activation});
    keep(y);
  }

  const auto samples = static_cast<std::size_t>(shape.n);
  const auto features = static_cast<std::size_t>(shape.c * shape.s);
  std::vector<double> row_mean(samples), row_rstd(samples);
  std::vector<Wide<T>> feature_weight(features), feature_bias(features);
  for (const bool fused : {false, true}) {
    const TensorView<const T> added = fused ? residual.view() : TensorView<const T>();
    layer_norm_forward<T>({.x = x.view(),
                           .mean = row_mean,
                           .rstd = row_rstd,
                           .residual = added,
                           .sum = fused ? more.view() : TensorView<T>(),
                           .y = y.view()});
    layer_norm_backward<T>({.dy = dy.view(),
                            .x = fused ? more.view() : x.view(),
                            .mean = row_mean,
                            .rstd = row_rstd,
                            .dsum = added,
                            .dx = dx.view(),
                            .dweight = feature_weight,
                            .dbias = feature_bias});
    for (auto* v : {&y, &more, &dx}) keep(*v);
    for (auto* v : {&row_mean, &row_rstd}) keep(*v);
    for (auto* v : {&feature_weight, &feature_bias}) keep(*v);
  }

  local_response_norm_forward<T>({.x = x.view(), .y = y.view()});
  local_response_norm_backward<T>({.dy = dy.view(), .x = x.view(), .dx = dx.view()});
  for (auto* v : {&y, &dx}) keep(*v);

  ChannelMoments moments(shape.c);
  moments.add(x.view());
  keep(moments.mean());
  keep(moments.m2());
  Standardization::from(moments).apply<T>(x.view(), y.view());
  keep(y);
  run_sample_norms(inputs, offset, all);
  run_halves(inputs, offset, all);
  return all;
}

// Large enough for three threads and several blocks in each geometry: many and few channels, many
// and few rows, long and short ones, short planes, of few groups too, narrow columns.
const std::vector<Shape> kShapes = {{20, 64, 49},
                                    {1, 1000, 49},
                                    {20, 64, 49, Layout::channels_last},
                                    {3, 2, 9001},
                                    {3, 2, 9001, Layout::channels_last},
                                    {2000, 33, 1},
                                    {30, 2001, 1},
                                    {3, 40, 4000, Layout::channels_last},
                                    {5, 9001, 1},
                                    {20000, 3, 1},
                                    {129, 100, 4},
                                    {2, 1, 30000}};

TYPED_TEST(Determinism, TheNumberOfThreadsChangesNothing) {
  const int before = num_threads();
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(name_of(shape));
    const Inputs<TypeParam> inputs{shape};
    for_each_target([&] {
      set_num_threads(1);
      const auto one = run_everything(inputs);
      for (const int threads : {2, 3}) {
        set_num_threads(threads);
        EXPECT_EQ(run_everything(inputs), one) << threads << " threads";
      }
    });
  }
  set_num_threads(before);
}

// Values beyond the range of float, and their neighbors, which a kernel takes together with them:
// only those that a block of the shape's own holds are computed again in a wider type.
TYPED_TEST(Determinism, ThreadsDoNotDecideWhatIsComputedAgain) {
  using T = TypeParam;
  const int before = num_threads();
  for (const Shape& shape : {Shape{1, 16, 4096}, Shape{1, 16, 4096, Layout::channels_last},
                             Shape{3, 40, 1000}, Shape{4, 300, 49}, Shape{200, 300, 1}}) {
    SCOPED_TRACE(name_of(shape));
    Inputs<T> inputs{shape};
    const double huge = sizeof(Wide<T>) == 8 ? 1e140 : sizeof(T) == 2 ? 6e4 : 1e20;
    for (const std::size_t at : {std::size_t{0}, inputs.x.size() / 2, inputs.x.size() - 1}) {
      inputs.x[at] = from_double<T>(huge);
      inputs.dy[at] = from_double<T>(-huge);
    }
    for_each_target([&] {
      set_num_threads(1);
      const auto one = run_everything(inputs);
      std::vector<T> in_place = inputs.x, in_place_dx = inputs.dy;
      const auto run_in_place = [&] {
        in_place = inputs.x;
        in_place_dx = inputs.dy;
        local_response_norm_forward<T>({.x = view(in_place, shape), .y = view(in_place, shape)},
                                       {.alpha = 1e-4});
        local_response_norm_backward<T>({.dy = view(in_place_dx, shape),
                                         .x = view(inputs.x, shape),
                                         .dx = view(in_place_dx, shape)});
        return std::pair(in_place, in_place_dx);
      };
      const auto one_in_place = run_in_place();
      for (const int threads : {2, 3, 5}) {
        set_num_threads(threads);
        expect_same(run_everything(inputs), one, "all results");
        expect_same(run_in_place().first, one_in_place.first, "y in place");
        expect_same(run_in_place().second, one_in_place.second, "dx in place");
      }
    });
  }
  set_num_threads(before);
}

// Rounding upward stands for all of the floating-point environment, flushing to zero included.
TYPED_TEST(Determinism, ThreadsTakeOverTheCallersRounding) {
  const int before = num_threads();
  const Inputs<TypeParam> inputs{{20, 64, 49}};
  set_num_threads(1);
  const auto nearest = run_everything(inputs);
  ASSERT_EQ(std::fesetround(FE_UPWARD), 0);
  const auto one = run_everything(inputs);
  set_num_threads(3);
  const auto three = run_everything(inputs);
  std::fesetround(FE_TONEAREST);
  EXPECT_NE(one, nearest);
  EXPECT_EQ(three, one);
  EXPECT_EQ(run_everything(inputs), nearest);
  set_num_threads(before);
}

TYPED_TEST(Determinism, AlignmentChangesNothing) {
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    for (const Shape& shape : {Shape{6, 5, 33, layout}, Shape{6, 35, 33, layout},
                               Shape{50, 16, 2, layout}, Shape{2, 3, 784, layout}}) {
      SCOPED_TRACE(name_of(shape));
      const Inputs<TypeParam> inputs{shape};
      for_each_target([&] {
        const auto aligned = run_everything(inputs);
        EXPECT_EQ(run_everything(inputs, 1), aligned);
        EXPECT_EQ(run_everything(inputs, 3), aligned);
      });
    }
  }
}

}  // namespace
}  // namespace evenkeel::testing
