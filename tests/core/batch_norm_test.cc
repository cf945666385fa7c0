// BatchNorm's forward and inference against the reference, with and without what follows them.
#include "evenkeel/batch_norm.h"

#include "tests/core/batch_norm_checks.h"

namespace evenkeel::testing {
namespace {

template <class T>
class BatchNorm : public ::testing::Test {};
TYPED_TEST_SUITE(BatchNorm, AllTypes, TypeName);

TYPED_TEST(BatchNorm, ForwardMatchesTheReference) {
  for_each_batch([](const Shape& shape) {
    for (const int options : {0, 1, 2, 3}) {
      const BatchNormCase<TypeParam> c(shape,
                                       {.weight = (options & 1) != 0, .bias = (options & 2) != 0});
      for_each_target([&] { expect_batch_norm_forward(c); });
    }
  });
}

TYPED_TEST(BatchNorm, ForwardWithWhatFollowsMatchesTheReference) {
  for_each_batch([](const Shape& shape) {
    for (const auto& [residual, activation] :
         {std::pair{true, Activation::none}, {false, Activation::relu}, {true, Activation::relu}}) {
      const BatchNormCase<TypeParam> c(shape, {.residual = residual, .activation = activation});
      for_each_target([&] { expect_batch_norm_forward(c); });
    }
  });
}

// x - center is exact near a large mean, so an offset costs nothing.
TYPED_TEST(BatchNorm, ForwardKeepsItsAccuracyAtLargeMeans) {
  using T = TypeParam;
  for (const double mean : {large_mean<T>(), kIs16Bit<T> ? -large_mean<T>() : 1e6, -1e6}) {
    if (kIs16Bit<T> && mean == -1e6) continue;  // more than T resolves
    for (const double std : {1.0, 30.0}) {
      for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
        for (const Shape& shape : {Shape{8, 5, 131, layout}, Shape{50, 7, 4, layout}}) {
          SCOPED_TRACE(name_of(shape) + " mean " + std::to_string(mean));
          const BatchNormCase<T> c(shape, {.mean = mean, .std = std});
          for_each_target([&] { expect_batch_norm_forward(c); });
        }
      }
    }
  }
}

// Standard deviation 1e-4 under eps 1e-5: eps rules, nothing blows up.
TYPED_TEST(BatchNorm, TinyVariance) {
  const BatchNormCase<TypeParam> c({64, 2, 9}, {.mean = 0, .std = 1e-4});
  for_each_target([&] { expect_batch_norm_forward(c); });
}

TYPED_TEST(BatchNorm, InferenceMatchesTheReference) {
  using T = TypeParam;
  for (const Shape& shape : test_shapes()) {
    SCOPED_TRACE(name_of(shape));
    const auto x = random_values<T>(shape.size(), 1, 2),
               r = random_values<T>(shape.size(), 0, 1, 4);
    const auto mean = random_values<Wide<T>>(shape.c, 1, 1, 5);
    const auto var = random_values<Wide<T>>(shape.c, 2, 0.1, 6);
    const auto weight = random_values<Wide<T>>(shape.c, 1, 0.5, 7);
    const auto bias = random_values<Wide<T>>(shape.c, 0, 0.5, 8);
    const Values plain =
        reference::batch_norm_inference(shape, to_double(x), to_double(weight), to_double(bias),
                                        to_double(mean), to_double(var), 1e-3);
    for (const bool residual : {false, true}) {
      for (const Activation activation : {Activation::none, Activation::relu}) {
        Values expected = residual ? reference::add(plain, to_double(r)) : plain;
        expected = reference::activate(expected, activation);
        for_each_target([&] {
          std::vector<T> y(x.size());
          std::vector<double> rstd(var.size());
          BatchNormInference<T> args{.x = view(x, shape),
                                     .weight = weight,
                                     .bias = bias,
                                     .mean = mean,
                                     .var = var,
                                     .rstd = rstd,
                                     .residual = residual ? view(r, shape) : TensorView<const T>(),
                                     .y = view(y, shape)};
          batch_norm_inference<T>(args, {.eps = 1e-3, .activation = activation});
          // A difference, a product and two sums, with rounded coefficients: terms of at most 25.
          expect_close(
              y, expected, [](std::size_t) { return 5 * 25 * unit<T>(); }, "y");
          for (std::size_t c = 0; c < var.size(); ++c) {
            EXPECT_NEAR(rstd[c], 1 / std::sqrt(static_cast<double>(var[c]) + 1e-3), 2 * unit<T>());
          }
          auto in_place = residual ? r : x;
          args.y = view(in_place, shape);
          (residual ? args.residual : args.x) = args.y;
          batch_norm_inference<T>(args, {.eps = 1e-3, .activation = activation});
          expect_same(in_place, y, "y in place");
        });
        if (::testing::Test::HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace evenkeel::testing
