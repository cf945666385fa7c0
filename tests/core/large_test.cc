// BatchNorm, LayerNorm and LRN on tensors larger than any cache.
#include "tests/core/large.h"

namespace evenkeel::testing {
namespace {

template <class T>
class Large : public ::testing::Test {
 public:
  static constexpr std::int64_t kElements = large_size<T>();
};
TYPED_TEST_SUITE(Large, LargeTypes, TypeName);

// y = relu(x^ * weight + bias + residual) and back.
template <class T>
void expect_batch_norm(const Shape& shape) {
  SCOPED_TRACE(name_of(shape));
  const auto size = static_cast<std::size_t>(shape.size());
  const auto channels = static_cast<std::size_t>(shape.c);
  const auto x = repeated_values<T>(size + 1, 3, 1), residual = repeated_values<T>(size + 1, 0, 2),
             dy = repeated_values<T>(size + 1, 0.5, 3);
  const auto weight = random_values<Wide<T>>(shape.c, 1, 0.5, 4),
             bias = random_values<Wide<T>>(shape.c, 0, 0.5, 5);
  std::vector<T> y(size + 1), dx(size + 1), dresidual(size + 1);
  std::vector<double> mean(channels), rstd(channels);
  std::vector<Wide<T>> dweight(channels), dbias(channels);
  batch_norm_forward<T>({.x = input(x, shape),
                         .weight = weight,
                         .bias = bias,
                         .mean = mean,
                         .rstd = rstd,
                         .residual = input(residual, shape),
                         .y = output(y, shape)},
                        {.activation = Activation::relu});
  batch_norm_backward<T>({.dy = input(dy, shape),
                          .x = input(x, shape),
                          .weight = weight,
                          .bias = bias,
                          .mean = mean,
                          .rstd = rstd,
                          .residual = input(residual, shape),
                          .dx = output(dx, shape),
                          .dresidual = output(dresidual, shape),
                          .dweight = dweight,
                          .dbias = dbias},
                         {.statistics = Statistics::batch, .activation = Activation::relu});

  std::vector<double> sum(channels), squares(channels), sum_dy(channels), sum_dy_x(channels);
  const auto count = static_cast<double>(shape.per_channel());
  const auto x_hat = [&](std::size_t i, std::size_t c) {
    return (to_double(x[i + 1]) - static_cast<double>(mean[c])) * static_cast<double>(rstd[c]);
  };
  std::size_t wrong = 0;
  for_each_element(shape, [&](std::size_t i, std::size_t c) {
    const double w = static_cast<double>(weight[c]), b = static_cast<double>(bias[c]);
    const double expected = x_hat(i, c) * w + b + to_double(residual[i + 1]);
    const double passed = to_double(dresidual[i + 1]);
    // Terms of at most 25, five roundings.
    const double bound = 5 * 25 * unit<T>();
    wrong += !is_close(y[i + 1], std::max(expected, 0.0), bound);
    const bool sure = std::abs(expected) > bound;
    wrong += sure && passed != (expected > 0 ? to_double(dy[i + 1]) : 0);
    sum[c] += x_hat(i, c);
    squares[c] += x_hat(i, c) * x_hat(i, c);
    sum_dy[c] += passed;
    sum_dy_x[c] += passed * x_hat(i, c);
  });
  EXPECT_EQ(wrong, 0U) << "of y and dresidual";
  for (std::size_t c = 0; c < channels; ++c) {
    // x^ has mean 0 and variance 1 to rounding, and to eps = 1e-5 in the variance; sums as in the
    // other tests, of terms that are 1 in the mean.
    const double error = sum_error<T>(shape.per_channel());
    EXPECT_NEAR(sum[c] / count, 0, 4 * error);
    EXPECT_NEAR(squares[c] / count, 1 - 1e-5, 8 * error + 1e-6);
    EXPECT_NEAR(static_cast<double>(dbias[c]) / count, sum_dy[c] / count, 2 * error);
    EXPECT_NEAR(static_cast<double>(dweight[c]) / count, sum_dy_x[c] / count, 2 * error);
  }
  for_each_element(shape, [&](std::size_t i, std::size_t c) {
    const double expected =
        static_cast<double>(weight[c]) * static_cast<double>(rstd[c]) *
        (to_double(dresidual[i + 1]) - sum_dy[c] / count - x_hat(i, c) * sum_dy_x[c] / count);
    const double bound = 8 * 25 * unit<T>() + 8 * sum_error<T>(shape.per_channel());
    wrong += !is_close(dx[i + 1], expected, bound);
  });
  EXPECT_EQ(wrong, 0U) << "of dx";
}

TYPED_TEST(Large, BatchNorm) {
  const std::int64_t planes = this->kElements / (67 * 784);
  for_each_target([&] {
    expect_batch_norm<TypeParam>({planes, 67, 784});
    expect_batch_norm<TypeParam>({this->kElements / (2048 * 49), 2048, 49});
  });
  expect_batch_norm<TypeParam>({planes, 67, 784, Layout::channels_last});
}

// y, sum and dx are those of small batches, bitwise; dweight and dbias are sums over all samples.
template <class T>
void expect_layer_norm(std::int64_t features) {
  SCOPED_TRACE(std::to_string(features) + " features");
  const Shape shape{kBytes / static_cast<std::int64_t>(sizeof(T)) / features + 1, features};
  const auto size = static_cast<std::size_t>(shape.size());
  const auto x = repeated_values<T>(size + 1, 3, 1), residual = repeated_values<T>(size + 1, 0, 2),
             dy = repeated_values<T>(size + 1, 0.5, 3);
  const auto weight = random_values<Wide<T>>(features, 1, 0.5, 4);
  std::vector<T> y(size + 1), sum(size + 1), dx(size + 1), small_y(size + 1), small_sum(size + 1),
      small_dx(size + 1);
  std::vector<double> mean(static_cast<std::size_t>(shape.n)), rstd(mean.size());
  std::vector<Wide<T>> dweight(static_cast<std::size_t>(features)), dbias(dweight.size());
  const auto run = [&](std::int64_t first, std::int64_t n, T* y_out, T* sum_out, T* dx_out,
                       std::span<Wide<T>> dweight_out, std::span<Wide<T>> dbias_out) {
    const Shape part{n, features};
    const std::int64_t at = first * features + 1;
    const auto row = static_cast<std::size_t>(first), rows = static_cast<std::size_t>(n);
    layer_norm_forward<T>({.x = {x.data() + at, part},
                           .weight = weight,
                           .mean = std::span(mean).subspan(row, rows),
                           .rstd = std::span(rstd).subspan(row, rows),
                           .residual = {residual.data() + at, part},
                           .sum = {sum_out + at, part},
                           .y = {y_out + at, part}});
    layer_norm_backward<T>({.dy = {dy.data() + at, part},
                            .x = {sum_out + at, part},
                            .weight = weight,
                            .mean = std::span(mean).subspan(row, rows),
                            .rstd = std::span(rstd).subspan(row, rows),
                            .dsum = {residual.data() + at, part},
                            .dx = {dx_out + at, part},
                            .dweight = dweight_out,
                            .dbias = dbias_out});
  };
  run(0, shape.n, y.data(), sum.data(), dx.data(), dweight, dbias);
  in_small_batches(shape.n, 77000 / features, [&](std::int64_t first, std::int64_t n) {
    run(first, n, small_y.data(), small_sum.data(), small_dx.data(), {}, {});
  });
  EXPECT_TRUE(y == small_y);
  EXPECT_TRUE(sum == small_sum);
  EXPECT_TRUE(dx == small_dx);

  std::vector<double> sum_dy(dweight.size()), sum_dy_x(dweight.size());
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t row = i / dweight.size(), column = i % dweight.size();
    const double passed = to_double(dy[i + 1]);
    sum_dy[column] += passed;
    sum_dy_x[column] += passed * (to_double(sum[i + 1]) - static_cast<double>(mean[row])) *
                        static_cast<double>(rstd[row]);
  }
  const auto samples = static_cast<double>(shape.n);
  // As for BatchNorm: terms that are 1 in the mean.
  const double bound = 2 * sum_error<Wide<T>>(shape.n);
  for (std::size_t c = 0; c < dweight.size(); ++c) {
    EXPECT_NEAR(static_cast<double>(dbias[c]) / samples, sum_dy[c] / samples, bound);
    EXPECT_NEAR(static_cast<double>(dweight[c]) / samples, sum_dy_x[c] / samples, bound);
  }
}

// Rows that lie in lines as their neighbours do, and that do not; narrow, short and long ones.
TYPED_TEST(Large, LayerNorm) {
  for_each_target([] {
    for (const std::int64_t features : {64, 768, 771}) expect_layer_norm<TypeParam>(features);
  });
  for (const std::int64_t features : {250, 500}) expect_layer_norm<TypeParam>(features);
}

TYPED_TEST(Large, LocalResponseNorm) {
  using T = TypeParam;
  for_each_target([this] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape{this->kElements / (16 * 3025) + 1, 16, 3025, layout};
      const auto size = static_cast<std::size_t>(shape.size());
      const auto x = repeated_values<T>(size + 1, 0, 1), dy = repeated_values<T>(size + 1, 0.5, 3);
      std::vector<T> y(size + 1), dx(size + 1), small_y(size + 1), small_dx(size + 1);
      const auto run = [&](std::int64_t first, std::int64_t n, T* y_out, T* dx_out) {
        const Shape part{n, 16, 3025, layout};
        const std::int64_t at = first * 16 * 3025 + 1;
        local_response_norm_forward<T>({.x = {x.data() + at, part}, .y = {y_out + at, part}});
        local_response_norm_backward<T>(
            {.dy = {dy.data() + at, part}, .x = {x.data() + at, part}, .dx = {dx_out + at, part}});
      };
      run(0, shape.n, y.data(), dx.data());
      in_small_batches(shape.n, 5, [&](std::int64_t first, std::int64_t n) {
        run(first, n, small_y.data(), small_dx.data());
      });
      EXPECT_TRUE(y == small_y);
      EXPECT_TRUE(dx == small_dx);
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
