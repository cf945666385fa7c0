#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cli/page.h"
#include "cli/worked_example.h"
#include "evenkeel/error.h"

namespace evenkeel::cli {
namespace {

// The channels [first, last] in the window of channel c.
struct Window {
  std::int64_t first;
  std::int64_t last;

  Window(const LocalResponseNormOptions& options, std::int64_t channels, std::int64_t c)
      : first(std::max<std::int64_t>(0, c - options.behind)),
        last(std::min(channels - 1, c + options.ahead)) {}
  bool holds(std::int64_t channel) const { return first <= channel && channel <= last; }
  std::int64_t size() const { return last - first + 1; }
};

// Throws Error unless the library's y is x / base^beta up to rounding. `terms` numbers of the sizes
// of k and of alpha * sum, `magnitude` together, were added up for the base.
void require_agreement(double x, double y, double base, double magnitude, std::int64_t terms,
                       double beta) {
  const double expected = x / std::pow(base, beta);
  if (!std::isnormal(expected) || !std::isnormal(y)) return;  // what rounds without a bound
  // Relative errors, of both computations: each addition rounds once, the multiplications by alpha
  // and of the squares twice more, and cancellation enlarges that; a power multiplies the error of
  // its base by beta, and by way of exp and log adds that of its exponent beta * log(base).
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  const double of_base = epsilon * static_cast<double>(terms + 3) * magnitude / std::abs(base);
  const double bound =
      std::abs(beta) * of_base + epsilon * (4 + 4 * std::abs(beta * std::log(std::abs(base))));
  if (bound < 0.01 && std::abs(y / expected - 1) > 2 * bound) {
    throw Error(fmt::format("explain lrn: the library gives {}, x / base^beta is {}", y, expected));
  }
}

}  // namespace

std::string explain_local_response_norm(const Matrix& x, const LocalResponseNormOptions& options,
                                        std::string_view convention, bool bold) {
  Matrix y = x;
  local_response_norm_forward<double>({.x = x.view(), .y = y.view()}, options);

  const std::int64_t channels = x.features;
  // The channel worked out by hand: a whole window, if there is one.
  const std::int64_t example = std::min(options.behind, channels - 1);
  const Window window(options, channels, example);
  const auto sum_of_squares = [&](std::int64_t n, std::int64_t c) {
    const Window w(options, channels, c);
    double sum = 0;
    for (std::int64_t j = w.first; j <= w.last; ++j) sum += x.at(n, j) * x.at(n, j);
    return sum;
  };
  const auto base = [&](std::int64_t n, std::int64_t c) {
    return options.k + options.alpha * sum_of_squares(n, c);
  };
  for (std::int64_t n = 0; n < x.samples; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      const double magnitude = std::abs(options.k) + std::abs(options.alpha) * sum_of_squares(n, c);
      require_agreement(x.at(n, c), y.at(n, c), base(n, c), magnitude,
                        Window(options, channels, c).size(), options.beta);
    }
  }
  const auto matrix = [&](auto cell, auto marked) {
    return Table{
        .columns = numbered("c", channels),
        .rows = numbered("s", x.samples),
        .cell = cell,
        .bold = [=](std::int64_t n, std::int64_t c) { return bold && n == 0 && marked(c); }}
        .text();
  };
  const auto in_window = [&](std::int64_t c) { return window.holds(c); };
  const auto is_example = [&](std::int64_t c) { return c == example; };

  std::string out =
      "Local response normalization: each value is divided by a power of the sum of squares in a\n"
      "window of channels around it, at the same position of the same sample.\n\n";
  out += fmt::format(
      "Convention '{}': {} channels behind, {} ahead, alpha {} (times the plain sum), beta {}, k "
      "{}\n\n",
      convention, options.behind, options.ahead, number(options.alpha), number(options.beta),
      number(options.k));
  out += fmt::format("Input x: {} samples x {} channels, one position\n", x.samples, channels);
  out += matrix([&](std::int64_t n, std::int64_t c) { return number(x.at(n, c)); }, in_window);

  out +=
      "\nWhose squares are summed for whom: row = the value that is normalized ('*'),\n"
      "'o' = the others in its window\n";
  out += Table{
      .columns = numbered("c", channels),
      .rows = numbered("c", channels),
      .cell = [&](std::int64_t r, std::int64_t c) -> std::string {
        if (r == c) return "*";
        return Window(options, channels, r).holds(c) ? "o" : ".";
      },
      .bold =
          [&](std::int64_t r, std::int64_t c) {
            return bold && r == example && window.holds(c);
          }}.text();

  out += "\n1. Sum of squares over the window\n";
  out += matrix([&](std::int64_t n, std::int64_t c) { return number(sum_of_squares(n, c)); },
                is_example);
  out += "\n2. base = k + alpha * sum\n";
  out += matrix([&](std::int64_t n, std::int64_t c) { return decimal(base(n, c)); }, is_example);
  out += "\n3. y = x / base^beta\n";
  out += matrix([&](std::int64_t n, std::int64_t c) { return decimal(y.at(n, c)); }, is_example);

  out += fmt::format("\nOne value by hand: sample s1, channel c{}\n", example + 1);
  out += fmt::format(
      "  sum  = {} = {}\n",
      spelled_sum(window.size(),
                  [&](std::int64_t i) { return operand(x.at(0, window.first + i)) + "^2"; }),
      number(sum_of_squares(0, example)));
  out += fmt::format("  base = {} + {} * {} = {}\n", number(options.k), operand(options.alpha),
                     number(sum_of_squares(0, example)), number(base(0, example)));
  out += fmt::format("  y    = {} / {}^{} = {}\n", number(x.at(0, example)),
                     operand(base(0, example)), operand(options.beta), number(y.at(0, example)));
  out +=
      "\nStrong neighbors weaken a value (lateral inhibition). There is no mean and nothing to\n"
      "learn, and frameworks disagree about the window and alpha: see --convention.\n";
  return out;
}

}  // namespace evenkeel::cli
