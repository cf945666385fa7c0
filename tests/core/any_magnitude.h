// Problems of random magnitudes, and what is expected of them: plain sums in 128 bits, with the
// bounds of tolerance.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/core/quad.h"
#include "tests/core/testing.h"

namespace evenkeel::testing {

enum class Kind : std::uint8_t { batch, group, instance, layer, rms };

// The exponents of T's numbers.
template <class T>
struct Exponents {
  static constexpr bool half = std::is_same_v<T, Float16>, brain = std::is_same_v<T, BFloat16>;
  static constexpr int least = half ? -24 : brain ? -133 : std::is_same_v<T, float> ? -149 : -1074;
  static constexpr int most = half ? 15 : std::is_same_v<T, double> ? 1023 : 127;
};
template <class T>
Quad largest_number() {
  if (std::is_same_v<T, Float16>) return 65504;
  if (std::is_same_v<T, BFloat16>) return static_cast<Quad>(0x1.FEp127);
  return static_cast<Quad>(std::numeric_limits<Wide<T>>::max());
}

template <class T>
struct Problem {
  Kind kind;
  Shape shape;
  unsigned seed;
  std::vector<T> x, dy;
  std::vector<Wide<T>> weight, bias;
  double eps = 0;
  Activation activation = Activation::none;

  Problem(Kind of_kind, const Shape& of_shape, unsigned with_seed)
      : kind(of_kind), shape(of_shape), seed(with_seed), engine_(with_seed) {
    using E = Exponents<T>;
    const int x_exponent = uniform(E::least, E::most), dy_exponent = uniform(E::least, E::most);
    const bool is_wild = uniform(0, 2) == 0;  // each value has an exponent of its own
    const double offset = uniform(0, 2) == 0 ? 3 : 0;
    for (std::int64_t i = 0; i < shape.size(); ++i) {
      x.push_back(number(offset, is_wild ? uniform(E::least, E::most) : x_exponent));
      dy.push_back(number(0, is_wild ? uniform(E::least, E::most) : dy_exponent));
    }
    const int weight_exponent = uniform(0, 3) == 0 ? uniform(-20, 20) : 0;
    for (std::int64_t i = 0; i < parameters(); ++i) {
      weight.push_back(static_cast<Wide<T>>(std::ldexp(normal_(engine_), weight_exponent)));
      bias.push_back(static_cast<Wide<T>>(normal_(engine_)));
    }
    const double many_eps[] = {1e-5, 1e-5, 1e-3, 1e-12, 1e-40, 1e-300};
    eps = many_eps[uniform(0, 5)];
    const Activation activations[] = {
        Activation::none, Activation::none,      Activation::relu,      Activation::leaky_relu(0.1),
        Activation::silu, Activation::hardswish, Activation::hardtanh()};
    if (kind == Kind::batch || kind == Kind::group) activation = activations[uniform(0, 6)];
  }

  bool by_feature() const { return kind == Kind::layer || kind == Kind::rms; }
  std::int64_t parameters() const { return by_feature() ? shape.c * shape.s : shape.c; }
  std::int64_t groups() const {
    switch (kind) {
      case Kind::batch:
        return shape.c;
      case Kind::group:
        return 2 * shape.n;
      case Kind::instance:
        return shape.n * shape.c;
      default:
        return shape.n;
    }
  }
  // Of the element (n, c, s).
  std::int64_t group_of(std::int64_t n, std::int64_t c) const {
    switch (kind) {
      case Kind::batch:
        return c;
      case Kind::group:
        return 2 * n + c / (shape.c / 2);
      case Kind::instance:
        return n * shape.c + c;
      default:
        return n;
    }
  }
  std::string name() const {
    const char* const names[] = {"batch", "group", "instance", "layer", "rms"};
    return std::string(names[static_cast<int>(kind)]) + " n" + std::to_string(shape.n) + " c" +
           std::to_string(shape.c) + " s" + std::to_string(shape.s) +
           (shape.layout == Layout::channels_last ? " channels-last" : "") + " seed " +
           std::to_string(seed);
  }

