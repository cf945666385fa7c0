// Every gradient, in double, against central differences of the forward: independent of any formula
// for the backward.
#include "tests/core/finite_difference.h"

namespace evenkeel::testing {
namespace {

TEST(FiniteDifferences, BatchNorm) {
  for (const Shape& shape : kShapes) {
    for (const auto& [statistics, activation] : {std::pair{Statistics::batch, Activation::none},
                                                 {Statistics::batch, Activation::relu},
                                                 {Statistics::batch, Activation::silu},
                                                 {Statistics::batch, Activation::hardswish},
                                                 {Statistics::given, Activation::none},
                                                 {Statistics::given, Activation::relu},
                                                 {Statistics::given, Activation::silu}}) {
      SCOPED_TRACE(name_of(shape));
      const auto channels = static_cast<std::size_t>(shape.c);
      auto x = random_values<double>(shape.size(), 1, 2), dy = random_values<double>(shape.size()),
           residual = random_values<double>(shape.size(), 0, 1, 2);
      auto weight = random_values<double>(shape.c, 1, 0.5), bias = random_values<double>(shape.c);
      std::vector<double> mean(channels, 0.5), var(channels, 1.5), rstd(channels);
      std::vector<double> saved_mean = mean;
      const auto run = [&](Activation with) {
        std::vector<double> y(x.size());
        if (statistics == Statistics::batch) {
          batch_norm_forward<double>({.x = view(x, shape),
                                      .weight = weight,
                                      .bias = bias,
                                      .mean = saved_mean,
                                      .rstd = rstd,
                                      .residual = view(residual, shape),
                                      .y = view(y, shape)},
                                     {.activation = with});
        } else {
          batch_norm_inference<double>({.x = view(x, shape),
                                        .weight = weight,
                                        .bias = bias,
                                        .mean = mean,
                                        .var = var,
                                        .rstd = rstd,
                                        .residual = view(residual, shape),
                                        .y = view(y, shape)},
                                       {.activation = with});
        }
        return y;
      };
      const auto forward = [&] { return run(activation); };
      const auto before = run(Activation::none);
      clear_kinks(dy, before, activation);
      for_each_target([&] {
        forward();
        std::vector<double> dx(x.size()), dresidual(x.size()), dweight(channels), dbias(channels);
        batch_norm_backward<double>({.dy = view(dy, shape),
                                     .x = view(x, shape),
                                     .weight = weight,
                                     .bias = bias,
                                     .mean = saved_mean,
                                     .rstd = rstd,
                                     .residual = view(residual, shape),
                                     .dx = view(dx, shape),
                                     .dresidual = view(dresidual, shape),
                                     .dweight = dweight,
                                     .dbias = dbias},
                                    {.statistics = statistics, .activation = activation});
        expect_gradient(dx, differences(x, dy, forward), "dx");
        expect_gradient(dresidual, differences(residual, dy, forward), "dresidual");
        expect_gradient(dweight, differences(weight, dy, forward), "dweight");
        expect_gradient(dbias, differences(bias, dy, forward), "dbias");
      });
    }
  }
}

// Two results, y and the sum, that both pass gradients on.
TEST(FiniteDifferences, LayerNorm) {
  for_each_target([] {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(name_of(shape));
      const std::int64_t features = shape.c * shape.s;
      auto x = random_values<double>(shape.size(), 1, 2), dy = random_values<double>(shape.size()),
           residual = random_values<double>(shape.size(), 0, 1, 2),
           dsum = random_values<double>(shape.size(), 0, 1, 3);
      auto weight = random_values<double>(features, 1, 0.5), bias = random_values<double>(features);
      std::vector<double> mean(static_cast<std::size_t>(shape.n)), rstd(mean.size()), sum(x.size());
      // y, then the sum.
      const auto forward = [&] {
        std::vector<double> y(x.size());
        layer_norm_forward<double>({.x = view(x, shape),
                                    .weight = weight,
                                    .bias = bias,
                                    .mean = mean,
                                    .rstd = rstd,
                                    .residual = view(residual, shape),
                                    .sum = view(sum, shape),
                                    .y = view(y, shape)});
        y.insert(y.end(), sum.begin(), sum.end());
        return y;
      };
      forward();
      std::vector<double> dx(x.size()), dweight(weight.size()), dbias(weight.size());
      layer_norm_backward<double>({.dy = view(dy, shape),
                                   .x = view(sum, shape),
                                   .weight = weight,
                                   .mean = mean,
                                   .rstd = rstd,
                                   .dsum = view(dsum, shape),
                                   .dx = view(dx, shape),
                                   .dweight = dweight,
                                   .dbias = dbias});
      auto both = dy;
      both.insert(both.end(), dsum.begin(), dsum.end());
      expect_gradient(dx, differences(x, both, forward), "dx");
      expect_gradient(dx, differences(residual, both, forward), "dx of the residual");
      expect_gradient(dweight, differences(weight, both, forward), "dweight");
      expect_gradient(dbias, differences(bias, both, forward), "dbias");
    }
  });
}

TEST(FiniteDifferences, LocalResponseNorm) {
  for_each_target([] {
    for (const Shape& shape : kShapes) {
      for (const auto& options : {LocalResponseNormOptions{2, 1, 0.3, 0.75, 1},
                                  LocalResponseNormOptions{0, 3, 0.2, 0.6, 2},
                                  LocalResponseNormOptions{1, 1, 0.5, 0.5, 1},
                                  LocalResponseNormOptions{1, 0, 0.5, 1, 1}}) {
        SCOPED_TRACE(name_of(shape));
        auto x = random_values<double>(shape.size()), dy = random_values<double>(shape.size());
        const auto forward = [&] {
          std::vector<double> y(x.size());
          local_response_norm_forward<double>({.x = view(x, shape), .y = view(y, shape)}, options);
          return y;
        };
        std::vector<double> dx(x.size());
        local_response_norm_backward<double>(
            {.dy = view(dy, shape), .x = view(x, shape), .dx = view(dx, shape)}, options);
        expect_gradient(dx, differences(x, dy, forward), "dx");
      }
    }
  });
}

}  // namespace
}  // namespace evenkeel::testing
