// GroupNorm, InstanceNorm and RMSNorm on tensors larger than any cache: y and dx are those of small
// batches, bitwise, and the gradients of the parameters are sums over all samples.
#include "tests/core/large.h"

namespace evenkeel::testing {
namespace {

template <class T>
class LargeSampleNorm : public ::testing::Test {};
TYPED_TEST_SUITE(LargeSampleNorm, LargeTypes, TypeName);

template <class T>
void expect_group_norm(const Shape& shape, std::int64_t groups, const Activation& activation) {
  SCOPED_TRACE(name_of(shape));
  const auto size = static_cast<std::size_t>(shape.size());
  const auto channels = static_cast<std::size_t>(shape.c);
  const auto x = repeated_values<T>(size + 1, 3, 1), dy = repeated_values<T>(size + 1, 0.5, 3);
  const auto weight = random_values<Wide<T>>(shape.c, 1, 0.5, 4),
             bias = random_values<Wide<T>>(shape.c, 0, 0.5, 5);
  const GroupNormOptions options{.groups = groups, .activation = activation};
  std::vector<T> y(size + 1), dx(size + 1), small_y(size + 1), small_dx(size + 1);
  std::vector<double> mean(static_cast<std::size_t>(shape.n * groups)), rstd(mean.size());
  std::vector<Wide<T>> dweight(channels), dbias(channels);
  std::vector<double> sum_dweight(channels), sum_dbias(channels);
  const auto run = [&](std::int64_t first, std::int64_t n, T* y_out, T* dx_out) {
    const Shape part{n, shape.c, shape.s, shape.layout};
    const std::int64_t at = first * shape.c * shape.s + 1;
    const auto group = static_cast<std::size_t>(first * groups),
               count = static_cast<std::size_t>(n * groups);
    const auto mean_of = std::span(mean).subspan(group, count),
               rstd_of = std::span(rstd).subspan(group, count);
    group_norm_forward<T>({.x = {x.data() + at, part},
                           .weight = weight,
                           .bias = bias,
                           .mean = mean_of,
                           .rstd = rstd_of,
                           .y = {y_out + at, part}},
                          options);
    group_norm_backward<T>({.dy = {dy.data() + at, part},
                            .x = {x.data() + at, part},
                            .weight = weight,
                            .bias = bias,
                            .mean = mean_of,
                            .rstd = rstd_of,
                            .dx = {dx_out + at, part},
                            .dweight = dweight,
                            .dbias = dbias},
                           options);
  };
  in_small_batches(shape.n, 77000 / (shape.c * shape.s) + 1,
                   [&](std::int64_t first, std::int64_t n) {
                     run(first, n, small_y.data(), small_dx.data());
                     for (std::size_t c = 0; c < channels; ++c) {
                       sum_dweight[c] += static_cast<double>(dweight[c]);
                       sum_dbias[c] += static_cast<double>(dbias[c]);
                     }
                   });
  run(0, shape.n, y.data(), dx.data());
  EXPECT_TRUE(y == small_y);
  EXPECT_TRUE(dx == small_dx);
  for (std::size_t c = 0; c < channels; ++c) {
    // Either is off by the error of a sum of terms that are 1 in the mean.
    const auto count = static_cast<double>(shape.per_channel());
    const double bound = 2 * sum_error<T>(shape.per_channel());
    EXPECT_NEAR(static_cast<double>(dweight[c]) / count, sum_dweight[c] / count, bound);
    EXPECT_NEAR(static_cast<double>(dbias[c]) / count, sum_dbias[c] / count, bound);
  }
}

TYPED_TEST(LargeSampleNorm, GroupNorm) {
  const std::int64_t samples = large_size<TypeParam>() / (64 * 784) + 1;
  for_each_target([&] {
    expect_group_norm<TypeParam>({samples, 64, 784}, 8, Activation::silu);
    expect_group_norm<TypeParam>({samples, 64, 784, Layout::channels_last}, 8, Activation::silu);
  });
  const Shape short_planes{large_size<TypeParam>() / (2048 * 49), 2048, 49};
  for (const std::int64_t groups : {32, 2048}) {
    expect_group_norm<TypeParam>(short_planes, groups, Activation::relu);
  }
  expect_group_norm<TypeParam>({large_size<TypeParam>() / (3 * 70001) + 1, 3, 70001}, 3,
                               Activation::none);
}

template <class T>
void expect_rms_norm(std::int64_t features) {
  SCOPED_TRACE(std::to_string(features) + " features");
  const Shape shape{large_size<T>() / features + 1, features};
  const auto size = static_cast<std::size_t>(shape.size());
  const auto x = repeated_values<T>(size + 1, 3, 1), residual = repeated_values<T>(size + 1, 0, 2),
             dy = repeated_values<T>(size + 1, 0.5, 3);
  const auto weight = random_values<Wide<T>>(features, 0, 0.5, 4);
  const RmsNormOptions options{.unit_offset = true};
  std::vector<T> y(size + 1), sum(size + 1), dx(size + 1), small_y(size + 1), small_sum(size + 1),
      small_dx(size + 1);
  std::vector<double> rstd(static_cast<std::size_t>(shape.n));
  std::vector<Wide<T>> dweight(static_cast<std::size_t>(features));
  const auto run = [&](std::int64_t first, std::int64_t n, T* y_out, T* sum_out, T* dx_out,
                       std::span<Wide<T>> dweight_out) {
    const Shape part{n, features};
    const std::int64_t at = first * features + 1;
    const auto rstd_of =
        std::span(rstd).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
    rms_norm_forward<T>({.x = {x.data() + at, part},
                         .weight = weight,
                         .rstd = rstd_of,
                         .residual = {residual.data() + at, part},
                         .sum = {sum_out + at, part},
                         .y = {y_out + at, part}},
                        options);
    rms_norm_backward<T>({.dy = {dy.data() + at, part},
                          .x = {sum_out + at, part},
                          .weight = weight,
                          .rstd = rstd_of,
                          .dsum = {residual.data() + at, part},
                          .dx = {dx_out + at, part},
                          .dweight = dweight_out},
                         options);
  };
  run(0, shape.n, y.data(), sum.data(), dx.data(), dweight);
  in_small_batches(shape.n, 77000 / features, [&](std::int64_t first, std::int64_t n) {
    run(first, n, small_y.data(), small_sum.data(), small_dx.data(), {});
  });
  EXPECT_TRUE(y == small_y);
  EXPECT_TRUE(sum == small_sum);
  EXPECT_TRUE(dx == small_dx);

  std::vector<double> sum_dy_x(dweight.size());
  for (std::size_t i = 0; i < size; ++i) {
    sum_dy_x[i % dweight.size()] += to_double(dy[i + 1]) * to_double(sum[i + 1]) *
                                    static_cast<double>(rstd[i / dweight.size()]);
  }
  const auto samples = static_cast<double>(shape.n);
  for (std::size_t c = 0; c < dweight.size(); ++c) {
    // A sum of terms that are 1 in the mean.
    EXPECT_NEAR(static_cast<double>(dweight[c]) / samples, sum_dy_x[c] / samples,
                2 * sum_error<T>(shape.n));
  }
}

// Rows that lie in lines as their neighbors do, and that do not; narrow and wide ones.
TYPED_TEST(LargeSampleNorm, RmsNorm) {
  for_each_target([] {
    for (const std::int64_t features : {64, 771}) expect_rms_norm<TypeParam>(features);
  });
  for (const std::int64_t features : {500, 4096}) expect_rms_norm<TypeParam>(features);
}

}  // namespace
}  // namespace evenkeel::testing
