// The oracle of the tests: every operation straight from its formula, in double, scalar, with
// two-pass statistics in long double. A different algorithm from the library's, in higher
// precision, and nothing else: no layouts but through one index function, no checks, no speed.
#pragma once

#include <cstdint>
#include <vector>

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

// The result of a normalization with one group of values per channel or per sample.
struct Normalized {
  Values y;
  Values mean, variance, rstd;  // one per group
};
struct Gradients {
  Values dx, dweight, dbias;
};

// The steps around a normalization that the library fuses with it; here they are steps of their
// own. A residual is added to y in BatchNorm and to x in LayerNorm; the gradient of a sum is added
// to dx.
Values add(Values a, const Values& b);
// Positive values as they are, others 0, but NaN as it is.
Values relu(Values y);
// dy, but 0 where relu's result y is not positive; a NaN passes the gradient on.
Values relu_backward(Values dy, const Values& y);

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

Values local_response_norm(const Shape& shape, const Values& x,
                           const LocalResponseNormOptions& options);
Values local_response_norm_backward(const Shape& shape, const Values& dy, const Values& x,
                                    const LocalResponseNormOptions& options);

}  // namespace evenkeel::reference
