// The example of docs/rms-norm.md.
#include "evenkeel/rms_norm.h"

#include <cstddef>
#include <vector>

#include "check.h"

// [snippet]
// The step between two blocks of a transformer, on 8 tokens with 768 features: what a block puts
// out is added to the residual stream, and the sum is both kept and normalized.
void add_and_normalize(const std::vector<float>& x, const std::vector<float>& weight,
                       std::vector<float>& stream, std::vector<float>& y,
                       std::vector<double>& rstd) {
  const evenkeel::Shape shape{.n = 8, .c = 768};
  evenkeel::rms_norm_forward<float>({.x = {x.data(), shape},
                                     .weight = weight,
                                     .rstd = rstd,  // 8, for the backward
                                     .residual = {stream.data(), shape},
                                     .sum = {stream.data(), shape},
                                     .y = {y.data(), shape}});
}

// dstream is the gradient of the sum by other ways when it comes in, and by all ways when it
// leaves: that of x, and of the residual stream before the addition.
void backward(const std::vector<float>& dy, const std::vector<float>& stream,
              const std::vector<float>& weight, const std::vector<double>& rstd,
              std::vector<float>& dstream, std::vector<float>& dweight) {
  const evenkeel::Shape shape{.n = 8, .c = 768};
  evenkeel::rms_norm_backward<float>({.dy = {dy.data(), shape},
                                      .x = {stream.data(), shape},
                                      .weight = weight,
                                      .rstd = rstd,
                                      .dsum = {dstream.data(), shape},
                                      .dx = {dstream.data(), shape},
                                      .dweight = dweight});
}
// [end snippet]

int main() {
  std::vector<float> x(8 * 768);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 37) % 101);
  std::vector<float> stream(x.size(), -50.0F);
  const std::vector<float> weight(768, 2.0F);
  std::vector<float> y(x.size());
  std::vector<double> rstd(8);
  add_and_normalize(x, weight, stream, y, rstd);
  expect_near("sum", stream[1], 37 - 50, 0);

  std::vector<float> dy(x.size());
  for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<float>((i * 29) % 11);
  std::vector<float> dstream(x.size(), 3.0F);
  std::vector<float> dweight(768);
  backward(dy, stream, weight, rstd, dstream, dweight);

  double sum_of_squares = 0;
  double along_the_stream = 0;
  for (std::size_t i = 0; i < 768; ++i) {
    sum_of_squares += static_cast<double>(y[i]) * y[i];
    along_the_stream += (dstream[i] - 3.0) * stream[i];
  }
  expect_near("mean square of a sample", sum_of_squares / 768, 4, 1e-5);
  // A factor that all of a sample's features share changes nothing, so the gradient of the
  // normalization is at right angles to the sample.
  expect_near("dx along x", along_the_stream, 0, 0.01);
  double expected = 0;
  for (std::size_t i = 0; i < x.size(); i += 768) expected += dy[i] * stream[i] * rstd[i / 768];
  expect_near("dweight", dweight[0], expected, 1e-4);
}
