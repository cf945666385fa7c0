#include "evenkeel/standardization.h"

#include <cmath>
#include <iomanip>
#include <istream>
#include <limits>
#include <ostream>
#include <string>

#include "src/channels.h"
#include "src/check.h"

namespace evenkeel {
namespace {

constexpr const char* kMagic = "evenkeel-standardization";
constexpr int kFormat = 1;

}  // namespace

Standardization Standardization::from(const ChannelMoments& moments) {
  const Check check("standardization");
  check.require(moments.count() > 0, "there are no samples, expected at least one");
  Standardization result;
  result.count = static_cast<std::int64_t>(moments.count());
  result.mean.assign(moments.mean().begin(), moments.mean().end());
  for (std::int64_t c = 0; c < moments.channels(); ++c) {
    const double std = std::sqrt(moments.biased_variance(c));
    check.require(std::isfinite(result.mean[static_cast<std::size_t>(c)]) && std::isfinite(std),
                  "feature " + std::to_string(c) +
                      " has statistics that are not finite; remove its NaN and infinite values");
    result.std.push_back(std);
    result.scale.push_back(std == 0 ? 1 : std);
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
  const Check check("standardization");
  check.shape("x", x);
  check.same_shape("y", y, x.shape);
  check.require(x.shape.c == features(), "x has " + std::to_string(x.shape.c) +
                                             " features, expected " + std::to_string(features()));
  with_channels<T>(x.shape, [&](const auto& channels) {
    channels.affine(x.data, y.data, [&](std::int64_t c) {
      const auto i = static_cast<std::size_t>(c);
      const auto center = static_cast<Stat<T>>(mean[i]);
      return Affine<Stat<T>>{
          center, static_cast<Stat<T>>(1 / scale[i]),
          static_cast<Stat<T>>((static_cast<double>(center) - mean[i]) / scale[i])};
    });
  });
}
template void Standardization::apply(TensorView<const float>, TensorView<float>) const;
template void Standardization::apply(TensorView<const double>, TensorView<double>) const;

void Standardization::save(std::ostream& out) const {
  out << kMagic << ' ' << kFormat << '\n'
      << "count " << count << "\nfeatures " << features() << "\nmean std scale\n"
      << std::setprecision(std::numeric_limits<double>::max_digits10);
  for (std::size_t i = 0; i < mean.size(); ++i) {
    out << mean[i] << ' ' << std[i] << ' ' << scale[i] << '\n';
  }
  Check("standardization").require(out.good(), "the statistics could not be written");
}

Standardization Standardization::load(std::istream& in) {
  const Check check("standardization");
  const auto expect = [&](const std::string& word) {
    std::string came;
    in >> came;
    check.require(came == word, "not a saved standardization: came '" + came + "' where '" + word +
                                    "' was expected");
  };
  expect(kMagic);
  expect(std::to_string(kFormat));
  Standardization result;
  std::int64_t features = -1;
  expect("count");
  in >> result.count;
  expect("features");
  in >> features;
  check.require(in.good() && features >= 0 && result.count > 0,
                "not a saved standardization: the counts are damaged");
  for (const char* word : {"mean", "std", "scale"}) expect(word);
  for (std::int64_t i = 0; i < features; ++i) {
    double mean = 0, std = 0, scale = 0;
    in >> mean >> std >> scale;
    check.require(!in.fail() && std >= 0 && scale > 0, "feature " + std::to_string(i) +
                                                           " is missing or damaged, expected " +
                                                           std::to_string(features) + " features");
    result.mean.push_back(mean);
    result.std.push_back(std);
    result.scale.push_back(scale);
  }
  return result;
}

}  // namespace evenkeel
