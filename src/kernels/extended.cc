#include "src/kernels/extended.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/kernels/range.h"

namespace evenkeel::kernels {
namespace {

template <class T>
Extended<T> load(const T* p) {
  return static_cast<Extended<T>>(static_cast<Wide<T>>(*p));
}
template <class T>
void store(Extended<T> value, T* p) {
  *p = static_cast<T>(static_cast<Wide<T>>(value));
}

// Calls f(offset) for each value of a piece.
template <class F>
void for_each_value(const Piece& piece, const F& f) {
  for (std::int64_t n = 0; n < piece.count; ++n) {
    for (std::int64_t i = 0; i < piece.length; ++i) f(n * piece.stride + i);
  }
}

// The sum of f(offset) over a piece. Partial sums of some thousand values keep rounding errors of
// the long sums of whole channels small.
template <class Sum, class F>
Sum sum_over(const Piece& piece, const F& f) {
  constexpr std::int64_t kPart = 4096;
  Sum total{}, part{};
  std::int64_t in_part = 0;
  for_each_value(piece, [&](std::int64_t at) {
    part += f(at);
    if (++in_part < kPart) return;
    total += part;
    part = Sum{};
    in_part = 0;
  });
  total += part;
  return total;
}

template <class E>
E sigmoid(E v) {
  const E e = std::exp(-std::abs(v));
  return (v < 0 ? e : E{1}) / (1 + e);
}
template <class E>
E hardswish_gate(E v) {
  const E linear = v / 6 + E{0.5};
  return linear < 0 ? 0 : linear > 1 ? 1 : linear;
}

// NaN passes the comparisons.
template <class E>
E activated(const Activation& a, E v) {
  switch (a.kind) {
    case Activation::Kind::leaky_relu:
      return v <= 0 ? v * static_cast<E>(a.slope) : v;
    case Activation::Kind::silu:
      return v * sigmoid(v);
    case Activation::Kind::hardswish:
      return v * hardswish_gate(v);
    default:
      return v < static_cast<E>(a.low)    ? static_cast<E>(a.low)
             : v > static_cast<E>(a.high) ? static_cast<E>(a.high)
                                          : v;
  }
}
// dy times the derivative at v.
template <class E>
E activated_gradient(const Activation& a, E dy, E v) {
  switch (a.kind) {
    case Activation::Kind::leaky_relu:
      return v <= 0 ? dy * static_cast<E>(a.slope) : dy;
    case Activation::Kind::silu: {
      const E s = sigmoid(v);
      return dy * (s + v * s * (1 - s));
    }
    case Activation::Kind::hardswish:
      return dy * (hardswish_gate(v) + (std::abs(v) < 3 ? v / 6 : E{0}));
    default: {
      const bool stopped = (v <= static_cast<E>(a.low) && !std::isinf(a.low)) ||
                           (v >= static_cast<E>(a.high) && !std::isinf(a.high));
      return stopped ? 0 : dy;
    }
  }
}

// dy as it passes the activation, and x - center.
template <class T>
struct Gradient {
  Extended<T> dy, deviation;

  Gradient(const BackwardOperands<T>& operands, std::int64_t at, const ExactAffine<Extended<T>>& a)
      : dy(load(operands.dy + at)), deviation(load(operands.x + at) - a.center) {
    if (operands.activation == Activation::none) return;
    Extended<T> v = deviation * a.scale + a.offset;
    if (operands.residual) v += load(operands.residual + at);
    dy = activated_gradient(operands.activation, dy, v);
  }
};

// A row of the backward, with its statistics and parameters.
template <class T>
struct BackwardRow {
  using E = Extended<T>;
  const T *dy, *x;
  const Wide<T>* weight;
  E mean, rstd;

  BackwardRow(const RowsBackward<T>& args, std::int64_t row, std::int64_t cols)
      : dy(args.dy + row * cols),
        x(args.x + row * cols),
        weight(args.weight + row % args.groups * cols),
        mean(args.mean ? args.mean[row] : 0),
        rstd(args.rstd[row]) {}

