#include "lab/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "evenkeel/error.h"

namespace evenkeel::lab {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t most_enumerated = 6;
constexpr std::size_t random_resamples = 10000;
constexpr std::uint64_t resampling_seed = 1;

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// The means of all n^n ways to draw n of n values with replacement: counts in base n.
std::vector<double> all_resampled_means(std::span<const double> values) {
  const std::size_t n = values.size();
  std::vector<std::size_t> drawn(n, 0);
  std::vector<double> means;
  for (bool more = true; more;) {
    double sum = 0;
    for (const auto i : drawn) sum += values[i];
    means.push_back(sum / static_cast<double>(n));
    std::size_t digit = 0;
    while (digit < n && ++drawn[digit] == n) drawn[digit++] = 0;
    more = digit < n;
  }
  return means;
}

std::vector<double> random_resampled_means(std::span<const double> values) {
  // The engine's numbers are fixed by the standard; a distribution's are not.
  std::mt19937_64 engine(resampling_seed);
  std::vector<double> means;
  for (std::size_t r = 0; r < random_resamples; ++r) {
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) sum += values[engine() % values.size()];
    means.push_back(sum / static_cast<double>(values.size()));
  }
  return means;
}

// Nearest rank: the smallest value that at least a fraction q of all is not above.
double quantile(std::vector<double>& sorted, double q) {
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

template <class Combine>
std::vector<double> pairwise(std::span<const double> a, std::span<const double> b,
                             Combine combine) {
  if (a.size() != b.size()) {
    throw Error(fmt::format("statistics: {} values are paired with {}", a.size(), b.size()));
  }
  std::vector<double> result;
  for (std::size_t i = 0; i < a.size(); ++i) result.push_back(combine(a[i], b[i]));
  return result;
}

}  // namespace

bool Interval::known() const { return !std::isnan(low); }
bool Interval::above(double value) const { return known() ? low > value : mean > value; }
bool Interval::below(double value) const { return known() ? high < value : mean < value; }

Interval bootstrap_mean(std::span<const double> values) {
  const auto count = static_cast<int>(values.size());
  const auto is_nan = [](double value) { return std::isnan(value); };
  if (values.empty() || std::ranges::any_of(values, is_nan)) return {nan, nan, nan, count};
  if (count == 1) return {values[0], nan, nan, count};
  std::vector<double> means = values.size() <= most_enumerated ? all_resampled_means(values)
                                                               : random_resampled_means(values);
  std::ranges::sort(means);
  return {mean_of(values), quantile(means, 0.025), quantile(means, 0.975), count};
}

Interval paired_difference(std::span<const double> a, std::span<const double> b) {
  return bootstrap_mean(pairwise(a, b, std::minus<>()));
}

Interval paired_ratio(std::span<const double> a, std::span<const double> b) {
  const auto log_ratio = [](double x, double y) { return std::log(x / y); };
  const Interval logs = bootstrap_mean(pairwise(a, b, log_ratio));
  return {std::exp(logs.mean), std::exp(logs.low), std::exp(logs.high), logs.count};
}

}  // namespace evenkeel::lab