 private:
  int uniform(int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(engine_);
  }
  T number(double offset, int exponent) {
    const auto v = std::ldexp(static_cast<long double>(normal_(engine_) + offset), exponent);
    const auto most = static_cast<long double>(largest_number<T>());
    return from_double<T>(static_cast<double>(std::clamp(v, -most, most)));
  }

  std::mt19937_64 engine_;
  std::normal_distribution<double> normal_;
};

// A value and how far from it a result may be.
struct Bounded {
  Quad value, bound;
};

// Overflow and underflow as in T: what exceeds its largest number is infinity.
template <class T>
void expect_within(const std::vector<T>& actual, const std::vector<Bounded>& expected,
                   const std::string& what) {
  const Quad largest = largest_number<T>();
  const Quad smallest = static_cast<Quad>(std::numeric_limits<Wide<T>>::denorm_min());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const auto [value, bound] = expected[i];
    const double a = to_double(actual[i]);
    if (value != value) {
      ASSERT_TRUE(std::isnan(a)) << what << "[" << i << "]";
      continue;
    }
    const Quad size = quad_abs(value);
    const Quad magnitude = std::min(size + bound, largest);
    const Quad allowed = bound + 2 * smallest + static_cast<Quad>(unit<T>()) * size +
                         static_cast<Quad>(store_error<T>(static_cast<double>(magnitude)));
    if (std::isinf(a) ? (a > 0) == (value > 0) && size + allowed >= largest
                      : quad_abs(static_cast<Quad>(a) - value) <= allowed) {
      continue;
    }
    FAIL() << what << "[" << i << "] is " << a << ", expected " << static_cast<long double>(value)
           << " within " << static_cast<long double>(allowed);
  }
}

// One value of a group.
struct Member {
  std::size_t at, parameter;
  Quad x_hat, g;           // g: dy behind the activation, times the weight
  Quad dy;                 // behind the activation
  double x_hat_error = 0;  // absolute
};

template <class T>
struct Expected {
  std::vector<Bounded> y, dx, mean, rstd, m2, dweight, dbias;
  double largest_weight = 0;
  bool is_ambiguous = false;  // a value lies at a kink of its activation

  explicit Expected(const Problem<T>& p)
      : y(p.x.size()),
        dx(p.x.size()),
        dweight(p.weight.size(), Bounded{0, 0}),
        dbias(p.weight.size(), Bounded{0, 0}) {
    for (const auto w : p.weight) {
      largest_weight = std::max(largest_weight, std::abs(static_cast<double>(w)));
    }
    std::vector<std::vector<Member>> groups(static_cast<std::size_t>(p.groups()));
    for (std::int64_t n = 0; n < p.shape.n; ++n) {
      for (std::int64_t c = 0; c < p.shape.c; ++c) {
        for (std::int64_t s = 0; s < p.shape.s; ++s) {
          const std::int64_t parameter = p.by_feature() ? c * p.shape.s + s : c;
          groups[static_cast<std::size_t>(p.group_of(n, c))].push_back(
              {reference::index_of(p.shape, n, c, s), static_cast<std::size_t>(parameter), 0, 0,
               0});
        }
      }
    }
    for (auto& group : groups) take(p, group);
    // The additions over groups: sums in Wide<T> of up to 256 samples.
    for (auto* gradients : {&dweight, &dbias}) {
      for (Bounded& b : *gradients) b.bound *= 2;
    }
  }

 private:
  static Quad at(const std::vector<T>& values, std::size_t i) {
    return static_cast<Quad>(to_double(values[i]));
  }