  E g(std::int64_t i) const { return load(dy + i) * static_cast<E>(weight[i]); }
  E deviation(std::int64_t i) const { return load(x + i) - mean; }
};

// Whether products that are not 0 are all so small that they may underflow in P.
template <class P, class F>
bool only_tiny(const Piece& piece, const F& product) {
  bool some = false;
  for (std::int64_t n = 0; n < piece.count; ++n) {
    for (std::int64_t i = 0; i < piece.length; ++i) {
      const auto size = std::abs(product(n * piece.stride + i));
      // One that is large enough makes the others negligible; NaN and infinity are for the kernel.
      if (!(size < Range<P>::least_product)) return false;
      some = some || size > 0;
    }
  }
  return some;
}

}  // namespace

template <class T>
GroupMoments<Extended<T>> ExtendedRange<T>::moments(const T* x, const Piece& piece) {
  const auto count = static_cast<E>(piece.count * piece.length);
  // From differences to the first value, so that equal values have exactly their mean.
  const E first = load(x);
  const E mean =
      first + sum_over<E>(piece, [&](std::int64_t at) { return load(x + at) - first; }) / count;
  const E m2 = sum_over<E>(piece, [&](std::int64_t at) {
    const E deviation = load(x + at) - mean;
    return deviation * deviation;
  });
  return {static_cast<double>(count), mean, m2};
}

template <class T>
void ExtendedRange<T>::forward(const ForwardOperands<T>& operands, const Piece& piece,
                               const ExactAffine<E>& a) {
  for_each_value(piece, [&](std::int64_t at) {
    E v = (load(operands.x + at) - a.center) * a.scale + a.offset;
    if (operands.residual) v += load(operands.residual + at);
    store(activated(operands.activation, v), operands.y + at);
  });
}

template <class T>
BasicGradientSums<Extended<T>> ExtendedRange<T>::gradient_sums(const BackwardOperands<T>& operands,
                                                               const Piece& piece,
                                                               const ExactAffine<E>& a) {
  return sum_over<BasicGradientSums<E>>(piece, [&](std::int64_t at) {
    const Gradient<T> g(operands, at, a);
    return BasicGradientSums<E>{g.dy, g.dy * g.deviation};
  });
}

template <class T>
void ExtendedRange<T>::backward(const BackwardOperands<T>& operands, const Piece& piece,
                                const ExactAffine<E>& a, const GradientAffine<E>& g) {
  for_each_value(piece, [&](std::int64_t at) {
    const Gradient<T> in(operands, at, a);
    if (operands.dresidual) store(in.dy, operands.dresidual + at);
    if (!operands.dx) return;
    E dx = in.dy * g.dy_scale;
    if (operands.through_statistics) dx += in.deviation * g.x_scale + g.offset;
    store(dx, operands.dx + at);
  });
}

template <class T>
bool ExtendedRange<T>::any_not_finite(const T* values, const Piece& piece) {
  for (std::int64_t n = 0; n < piece.count; ++n) {
    for (std::int64_t i = 0; i < piece.length; ++i) {
      if (!std::isfinite(load(values + n * piece.stride + i))) return true;
    }
  }
  return false;
}

template <class T>
bool ExtendedRange<T>::all_equal(const T* values, const Piece& piece) {
  const E first = load(values);
  for (std::int64_t n = 0; n < piece.count; ++n) {
    for (std::int64_t i = 0; i < piece.length; ++i) {
      if (load(values + n * piece.stride + i) != first) return false;
    }
  }
  return true;
}

template <class T>
bool ExtendedRange<T>::loses_products(const BackwardOperands<T>& operands, const Piece& piece,
                                      E center) {
  return only_tiny<Wide<T>>(piece, [&](std::int64_t at) {
    return load(operands.dy + at) * (load(operands.x + at) - center);
  });
}

template <class T>
void ExtendedRange<T>::row_forward(const RowsForward<T>& args, const T* x, std::int64_t row,
                                   std::int64_t cols) {
  const Piece piece{1, cols, 0};
  E mean = 0, variance = 0;
  if (args.centered) {
    const GroupMoments<E> m = moments(x, piece);
    mean = m.mean;
    variance = m.biased_variance();
  } else {
    const E squares = sum_over<E>(piece, [&](std::int64_t i) { return load(x + i) * load(x + i); });
    variance = squares / static_cast<E>(cols);
  }
  const E rstd = 1 / std::sqrt(variance + static_cast<E>(args.eps));
  if (args.mean) args.mean[row] = static_cast<double>(mean);
  if (args.rstd) args.rstd[row] = static_cast<double>(rstd);
  const std::int64_t parameters = row % args.groups * cols;
  for (std::int64_t i = 0; i < cols; ++i) {
    store((load(x + i) - mean) * rstd * static_cast<E>(args.weight[parameters + i]) +
              static_cast<E>(args.bias[parameters + i]),
          args.y + row * cols + i);
  }
}

template <class T>
void ExtendedRange<T>::row_backward(const RowsBackward<T>& args, std::int64_t row,
                                    std::int64_t cols) {
  const BackwardRow<T> in(args, row, cols);
  const Piece piece{1, cols, 0};
  const auto features = static_cast<E>(cols);
  const E mean_g =
      args.mean ? sum_over<E>(piece, [&](std::int64_t i) { return in.g(i); }) / features : E{0};
  const E mean_g_x_hat =
      sum_over<E>(piece, [&](std::int64_t i) { return in.g(i) * (in.deviation(i) * in.rstd); }) /
      features;
  const std::int64_t parameters = row % args.groups * cols;
  for (std::int64_t i = 0; i < cols; ++i) {
    const E x_hat = in.deviation(i) * in.rstd, dy = load(in.dy + i);
    const auto add = [&](Wide<T>* gradient, E value) {
      if (!gradient) return;
      gradient[parameters + i] =
          static_cast<Wide<T>>(static_cast<E>(gradient[parameters + i]) + value);
    };
    add(args.dweight, dy * x_hat);
    add(args.dbias, dy);
    if (!args.dx) continue;
    E dx = in.rstd * (in.g(i) - mean_g - x_hat * mean_g_x_hat);
    if (args.dsum) dx += load(args.dsum + row * cols + i);
    store(dx, args.dx + row * cols + i);
  }
}

template <class T>
void ExtendedRange<T>::row_parameters(const RowsBackward<T>& args, std::int64_t rows,
                                      std::int64_t cols, Wide<T>* dweight, Wide<T>* dbias) {
  const std::int64_t features = args.groups * cols;
  if (any_not_finite(args.dy, {1, rows * cols, 0}) || any_not_finite(args.x, {1, rows * cols, 0})) {
    return;
  }
  std::vector<E> weight(static_cast<std::size_t>(features)), bias(weight);
  for (std::int64_t row = 0; row < rows; ++row) {
    const BackwardRow<T> in(args, row, cols);
    for (std::int64_t i = 0; i < cols; ++i) {
      const auto j = static_cast<std::size_t>(row % args.groups * cols + i);
      const E dy = load(in.dy + i);
      weight[j] += dy * (in.deviation(i) * in.rstd);
      bias[j] += dy;
    }
  }
  const auto narrow = [](E value) { return static_cast<Wide<T>>(value); };
  if (dweight) std::ranges::transform(weight, dweight, narrow);
  if (dbias) std::ranges::transform(bias, dbias, narrow);
}

template <class T>
bool ExtendedRange<T>::row_loses_products(const RowsBackward<T>& args, std::int64_t row,
                                          std::int64_t cols) {
  const BackwardRow<T> in(args, row, cols);
  return only_tiny<Wide<T>>({1, cols, 0},
                            [&](std::int64_t i) { return in.g(i) * in.deviation(i); });
}

namespace {

// Of the channels at one position.
template <class E>
struct WindowValues {
  std::vector<E> x, dy, base, term;
  explicit WindowValues(std::int64_t channels)
      : x(static_cast<std::size_t>(channels)), dy(x), base(x), term(x) {}

