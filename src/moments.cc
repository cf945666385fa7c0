#include "evenkeel/moments.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/base/types.h"
#include "src/passes/channels.h"

namespace evenkeel {

namespace {

// M2 as a double. It is 0 only if all values are equal, even if it is too small for a double.
template <class E>
Moments moments_of_group(const GroupMoments<E>& m) {
  const auto m2 = static_cast<double>(m.m2);
  return {m.count, static_cast<double>(m.mean),
          m2 == 0 && m.m2 > 0 ? std::numeric_limits<double>::denorm_min() : m2};
}

}  // namespace

void Moments::add(double value) { merge({1, value, 0}); }

void Moments::merge(const Moments& other) {
  if (other.count == 0) return;
  if (count == 0) {
    *this = other;
    return;
  }
  const double total = count + other.count;
  const double share = other.count / total;
  const double delta = other.mean - mean;
  m2 += other.m2 + (delta * share) * (delta * count);  // delta^2 alone may overflow
  // Too small for a double is not 0, which would say that all values are equal.
  if (m2 == 0 && delta != 0) m2 = std::numeric_limits<double>::denorm_min();
  // The difference of two finite means may overflow, their mean cannot.
  mean = std::isinf(delta) ? mean * (count / total) + other.mean * share : mean + delta * share;
  count = total;
}

double Moments::unbiased_variance() const {
  return count < 2 ? std::numeric_limits<double>::quiet_NaN() : m2 / (count - 1);
}

template <class T>
Moments moments_of(std::span<const T> x) {
  Moments total;
  if (x.empty()) return total;
  Planes<T>(1, 1, std::ssize(x)).moments(x.data(), [&](std::int64_t, const auto& m) {
    total = moments_of_group(m);
  });
  return total;
}

ChannelMoments::ChannelMoments(std::int64_t channels) {
  Check("channel_moments")
      .require(channels >= 0, "channels is " + std::to_string(channels) + ", expected at least 0");
  mean_.resize(static_cast<std::size_t>(channels));
  m2_.resize(static_cast<std::size_t>(channels));
}

ChannelMoments::ChannelMoments(double count, std::span<const double> mean,
                               std::span<const double> m2)
    : count_(count), mean_(mean.begin(), mean.end()), m2_(m2.begin(), m2.end()) {
  const Check check("channel_moments");
  check.require(count >= 0 && std::trunc(count) == count && std::isfinite(count),
                "count is " + exactly(count) + ", expected a whole number from 0 on");
  check.require(mean.size() == m2.size(), "m2 has " + std::to_string(m2.size()) +
                                              " elements, expected " + std::to_string(mean.size()) +
                                              " (those of mean)");
  for (std::size_t i = 0; i < m2.size(); ++i) {
    if (m2[i] < 0) {
      check.fail("m2[" + std::to_string(i) + "] is " + exactly(m2[i]) +
                 ", expected a sum of squares");
    }
  }
}

template <class T>
void ChannelMoments::add(TensorView<const T> x) {
  Check check("channel_moments");
  check.shape("x", x);
  check.require(x.shape.c == channels(), "x has " + std::to_string(x.shape.c) +
                                             " channels, expected " + std::to_string(channels()));
  with_channels<T>(x.shape, [&](const ChannelPasses<T>& passes) {
    passes.moments(x.data, [&](std::int64_t c, const auto& batch) {
      const auto i = static_cast<std::size_t>(c);
      Moments m{count_, mean_[i], m2_[i]};
      m.merge(moments_of_group(batch));
      mean_[i] = m.mean;
      m2_[i] = m.m2;
    });
  });
  count_ += static_cast<double>(x.shape.per_channel());
}

void ChannelMoments::merge(const ChannelMoments& other) {
  Check("channel_moments")
      .require(other.channels() == channels(),
               "the other moments have " + std::to_string(other.channels()) +
                   " channels, expected " + std::to_string(channels()));
  for (std::size_t i = 0; i < mean_.size(); ++i) {
    Moments m{count_, mean_[i], m2_[i]};
    m.merge({other.count_, other.mean_[i], other.m2_[i]});
    mean_[i] = m.mean;
    m2_[i] = m.m2;
  }
  count_ += other.count_;
}

double ChannelMoments::biased_variance(std::int64_t channel) const {
  return Moments{count_, 0, m2_[static_cast<std::size_t>(channel)]}.biased_variance();
}
double ChannelMoments::unbiased_variance(std::int64_t channel) const {
  return Moments{count_, 0, m2_[static_cast<std::size_t>(channel)]}.unbiased_variance();
}

bool ChannelMoments::finite() const {
  const auto is_finite = [](double v) { return std::isfinite(v); };
  return std::ranges::all_of(mean_, is_finite) && std::ranges::all_of(m2_, is_finite);
}

#define EVENKEEL_INSTANTIATE(T)                    \
  template Moments moments_of(std::span<const T>); \
  template void ChannelMoments::add(TensorView<const T>);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