  void take(const Problem<T>& p, std::vector<Member>& group) {
    const auto n = static_cast<Quad>(group.size());
    Quad mu = 0, sum_of_squares = 0, largest = 0;
    if (p.kind != Kind::rms) {
      for (const Member& m : group) mu += at(p.x, m.at) / n;
    }
    for (const Member& m : group) {
      const Quad deviation = at(p.x, m.at) - mu;
      sum_of_squares += deviation * deviation;
      largest = std::max(largest, quad_abs(deviation));
    }
    const Quad variance = sum_of_squares / n, std = quad_sqrt(variance);
    const Quad inverse = 1 / quad_sqrt(variance + static_cast<Quad>(p.eps));
    const StatisticsError<T> error(static_cast<std::int64_t>(group.size()),
                                   std == 0 ? 0 : static_cast<double>(largest / std));
    mean.push_back({mu, static_cast<Quad>(error.mean()) * std});
    rstd.push_back({inverse, static_cast<Quad>(error.rstd()) * inverse});
    m2.push_back(
        {sum_of_squares, static_cast<Quad>(2 * error.rstd()) * sum_of_squares +
                             n * static_cast<Quad>(std::numeric_limits<double>::denorm_min())});

    for (Member& m : group) {
      m.x_hat = (at(p.x, m.at) - mu) * inverse;
      m.x_hat_error = error.x_hat(static_cast<double>(quad_abs(m.x_hat)));
      normalize(p, m);
    }
    differentiate(p, group, inverse, error);
  }

  // y, and dy behind the activation.
  void normalize(const Problem<T>& p, Member& m) {
    const auto weight = static_cast<Quad>(p.weight[m.parameter]);
    const Quad bias = p.kind == Kind::rms ? Quad{0} : static_cast<Quad>(p.bias[m.parameter]);
    const Quad v = m.x_hat * weight + bias;
    const Quad v_error = quad_abs(weight) * static_cast<Quad>(m.x_hat_error) +
                         static_cast<Quad>(4 * unit<T>()) * (quad_abs(v - bias) + quad_abs(bias));
    m.dy = at(p.dy, m.at);
    if (p.activation == Activation::none) {
      y[m.at] = {v, v_error};
    } else {
      const auto before = static_cast<double>(v);
      y[m.at] = {static_cast<Quad>(reference::activate({before}, p.activation)[0]),
                 // Derivatives are at most 1.1, and what they are computed from takes some units.
                 Quad{1.1} * v_error + static_cast<Quad>(8 * unit<T>()) * quad_abs(v)};
      m.dy *= static_cast<Quad>(reference::activate_backward({1}, {before}, p.activation)[0]);
      for (const double kink : {-3.0, -1.0, 0.0, 1.0, 3.0}) {
        is_ambiguous = is_ambiguous || quad_abs(v - static_cast<Quad>(kink)) <= 2 * v_error;
      }
      derivative_error_ = std::max(derivative_error_, static_cast<double>(v_error));
    }
    m.g = m.dy * weight;
  }

  void differentiate(const Problem<T>& p, const std::vector<Member>& group, Quad inverse,
                     const StatisticsError<T>& error) {
    const auto n = static_cast<Quad>(group.size());
    // Sums of magnitudes for the bounds; of |dy * weight| with the largest as the unit, since the
    // functions of StatisticsError take doubles.
    Quad mean_g = 0, mean_g_x = 0, abs_g = 0, abs_g_x = 0, unit_of_g = 0;
    for (const Member& m : group) {
      const auto weight = static_cast<Quad>(p.weight[m.parameter]);
      if (p.kind != Kind::rms) mean_g += m.g / n;
      mean_g_x += m.g * m.x_hat / n;
      const Quad full = quad_abs(at(p.dy, m.at) * weight);
      abs_g += full / n;
      abs_g_x += full * quad_abs(m.x_hat) / n;
      unit_of_g = std::max(unit_of_g, full);
    }
    if (unit_of_g == 0) unit_of_g = 1;
    const auto in_units = [&](Quad v) { return static_cast<double>(v / unit_of_g); };
    for (const Member& m : group) {
      const auto weight = static_cast<Quad>(p.weight[m.parameter]);
      const Quad full = quad_abs(at(p.dy, m.at) * weight);
      const double x_hat = static_cast<double>(quad_abs(m.x_hat));
      double bound =
          error.dx(in_units(full), in_units(abs_g), x_hat, in_units(abs_g_x), m.x_hat_error);
      // The derivative of the activation, whose own derivative is at most 1/2.
      const double derivative_error =
          p.activation == Activation::none ? 0 : derivative_error_ / 2 + 8 * unit<T>();
      bound += derivative_error * (in_units(full) + in_units(abs_g) + x_hat * in_units(abs_g_x));
      dx[m.at] = {inverse * (m.g - mean_g - m.x_hat * mean_g_x),
                  inverse * unit_of_g * static_cast<Quad>(bound)};
      const Quad dy_x = quad_abs(at(p.dy, m.at));
      Bounded& w = dweight[m.parameter];
      w.value += m.dy * m.x_hat;
      w.bound += dy_x * (static_cast<Quad>(error.sum + error.rstd() + derivative_error) *
                             quad_abs(m.x_hat) +
                         static_cast<Quad>(m.x_hat_error)) +
                 static_cast<Quad>(std::numeric_limits<Wide<T>>::denorm_min());
      Bounded& b = dbias[m.parameter];
      b.value += m.dy;
      b.bound += dy_x * static_cast<Quad>(error.sum + derivative_error);
    }
  }

