#include "bench/problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <random>

#include "evenkeel/batch_norm.h"

namespace evenkeel::bench {
namespace {

// The first values are random, the others repeat them: a prime period, so that no two channels are
// alike.
void fill(const Buffer& buffer, const Case& c, unsigned seed, float mean) {
  with_type(c.dtype, [&]<class T>(T*) {
    constexpr std::int64_t kPeriod = 1000003;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(mean, 1);
    T* values = buffer.as<T>();
    const std::int64_t drawn = std::min(kPeriod, c.size());
    for (std::int64_t i = 0; i < drawn; ++i) values[i] = T(normal(random));
    for (std::int64_t at = drawn; at < c.size(); at += drawn)
      std::copy_n(values, std::min(drawn, c.size() - at), values + at);
  });
}

// The plain sums in double are exact enough at these means.
void statistics(Problem& p) {
  const Case& c = p.of;
  const std::int64_t groups = std::ssize(p.mean);
  const std::int64_t inner = c.order == Order::nchw ? c.h * c.w : 1;
  std::vector<double> sum(p.mean.size()), squares(p.mean.size());
  with_type(c.dtype, [&]<class T>(T*) {
    const T* x = p.x.as<T>();
    for (std::int64_t i = 0; i < c.size(); i += inner) {
      const std::int64_t channel = i / inner % c.c, sample = i / (c.c * c.h * c.w);
      const auto g = static_cast<std::size_t>(c.is_of_rows() ? i / c.c
                                              : c.is_of_samples()
                                                  ? sample * c.groups() + channel * c.groups() / c.c
                                                  : channel);
      for (std::int64_t j = i; j < i + inner; ++j) {
        const auto value = static_cast<double>(static_cast<float>(x[j]));
        sum[g] += value;
        squares[g] += value * value;
      }
    }
  });
  const auto count = static_cast<double>(c.size() / groups);
  for (std::size_t g = 0; g < sum.size(); ++g) {
    const double mean = c.op == Op::rms_norm ? 0 : sum[g] / count;
    const double var = squares[g] / count - mean * mean;
    p.mean[g] = static_cast<float>(mean);
    p.saved_mean[g] = mean;
    p.var[g] = static_cast<float>(var);
    p.saved_rstd[g] = 1 / std::sqrt(var + Problem::kEps);
    p.rstd[g] = static_cast<float>(p.saved_rstd[g]);
  }
}

std::vector<float> ramp(std::int64_t size, float from, float to) {
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = from + (to - from) * static_cast<float>(i) / static_cast<float>(size);
  return values;
}

}  // namespace

Buffer::Buffer(std::int64_t bytes) {
  constexpr std::size_t kLine = 64;
  const std::size_t size = (static_cast<std::size_t>(bytes) + kLine - 1) / kLine * kLine;
  memory_.reset(std::aligned_alloc(kLine, size));
  if (!memory_) throw std::bad_alloc();
  std::memset(memory_.get(), 0, size);
}

Problem::Problem(const Case& c)
    : of(c),
      x(c.tensor_bytes()),
      dy(c.tensor_bytes()),
      out(c.tensor_bytes()),
      residual(c.has_residual() ? Buffer(c.tensor_bytes()) : Buffer()),
      out2(c.has_second_output() ? Buffer(c.tensor_bytes()) : Buffer()),
      weight(ramp(c.c, 0.5F, 1.5F)),
      bias(ramp(c.c, -0.5F, 0.5F)),
      mean(ramp(c.statistics(), 0.2F, 0.4F)),
      var(ramp(c.statistics(), 0.9F, 1.1F)),
      rstd(mean.size()),
      saved_mean(mean.size()),
      saved_rstd(mean.size()),
      dweight(weight.size()),
      dbias(weight.size()) {
  fill(x, c, 1, 0.3F);
  fill(dy, c, 2, 0.1F);
  if (c.has_residual()) fill(residual, c, 3, 0);
  if (c.direction == Direction::backward) statistics(*this);
  if (c.direction == Direction::backward && c.has_relu()) {
    y = Buffer(c.tensor_bytes());
    with_type(c.dtype, [&]<class T>(T*) {
      batch_norm_forward<T>({.x = view<const T>(x),
                             .weight = weight,
                             .bias = bias,
                             .residual = view<const T>(residual),
                             .y = view<T>(y)},
                            {.eps = kEps, .activation = Activation::relu});
    });
  }
}

Shape Problem::shape() const {
  return {of.n, of.c, of.h * of.w,
          of.order == Order::nhwc ? Layout::channels_last : Layout::channels_first};
}

std::vector<float> sample(const void* data, Dtype dtype, std::int64_t size) {
  constexpr std::int64_t kAtMost = 1 << 18;
  // Odd, so that it visits all residues of the usual strides.
  const std::int64_t step = size <= kAtMost ? 1 : size / kAtMost * 2 + 1;
  std::vector<float> values;
  with_type(dtype, [&]<class T>(T*) {
    for (std::int64_t i = 0; i < size; i += step)
      values.push_back(static_cast<float>(static_cast<const T*>(data)[i]));
  });
  return values;
}

}  // namespace evenkeel::bench
