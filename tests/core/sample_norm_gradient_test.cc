// The gradients of the normalizations of single samples, GroupNorm, InstanceNorm and RMSNorm, in
// double, against central differences of their forwards.
#include "tests/core/finite_difference.h"

namespace evenkeel::testing {
namespace {

TEST(FiniteDifferences, GroupNorm) {
  for (const Shape& shape :
       {Shape{3, 4, 5}, Shape{3, 4, 5, Layout::channels_last}, Shape{2, 12, 1}, Shape{1, 6, 3}}) {
    for (const std::int64_t groups : {std::int64_t{1}, std::int64_t{2}, shape.c}) {
      if (shape.c / groups * shape.s == 1) continue;  // x^ is 0 whatever x is
      for (const Activation& activation : all_activations()) {
        SCOPED_TRACE(name_of(shape) + ", " + std::to_string(groups) + " groups, " +
                     name_of(activation));
        auto x = random_values<double>(shape.size(), 1, 2),
             dy = random_values<double>(shape.size());
        auto weight = random_values<double>(shape.c, 1, 0.5), bias = random_values<double>(shape.c);
        std::vector<double> mean(static_cast<std::size_t>(shape.n * groups)), rstd(mean.size());
        const auto run = [&](const Activation& with) {
          std::vector<double> y(x.size());
          group_norm_forward<double>({.x = view(x, shape),
                                      .weight = weight,
                                      .bias = bias,
                                      .mean = mean,
                                      .rstd = rstd,
                                      .y = view(y, shape)},
                                     {.groups = groups, .activation = with});
          return y;
        };
        const auto forward = [&] { return run(activation); };
        clear_kinks(dy, run(Activation::none), activation);
        for_each_target([&] {
          forward();
          std::vector<double> dx(x.size()), dweight(weight.size()), dbias(weight.size());
          group_norm_backward<double>({.dy = view(dy, shape),
                                       .x = view(x, shape),
                                       .weight = weight,
                                       .bias = bias,
                                       .mean = mean,
                                       .rstd = rstd,
                                       .dx = view(dx, shape),
                                       .dweight = dweight,
                                       .dbias = dbias},
                                      {.groups = groups, .activation = activation});
          expect_gradient(dx, differences(x, dy, forward), "dx");
          expect_gradient(dweight, differences(weight, dy, forward), "dweight");
          expect_gradient(dbias, differences(bias, dy, forward), "dbias");
        });
      }
    }
  }
}

TEST(FiniteDifferences, InstanceNorm) {
  for_each_target([] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape{3, 4, 5, layout};
      SCOPED_TRACE(name_of(shape));
      auto x = random_values<double>(shape.size(), 1, 2), dy = random_values<double>(shape.size());
      auto weight = random_values<double>(shape.c, 1, 0.5), bias = random_values<double>(shape.c);
      std::vector<double> mean(12), rstd(12);
      const auto forward = [&] {
        std::vector<double> y(x.size());
        instance_norm_forward<double>({.x = view(x, shape),
                                       .weight = weight,
                                       .bias = bias,
                                       .mean = mean,
                                       .rstd = rstd,
                                       .y = view(y, shape)});
        return y;
      };
      forward();
      std::vector<double> dx(x.size()), dweight(weight.size()), dbias(weight.size());
      instance_norm_backward<double>({.dy = view(dy, shape),
                                      .x = view(x, shape),
                                      .weight = weight,
                                      .mean = mean,
                                      .rstd = rstd,
                                      .dx = view(dx, shape),
                                      .dweight = dweight,
                                      .dbias = dbias});
      expect_gradient(dx, differences(x, dy, forward), "dx");
      expect_gradient(dweight, differences(weight, dy, forward), "dweight");
      expect_gradient(dbias, differences(bias, dy, forward), "dbias");
    }
  });
}

// Two results, y and the sum, that both pass gradients on.
TEST(FiniteDifferences, RmsNorm) {
  for_each_target([] {
    for (const Shape& shape : kShapes) {
      for (const bool unit_offset : {false, true}) {
        SCOPED_TRACE(name_of(shape));
        const RmsNormOptions options{.eps = 1e-5, .unit_offset = unit_offset};
        auto x = random_values<double>(shape.size(), 1, 2),
             dy = random_values<double>(shape.size()),
             residual = random_values<double>(shape.size(), 0, 1, 2),
             dsum = random_values<double>(shape.size(), 0, 1, 3);
        auto weight = random_values<double>(shape.c * shape.s, 1, 0.5);
        std::vector<double> rstd(static_cast<std::size_t>(shape.n)), sum(x.size());
        // y, then the sum.
        const auto forward = [&] {
          std::vector<double> y(x.size());
          rms_norm_forward<double>({.x = view(x, shape),
                                    .weight = weight,
                                    .rstd = rstd,
                                    .residual = view(residual, shape),
                                    .sum = view(sum, shape),
                                    .y = view(y, shape)},
                                   options);
          y.insert(y.end(), sum.begin(), sum.end());
          return y;
        };
        forward();
        std::vector<double> dx(x.size()), dweight(weight.size());
        rms_norm_backward<double>({.dy = view(dy, shape),
                                   .x = view(sum, shape),
                                   .weight = weight,
                                   .rstd = rstd,
                                   .dsum = view(dsum, shape),
                                   .dx = view(dx, shape),
                                   .dweight = dweight},
                                  options);
        auto both = dy;
        both.insert(both.end(), dsum.begin(), dsum.end());
        expect_gradient(dx, differences(x, both, forward), "dx");
        expect_gradient(dx, differences(residual, both, forward), "dx of the residual");
        expect_gradient(dweight, differences(weight, both, forward), "dweight");
      }
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
