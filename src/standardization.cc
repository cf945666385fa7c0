#include "evenkeel/standardization.h"

#include <charconv>
#include <cmath>
#include <istream>
#include <ostream>
#include <span>
#include <string>
#include <system_error>

#include "src/base/cache.h"
#include "src/base/check.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/passes/channels.h"

namespace evenkeel {
namespace {

constexpr const char* kMagic = "evenkeel-standardization";
constexpr int kFormat = 1;

// A constant feature is not divided by its standard deviation of 0.
double scale_of(double std) { return std == 0 ? 1 : std; }

// The members are public, so they may have come from anywhere.
void check_sizes(Check& check, const Standardization& s) {
  check.size("std", std::span(s.std), s.features(), "features");
  check.size("scale", std::span(s.scale), s.features(), "features");
}

}  // namespace

Standardization Standardization::from(const ChannelMoments& moments) {
  const Check check("standardization");
  check.require(moments.count() > 0, "there are no samples, expected at least one");
  Standardization result;
  result.count = static_cast<std::int64_t>(moments.count());
  result.mean.assign(moments.mean().begin(), moments.mean().end());
  for (std::int64_t c = 0; c < moments.channels(); ++c) {
    const double m2 = moments.m2()[static_cast<std::size_t>(c)];
    const double std = std::sqrt(moments.biased_variance(c));
    const std::string feature = "feature " + std::to_string(c);
    check.require(
        std::isfinite(result.mean[static_cast<std::size_t>(c)]) && !std::isnan(m2),
        feature + " has statistics that are not finite; remove its NaN and infinite values");
    // A sum of squares below this has lost digits, since most squares are subnormal numbers or 0.
    constexpr double kLeast = 0x1p-960;
    check.require(m2 == 0 || (m2 >= kLeast && std::isfinite(m2)),
                  feature + " varies too " + (m2 < 1 ? "little" : "much") +
                      " for its variance to be a double; multiply its values by a power of 10, "
                      "so that they vary by 1e-140 to 1e150");
    result.std.push_back(std);
    result.scale.push_back(scale_of(std));
  }
  return result;
}

std::vector<std::int64_t> Standardization::constant_features() const {
  std::vector<std::int64_t> constant;
  for (std::size_t i = 0; i < std.size(); ++i) {
    if (std[i] == 0) constant.push_back(static_cast<std::int64_t>(i));
  }
  return constant;
}

template <class T>
void Standardization::apply(TensorView<const T> x, TensorView<T> y) const {
  Check check("standardization");
  check.shape("x", x);
  check_sizes(check, *this);
  check.same_shape("y", y, x.shape, {"x"});
  check.require(x.shape.c == features(), "x has " + std::to_string(x.shape.c) +
                                             " features, expected " + std::to_string(features()));
  auto* const coefficients = scratch<ChannelAffine<T>, Scratch::affine>(features());
  for (std::size_t i = 0; i < mean.size(); ++i) {
    coefficients[i] = {mean[i], 1 / static_cast<Extended<T>>(scale[i]), 1, 0};
  }
  with_channels<T>(x.shape, [&](const ChannelPasses<T>& channels) {
    channels.forward({.x = x.data,
                      .residual = nullptr,
                      .y = y.data,
                      .activation = Activation::none,
                      .non_temporal = exceeds_cache(2 * bytes_of<T>(x.shape))},
                     coefficients);
  });
}
#define EVENKEEL_INSTANTIATE(T) \
  template void Standardization::apply(TensorView<const T>, TensorView<T>) const;
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

void Standardization::save(std::ostream& out) const {
  Check check("standardization");
  check_sizes(check, *this);
  std::string text = std::string(kMagic) + " " + std::to_string(kFormat) + "\ncount " +
                     std::to_string(count) + "\nfeatures " + std::to_string(features()) +
                     "\nmean std scale\n";
  for (std::size_t i = 0; i < mean.size(); ++i) {
    text += exactly(mean[i]) + " " + exactly(std[i]) + " " + exactly(scale[i]) + "\n";
  }
  out << text;
  check.require(out.good(), "the statistics could not be written");
}

Standardization Standardization::load(std::istream& in) {
  const Check check("standardization");
  const auto expect = [&](const std::string& word) {
    std::string came;
    in >> came;
    check.require(came == word, "not a saved standardization: came '" + came + "' where '" + word +
                                    "' was expected");
  };
  const auto number = [&](auto& value) {
    std::string word;
    in >> word;
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, value);
    check.require(error == std::errc() && stop == end,
                  "not a saved standardization: came '" + word + "' where a number was expected");
  };
  expect(kMagic);
  expect(std::to_string(kFormat));
  Standardization result;
  std::int64_t features = 0;
  expect("count");
  number(result.count);
  expect("features");
  number(features);
  check.require(features >= 0 && result.count > 0,
                "a saved standardization with impossible counts");
  for (const char* word : {"mean", "std", "scale"}) expect(word);
  for (std::int64_t i = 0; i < features; ++i) {
    double mean = 0, std = 0, scale = 0;
    for (double* value : {&mean, &std, &scale}) number(*value);
    check.require(std::isfinite(mean) && std::isfinite(std) && std >= 0 && scale == scale_of(std),
                  "feature " + std::to_string(i) + " is damaged: mean " + exactly(mean) + ", std " +
                      exactly(std) + ", scale " + exactly(scale));
    result.mean.push_back(mean);
    result.std.push_back(std);
    result.scale.push_back(scale);
  }
  return result;
}

}  // namespace evenkeel
