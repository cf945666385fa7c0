#include "evenkeel/standardization.h"

#include <sstream>

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

// Three features: one plain, one constant, one with a large mean; in batches of every size.
struct DataSet {
  Shape shape{1000, 3};
  std::vector<float> x;
  ChannelMoments moments{3};

  DataSet() {
    const auto plain = random_values<float>(1000, -2, 3),
               large = random_values<float>(1000, 1e6, 5, 2);
    for (std::size_t i = 0; i < 1000; ++i) x.insert(x.end(), {plain[i], 0.7f, large[i]});
    for (std::int64_t n = 0, step = 1; n < 1000; n += step, step = step % 17 + 1) {
      moments.add(TensorView<const float>(x.data() + n * 3, {std::min(step, 1000 - n), 3}));
    }
  }
};

TEST(Standardization, StandardizesEachFeature) {
  for_each_target([] {
    const DataSet data;
    const auto standardization = Standardization::from(data.moments);
    EXPECT_EQ(standardization.count, 1000);
    EXPECT_EQ(standardization.constant_features(), (std::vector<std::int64_t>{1}));
    EXPECT_EQ(standardization.scale[1], 1);
    const auto expected = reference::batch_norm(data.shape, to_double(data.x), {}, {}, 0);
    std::vector<float> y(data.x.size());
    standardization.apply<float>(view(data.x, data.shape), view(y, data.shape));
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (i % 3 == 1) {
        EXPECT_EQ(y[i], 0);
      } else {
        // Rounding of the coefficients; batches are merged in double.
        EXPECT_NEAR(y[i], expected.y[i], 4 * sum_error<float>(17) * (1 + std::abs(expected.y[i])));
      }
    }
    auto in_place = data.x;
    standardization.apply<float>(view(in_place, data.shape), view(in_place, data.shape));
    EXPECT_EQ(in_place, y);
  });
}

TEST(Standardization, SavesAndLoadsExactly) {
  const auto before = Standardization::from(DataSet().moments);
  std::stringstream file;
  before.save(file);
  const auto after = Standardization::load(file);
  EXPECT_EQ(after.count, before.count);
  EXPECT_EQ(after.mean, before.mean);
  EXPECT_EQ(after.std, before.std);
  EXPECT_EQ(after.scale, before.scale);
}

TEST(Standardization, RefusesWhatIsNotOne) {
  std::stringstream saved;
  Standardization::from(DataSet().moments).save(saved);
  const std::string text = saved.str();
  for (const std::string& damaged :
       {std::string(), std::string("hello"), text.substr(0, text.size() - 30),
        "evenkeel-standardization 2" + text.substr(26), text.substr(0, 40) + "x" + text.substr(40),
        std::string("evenkeel-standardization 1\ncount 5\nfeatures 1\nmean std scale\n1 2 5\n")}) {
    std::stringstream file(damaged);
    EXPECT_THROW(Standardization::load(file), Error) << damaged.substr(0, 60);
  }
}

TEST(Standardization, RefusesNoSamplesAndNonFiniteFeatures) {
  expect_error([] { Standardization::from(ChannelMoments(2)); }, {"no samples"});
  ChannelMoments moments(2);
  const std::vector<float> x = {1, 2, 3, std::nanf("")};
  moments.add(view(x, {2, 2}));
  expect_error([&] { Standardization::from(moments); }, {"feature 1", "not finite"});
}

TEST(Standardization, RefusesOtherFeatures) {
  const auto standardization = Standardization::from(DataSet().moments);
  std::vector<float> x(8);
  expect_error(
      [&] {
        standardization.apply<float>(view(x, {2, 4}), view(x, {2, 4}));
      },
      {"x has 4 features, expected 3"});
}

}  // namespace
}  // namespace evenkeel::testing
