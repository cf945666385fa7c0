// GroupNorm's forward and backward against the reference, and what a sample owes to its batch.
#include "evenkeel/group_norm.h"

#include "tests/core/group_norm_checks.h"

namespace evenkeel::testing {
namespace {

template <class T>
class GroupNorm : public ::testing::Test {};
TYPED_TEST_SUITE(GroupNorm, AllTypes, TypeName);

TYPED_TEST(GroupNorm, ForwardMatchesTheReference) {
  int options = 0;  // each combination of weight and bias in turn
  for_each_grouping([&](const Shape& shape, std::int64_t groups) {
    ++options;
    const GroupNormCase<TypeParam> c(shape, groups,
                                     {.weight = (options & 1) != 0, .bias = (options & 2) != 0});
    for_each_target([&] { expect_group_norm_forward(c); });
  });
}

TYPED_TEST(GroupNorm, BackwardMatchesTheReference) {
  int options = 0;
  for_each_grouping([&](const Shape& shape, std::int64_t groups) {
    ++options;
    const GroupNormCase<TypeParam> c(shape, groups,
                                     {.weight = (options & 1) != 0, .bias = (options & 2) != 0});
    for_each_target([&] { expect_group_norm_backward(c); });
  });
}

TYPED_TEST(GroupNorm, WeightAndBiasAreEachOptional) {
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    for (const Shape& shape : {Shape{3, 12, 1, layout}, Shape{2, 12, 37, layout}}) {
      for (const std::int64_t groups : {1, 4, 12}) {
        for (const int options : {0, 1, 2, 3}) {
          SCOPED_TRACE(name_of(shape) + ", " + std::to_string(groups) + " groups");
          const GroupNormCase<TypeParam> c(
              shape, groups, {.weight = (options & 1) != 0, .bias = (options & 2) != 0});
          for_each_target([&] {
            expect_group_norm_forward(c);
            expect_group_norm_backward(c);
          });
        }
      }
    }
  }
}

// x - center is exact near a large mean, so an offset costs the forward nothing; the gradients are
// off by the rounding of the stored mean, which their bounds hold.
TYPED_TEST(GroupNorm, LargeMeans) {
  using T = TypeParam;
  for (const double mean : {large_mean<T>(), -1e6}) {
    if (kIs16Bit<T> && mean == -1e6) continue;  // more than T resolves
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      for (const Shape& shape : {Shape{3, 8, 131, layout}, Shape{40, 64, 1, layout}}) {
        for (const std::int64_t groups : {1, 4}) {
          SCOPED_TRACE(name_of(shape) + " mean " + std::to_string(mean));
          const GroupNormCase<T> c(shape, groups, {.mean = mean});
          for_each_target([&] {
            expect_group_norm_forward(c);
            expect_group_norm_backward(c);
          });
        }
      }
    }
  }
}

// Standard deviation 1e-4 under eps 1e-5: eps rules, nothing blows up.
TYPED_TEST(GroupNorm, TinyVariance) {
  const GroupNormCase<TypeParam> c({4, 6, 19}, 2, {.mean = 0, .std = 1e-4});
  for_each_target([&] { expect_group_norm_forward(c); });
}

// Bitwise, forward and dx: alone, or anywhere in any batch.
TYPED_TEST(GroupNorm, ASampleDoesNotDependOnItsBatch) {
  using T = TypeParam;
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    for (const Shape& shape : {Shape{301, 6, 1, layout}, Shape{37, 32, 9, layout},
                               Shape{11, 8, 300, layout}, Shape{5, 2, 9001, layout}}) {
      for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{2}, shape.c}) {
        SCOPED_TRACE(name_of(shape) + ", " + std::to_string(groups) + " groups");
        const GroupNormCase<T> c(shape, groups, {.activation = Activation::silu});
        const Shape one{1, shape.c, shape.s, layout};
        const auto per_sample = static_cast<std::size_t>(groups);
        for_each_target([&] {
          std::vector<T> y(c.x.size()), dx(c.x.size());
          std::vector<double> mean(c.normalized.mean.size()), rstd(mean.size());
          GroupNormForward<T> forward = c.forward(y);
          forward.mean = mean;
          forward.rstd = rstd;
          group_norm_forward<T>(forward, c.options());
          GroupNormBackward<T> backward = c.backward(mean, rstd);
          backward.dx = view(dx, shape);
          group_norm_backward<T>(backward, c.options());
          for (const std::int64_t n : {std::int64_t{0}, shape.n / 2, shape.n - 1}) {
            const std::int64_t at = n * one.size();
            const auto group = static_cast<std::ptrdiff_t>(n * groups);
            std::vector<T> y1(static_cast<std::size_t>(one.size())), dx1(y1.size());
            std::vector<double> mean1(per_sample), rstd1(per_sample);
            group_norm_forward<T>({.x = {c.x.data() + at, one},
                                   .weight = c.weight,
                                   .bias = c.bias,
                                   .mean = mean1,
                                   .rstd = rstd1,
                                   .y = view(y1, one)},
                                  c.options());
            group_norm_backward<T>({.dy = {c.dy.data() + at, one},
                                    .x = {c.x.data() + at, one},
                                    .weight = c.weight,
                                    .bias = c.bias,
                                    .mean = mean1,
                                    .rstd = rstd1,
                                    .dx = view(dx1, one)},
                                   c.options());
            EXPECT_TRUE(std::equal(mean1.begin(), mean1.end(), mean.begin() + group));
            EXPECT_TRUE(std::equal(rstd1.begin(), rstd1.end(), rstd.begin() + group));
            EXPECT_TRUE(std::equal(y1.begin(), y1.end(), y.begin() + at));
            EXPECT_TRUE(std::equal(dx1.begin(), dx1.end(), dx.begin() + at));
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace evenkeel::testing