  double derivative_error_ = 0;
};

template <class T>
struct ExpectedResponse {
  std::vector<Bounded> y, dx;

  ExpectedResponse(const Problem<T>& p, const LocalResponseNormOptions& o)
      : y(p.x.size()), dx(p.x.size()) {
    const Shape& shape = p.shape;
    const auto channels = static_cast<std::size_t>(shape.c);
    std::vector<Quad> x(channels), dy(channels), power(channels), base(channels);
    for (std::int64_t n = 0; n < shape.n; ++n) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        const auto index = [&](std::int64_t c) { return reference::index_of(shape, n, c, s); };
        double exponents = 0;  // the largest |beta * log(base)|
        for (std::int64_t c = 0; c < shape.c; ++c) {
          const auto k = static_cast<std::size_t>(c);
          x[k] = static_cast<Quad>(to_double(p.x[index(c)]));
          dy[k] = static_cast<Quad>(to_double(p.dy[index(c)]));
          Quad squares = 0;
          for (std::int64_t j = std::max<std::int64_t>(0, c - o.behind);
               j <= std::min(shape.c - 1, c + o.ahead); ++j) {
            const auto v = static_cast<Quad>(to_double(p.x[index(j)]));
            squares += v * v;
          }
          base[k] = static_cast<Quad>(o.k) + static_cast<Quad>(o.alpha) * squares;
          const auto of_base = static_cast<long double>(base[k]);
          power[k] = static_cast<Quad>(std::pow(of_base, static_cast<long double>(-o.beta)));
          if (of_base > 0) {
            exponents = std::max(
                exponents, std::abs(o.beta) * static_cast<double>(std::abs(std::log(of_base))));
          }
        }
        // Some 20 roundings, one for each point of the window, and those of the exponential.
        const Quad relative = static_cast<Quad>(
            unit<T>() * (24 + static_cast<double>(o.behind + o.ahead) + 4 * exponents));
        for (std::int64_t c = 0; c < shape.c; ++c) {
          const auto k = static_cast<std::size_t>(c);
          const Quad value = x[k] * power[k];
          y[index(c)] = {value, relative * quad_abs(value)};
          Quad sum = 0, size = 0;
          for (std::int64_t j = std::max<std::int64_t>(0, c - o.ahead);
               j <= std::min(shape.c - 1, c + o.behind); ++j) {
            const auto i = static_cast<std::size_t>(j);
            if (o.alpha * o.beta == 0) break;
            const Quad term = dy[i] * x[i] * power[i] / base[i];
            sum += term;
            size += quad_abs(term);
          }
          const Quad factor = 2 * static_cast<Quad>(o.alpha * o.beta) * x[k];
          dx[index(c)] = {dy[k] * power[k] - factor * sum,
                          relative * (quad_abs(dy[k] * power[k]) + quad_abs(factor) * size) +
                              // Each term of the sum is off by a subnormal number at least.
                              quad_abs(factor) * static_cast<Quad>(o.behind + o.ahead + 1) *
                                  static_cast<Quad>(std::numeric_limits<Wide<T>>::denorm_min())};
        }
      }
    }
  }
};

}  // namespace evenkeel::testing