  // k + alpha * sum x^2 of each channel's window.
  void set_bases(const Window& window) {
    for (std::int64_t c = 0; c < std::ssize(x); ++c) {
      E squares = 0;
      const std::int64_t end = std::min(c + window.ahead + 1, std::ssize(x));
      for (std::int64_t j = std::max<std::int64_t>(c - window.behind, 0); j < end; ++j) {
        squares += x[static_cast<std::size_t>(j)] * x[static_cast<std::size_t>(j)];
      }
      base[static_cast<std::size_t>(c)] =
          static_cast<E>(window.k) + static_cast<E>(window.alpha) * squares;
    }
  }
};

}  // namespace

template <class T>
void ExtendedRange<T>::window_forward(const T* x, T* y, const Positions& block,
                                      const Window& window) {
  WindowValues<E> values(block.channels);
  for (std::int64_t i = 0; i < block.positions; ++i) {
    const auto at = [&](std::size_t c) {
      return static_cast<std::int64_t>(c) * block.channel_stride + i * block.stride;
    };
    for (std::size_t c = 0; c < values.x.size(); ++c) values.x[c] = load(x + at(c));
    values.set_bases(window);
    for (std::size_t c = 0; c < values.x.size(); ++c) {
      store(values.x[c] * std::pow(values.base[c], static_cast<E>(-window.beta)), y + at(c));
    }
  }
}

template <class T>
void ExtendedRange<T>::window_backward(const T* dy, const T* x, T* dx, const Positions& block,
                                       const Window& window) {
  WindowValues<E> values(block.channels);
  const auto beta = static_cast<E>(window.beta);
  for (std::int64_t i = 0; i < block.positions; ++i) {
    const auto at = [&](std::size_t c) {
      return static_cast<std::int64_t>(c) * block.channel_stride + i * block.stride;
    };
    for (std::size_t c = 0; c < values.x.size(); ++c) {
      values.x[c] = load(x + at(c));
      values.dy[c] = load(dy + at(c));
    }
    values.set_bases(window);
    for (std::size_t c = 0; c < values.x.size(); ++c) {
      values.term[c] = values.dy[c] * values.x[c] * std::pow(values.base[c], -beta - 1);
    }
    for (std::int64_t c = 0; c < block.channels; ++c) {
      E sum = 0;
      const std::int64_t end = std::min(c + window.behind + 1, block.channels);
      for (std::int64_t j = std::max<std::int64_t>(c - window.ahead, 0); j < end; ++j) {
        sum += values.term[static_cast<std::size_t>(j)];
      }
      const auto k = static_cast<std::size_t>(c);
      store(values.dy[k] * std::pow(values.base[k], -beta) -
                2 * static_cast<E>(window.alpha) * beta * values.x[k] * sum,
            dx + at(k));
    }
  }
}

#define EVENKEEL_INSTANTIATE(T) template struct ExtendedRange<T>;
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel::kernels
