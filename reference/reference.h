// The oracle of the tests: every operation straight from its formula, in double, scalar, with
// two-pass statistics in long double. A different algorithm from the library's, in higher
// precision, and nothing else: no layouts but through one index function, no checks, no speed.
#pragma once

#include <cstdint>
#include <vector>

#include "evenkeel/activation.h"
#include "evenkeel/local_response_norm.h"
#include "evenkeel/tensor.h"

namespace evenkeel::reference {

using Values = std::vector<double>;

// Where element (n, c, s) lies in the memory of a tensor of that shape.
std::size_t index_of(const Shape& shape, std::int64_t n, std::int64_t c, std::int64_t s);

// Two passes: the mean, then the mean of squared deviations from it (biased).
struct Statistics {
  double mean = 0;
  double variance = 0;
};
Statistics statistics_of(const Values& group);

// The result of a normalization, with one group of values per channel, per sample, or per sample
// and block of channels.
struct Normalized {
  Values y;
  Values mean, variance, rstd;  // one per group
};
// dbias is empty where there is no bias.
struct Gradients {
  Values dx, dweight, dbias;
};

// The steps around a normalization that the library fuses with it; here they are steps of their
// own. A residual is added to y in BatchNorm and to x in LayerNorm; the gradient of a sum is added
// to dx.
Values add(Values a, const Values& b);
// The activation of each value; NaN stays NaN.
Values activate(Values before, const Activation& activation);
// dy times the derivative at the value before the activation. At a kink it is the derivative that
// evenkeel/activation.h names: 0 at the bounds of a clamp, that of hardswish included, and the
// slope of a leaky ReLU. NaN lets a clamp's gradient pass.
Values activate_backward(Values dy, const Values& before, const Activation& activation);

// Empty weight or bias: 1 or 0.
Normalized batch_norm(const Shape& shape, const Values& x, const Values& weight, const Values& bias,
                      double eps);
Values batch_norm_inference(const Shape& shape, const Values& x, const Values& weight,
                            const Values& bias, const Values& mean, const Values& variance,
                            double eps);
// Gradients of sum(dy * y) through the statistics of the batch.
Gradients batch_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                              const Values& weight, double eps);
// The same with statistics that do not depend on x.
Gradients batch_norm_given_backward(const Shape& shape, const Values& dy, const Values& x,
                                    const Values& weight, const Values& mean,
                                    const Values& variance, double eps);

Normalized layer_norm(const Shape& shape, const Values& x, const Values& weight, const Values& bias,
                      double eps);
Gradients layer_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                              const Values& weight, double eps);

// The groups are sample by sample, n * groups + g. With as many groups as channels it is
// InstanceNorm.
Normalized group_norm(const Shape& shape, std::int64_t groups, const Values& x,
                      const Values& weight, const Values& bias, double eps);
Gradients group_norm_backward(const Shape& shape, std::int64_t groups, const Values& dy,
                              const Values& x, const Values& weight, double eps);

// There is no mean, and the mean square takes the place of the variance. For weights that are
// stored as their difference from 1, add 1 to them first.
Normalized rms_norm(const Shape& shape, const Values& x, const Values& weight, double eps);
Gradients rms_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                            const Values& weight, double eps);

Values local_response_norm(const Shape& shape, const Values& x,
                           const LocalResponseNormOptions& options);
Values local_response_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                                    const LocalResponseNormOptions& options);

}  // namespace evenkeel::reference
