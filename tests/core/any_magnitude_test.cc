// Any finite input has the right statistics, outputs and gradients: random magnitudes, from the
// smallest subnormal number to the largest, against plain sums in 128 bits.
#include "tests/core/any_magnitude.h"

#include <map>

namespace evenkeel::testing {
namespace {

template <class T>
class AnyMagnitude : public ::testing::Test {};
TYPED_TEST_SUITE(AnyMagnitude, AllTypes, TypeName);

template <class T>
void take_statistics(auto& args, std::vector<double>& mean, std::vector<double>& rstd) {
  if constexpr (requires { args.mean; }) args.mean = mean;
  args.rstd = rstd;
}

// What an operation gave.
template <class T>
struct Results {
  std::vector<T> y, dx;
  std::vector<double> mean, rstd;
  std::vector<Wide<T>> dweight, dbias;

  explicit Results(const Problem<T>& p)
      : y(p.x.size()),
        dx(p.x.size()),
        mean(static_cast<std::size_t>(p.groups())),
        rstd(mean.size()),
        dweight(p.weight.size()),
        dbias(p.weight.size()) {}
};

template <class T>
Results<T> run(const Problem<T>& p) {
  Results<T> r(p);
  const auto set_forward = [&](auto args) {
    args.x = view(p.x, p.shape);
    args.weight = p.weight;
    if constexpr (requires { args.bias; }) args.bias = p.bias;
    take_statistics<T>(args, r.mean, r.rstd);
    args.y = view(r.y, p.shape);
    return args;
  };
  const auto set_backward = [&](auto args) {
    args.dy = view(p.dy, p.shape);
    args.x = view(p.x, p.shape);
    args.weight = p.weight;
    if constexpr (requires { args.bias; }) args.bias = p.bias;
    take_statistics<T>(args, r.mean, r.rstd);
    args.dx = view(r.dx, p.shape);
    args.dweight = r.dweight;
    if constexpr (requires { args.dbias; }) args.dbias = r.dbias;
    return args;
  };
  switch (p.kind) {
    case Kind::batch:
      batch_norm_forward<T>(set_forward(BatchNormForward<T>()),
                            {.eps = p.eps, .activation = p.activation});
      batch_norm_backward<T>(set_backward(BatchNormBackward<T>()), {.activation = p.activation});
      break;
    case Kind::group: {
      const GroupNormOptions options{.groups = 2, .eps = p.eps, .activation = p.activation};
      group_norm_forward<T>(set_forward(GroupNormForward<T>()), options);
      group_norm_backward<T>(set_backward(GroupNormBackward<T>()), options);
      break;
    }
    case Kind::instance:
      instance_norm_forward<T>(set_forward(InstanceNormForward<T>()), {.eps = p.eps});
      instance_norm_backward<T>(set_backward(InstanceNormBackward<T>()));
      break;
    case Kind::layer:
      layer_norm_forward<T>(set_forward(LayerNormForward<T>()), {.eps = p.eps});
      layer_norm_backward<T>(set_backward(LayerNormBackward<T>()));
      break;
    case Kind::rms:
      rms_norm_forward<T>(set_forward(RmsNormForward<T>()), {.eps = p.eps});
      rms_norm_backward<T>(set_backward(RmsNormBackward<T>()));
      break;
  }
  return r;
}

template <class T>
void expect_right(const Problem<T>& p, const Expected<T>& expected, const Results<T>& r) {
  const std::vector<double> no_mean;
  expect_within(p.kind == Kind::rms ? no_mean : r.mean, expected.mean, "mean");
  expect_within(r.rstd, expected.rstd, "rstd");
  expect_within(r.y, expected.y, "y");
  expect_within(r.dx, expected.dx, "dx");
  expect_within(r.dweight, expected.dweight, "dweight");
  if (p.kind != Kind::rms) expect_within(r.dbias, expected.dbias, "dbias");
}

TYPED_TEST(AnyMagnitude, Normalizations) {
  using T = TypeParam;
  const std::map<Kind, std::vector<Shape>> shapes = {
      {Kind::batch,
       {{3, 4, 5}, {3, 4, 5, Layout::channels_last}, {40, 6, 1}, {2, 3, 600}, {30, 1, 7}}},
      {Kind::group, {{3, 4, 5}, {3, 4, 5, Layout::channels_last}, {5, 64, 1}, {2, 4, 600}}},
      {Kind::instance, {{3, 4, 15}, {3, 4, 15, Layout::channels_last}, {2, 3, 600}}},
      {Kind::layer, {{9, 8, 1}, {5, 40, 1}, {3, 300, 1}, {2, 5000, 1}, {2, 16500, 1}}},
      {Kind::rms, {{9, 8, 1}, {5, 40, 1}, {3, 300, 1}, {2, 5000, 1}, {2, 16500, 1}}}};
  int ambiguous = 0, cases = 0;
  for (const auto& [kind, of_kind] : shapes) {
    for (const Shape& shape : of_kind) {
      for (unsigned seed = 1; seed <= (shape.size() > 1000 ? 12 : 60); ++seed) {
        const Problem<T> p(kind, shape, seed);
        SCOPED_TRACE(p.name());
        const Expected<T> expected(p);
        ++cases;
        if (expected.is_ambiguous) {
          ++ambiguous;
          continue;
        }
        for_each_target([&] { expect_right(p, expected, run(p)); });
        if (this->HasFailure()) return;
      }
    }
  }
  // Those with a value at a kink of its activation.
  EXPECT_LE(ambiguous, cases / 4);
}

// Exactly the values that users reported of other libraries.
TYPED_TEST(AnyMagnitude, ReportedValues) {
  using T = TypeParam;
  for (const double scale : {1e20, 8e37, 1e154, 1e200, 4e307}) {
    if (scale * 4 > static_cast<double>(std::numeric_limits<Wide<T>>::max()) ||
        std::is_same_v<T, Float16>) {
      continue;
    }
    SCOPED_TRACE(scale);
    std::vector<T> x, y(4);
    for (const double v : {1.0, 2.0, 3.0, 4.0}) x.push_back(from_double<T>(v * scale));
    const auto expect_normalized = [&] {
      const double expected[] = {-1.3416407864998738, -0.4472135954999579, 0.4472135954999579,
                                 1.3416407864998738};
      for (std::size_t i = 0; i < 4; ++i) {
        // x itself may be rounded to 8 bits.
        EXPECT_NEAR(to_double(y[i]), expected[i], kIs16Bit<T> ? 0.02 : 8 * unit<T>());
      }
    };
    for_each_target([&] {
      layer_norm_forward<T>({.x = view(x, {1, 4}), .y = view(y, {1, 4})});
      expect_normalized();
      for (const Shape& shape : {Shape{4, 1, 1}, Shape{1, 1, 4}, Shape{2, 1, 2}}) {
        batch_norm_forward<T>({.x = view(x, shape), .y = view(y, shape)});
        expect_normalized();
        // In place of x, which the first pass must have left as it was.
        y = x;
        batch_norm_forward<T>({.x = view(y, shape), .y = view(y, shape)});
        expect_normalized();
      }
    });
  }
}

// The saved mean does not limit the gradients: at mean 1e6 and standard deviation 1, dx is as
// right as at mean 0.
TEST(LargeMean, GradientsAreRight) {
  for (const Kind kind : {Kind::batch, Kind::group, Kind::instance, Kind::layer}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape = kind == Kind::layer ? Shape{8, 300, 1} : Shape{4, 6, 50, layout};
      Problem<float> p(kind, shape, 1);
      p.x = random_values<float>(shape.size(), 1e6, 1, 7);
      p.dy = random_values<float>(shape.size(), 0, 1, 8);
      p.eps = 1e-5;
      p.activation = Activation::none;
      SCOPED_TRACE(p.name());
      const Expected<float> expected(p);
      for_each_target([&] {
        const Results<float> r = run(p);
        expect_right(p, expected, r);
        for (std::size_t i = 0; i < r.dx.size(); ++i) {
          ASSERT_NEAR(r.dx[i], static_cast<double>(expected.dx[i].value),
                      4e-6 * expected.largest_weight);  // with a float's mean it is 0.05
        }
      });
    }
  }
}

TYPED_TEST(AnyMagnitude, LocalResponse) {
  using T = TypeParam;
  const std::vector<LocalResponseNormOptions> all = {LocalResponseNormOptions::paper(),
                                                     {2, 2, 1, 0.5, 1},
                                                     {1, 0, 1e-3, 0.6, 0},
                                                     {0, 3, 2, 1, 1e-20},
                                                     {1, 1, 1, 3, 1e3},
                                                     {2, 1, 0, 0.75, 2},
                                                     {2, 1, 0.5, 0, 2}};
  for (const LocalResponseNormOptions& options : all) {
    for (const Shape& shape :
         {Shape{2, 7, 5}, Shape{2, 7, 5, Layout::channels_last}, Shape{2, 7, 700}}) {
      for (unsigned seed = 1; seed <= 20; ++seed) {
        const Problem<T> p(Kind::layer, shape, seed);
        SCOPED_TRACE(p.name() + " beta " + std::to_string(options.beta));
        const ExpectedResponse<T> expected(p, options);
        std::vector<T> y(p.x.size()), dx(p.x.size());
        for_each_target([&] {
          local_response_norm_forward<T>({.x = view(p.x, shape), .y = view(y, shape)}, options);
          local_response_norm_backward<T>(
              {.dy = view(p.dy, shape), .x = view(p.x, shape), .dx = view(dx, shape)}, options);
          expect_within(y, expected.y, "y");
          expect_within(dx, expected.dx, "dx");
          y = p.x;
          local_response_norm_forward<T>({.x = view(y, shape), .y = view(y, shape)}, options);
          expect_within(y, expected.y, "y in place of x");
        });
        if (this->HasFailure()) return;
      }
    }
  }
}

// Options that float does not hold, and gradients whose terms would overflow on the way.
TEST(LocalResponseNorm, UnusualOptions) {
  struct Case {
    float x, dy;
    LocalResponseNormOptions options;
  };
  for (const Case& c :
       {Case{1e-20F, 1, {1, 1, 1e40, 0.75, 1}}, Case{1e7F, 6e32F, {1, 1, 1e-14, 0.75, 1}},
        Case{1e-15F, 1, {1, 1, 1e20, 0.75, 1e-30}}, Case{3, 2, {1, 1, 1e-60, 2, 0.5}}}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      Problem<float> p(Kind::layer, {1, 1, 9, layout}, 1);
      std::ranges::fill(p.x, c.x);
      std::ranges::fill(p.dy, c.dy);
      const ExpectedResponse<float> expected(p, c.options);
      std::vector<float> y(9), dx(9);
      for_each_target([&] {
        local_response_norm_forward<float>({.x = view(p.x, p.shape), .y = view(y, p.shape)},
                                           c.options);
        local_response_norm_backward<float>(
            {.dy = view(p.dy, p.shape), .x = view(p.x, p.shape), .dx = view(dx, p.shape)},
            c.options);
        expect_within(y, expected.y, "y");
        expect_within(dx, expected.dx, "dx");
      });
    }
  }
}

// A value before the activation that overflows: silu and hardswish of it are 0 or infinity, and
// their derivatives 0 or 1.
TEST(Gates, OfValuesThatOverflow) {
  const std::vector<float> x = {-3e38F, 3e38F, -3e38F, 3e38F}, mean(1), var(1, 1), weight(1, 1e3F),
                           bias(1);
  const std::vector<double> saved_mean(1), rstd(1, 1);
  const std::vector<float> dy(4, 2);
  for (const Activation& activation : {Activation::silu, Activation::hardswish}) {
    for (const Shape& shape : {Shape{4, 1, 1}, Shape{1, 1, 4}}) {
      std::vector<float> y(4), dresidual(4);
      for_each_target([&] {
        batch_norm_inference<float>(
            {.x = view(x, shape), .weight = weight, .mean = mean, .var = var, .y = view(y, shape)},
            {.activation = activation});
        batch_norm_backward<float>({.dy = view(dy, shape),
                                    .x = view(x, shape),
                                    .weight = weight,
                                    .bias = bias,
                                    .mean = saved_mean,
                                    .rstd = rstd,
                                    .dresidual = view(dresidual, shape)},
                                   {.statistics = Statistics::given, .activation = activation});
        for (std::size_t i = 0; i < 4; ++i) {
          EXPECT_EQ(y[i], i % 2 == 0 ? 0 : HUGE_VALF);
          EXPECT_EQ(dresidual[i], i % 2 == 0 ? 0 : 2);
        }
      });
    }
  }
}

// Without any response, and without an exponent, dx is dy.
TEST(LocalResponseNorm, ZeroBaseWithoutExponent) {
  const std::vector<float> x(12, 0), dy = random_values<float>(12);
  std::vector<float> y(12, 1), dx(12);
  for_each_target([&] {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      const Shape shape{1, 4, 3, layout};
      const LocalResponseNormOptions options{1, 1, 1, 0, 0};
      local_response_norm_forward<float>({.x = view(x, shape), .y = view(y, shape)}, options);
      local_response_norm_backward<float>(
          {.dy = view(dy, shape), .x = view(x, shape), .dx = view(dx, shape)}, options);
      expect_same(y, x, "y");
      expect_same(dx, dy, "dx");
    }
  });
}

TYPED_TEST(AnyMagnitude, Moments) {
  using T = TypeParam;
  for (const Shape& shape :
       {Shape{3, 4, 5}, Shape{3, 4, 5, Layout::channels_last}, Shape{2, 3, 600}, Shape{70, 5, 1}}) {
    for (unsigned seed = 1; seed <= 60; ++seed) {
      Problem<T> p(Kind::batch, shape, seed);
      p.eps = 0;
      SCOPED_TRACE(p.name());
      const Expected<T> expected(p);
      for_each_target([&] {
        ChannelMoments moments(shape.c);
        moments.add(view(p.x, shape));
        std::vector<Moments> one_by_one(static_cast<std::size_t>(shape.c));
        for (std::size_t i = 0; i < p.x.size(); ++i) {
          one_by_one[channel_of(shape, i)].add(to_double(p.x[i]));
        }
        std::vector<double> mean, m2;
        for (const Moments& m : one_by_one) {
          mean.push_back(m.mean);
          m2.push_back(m.m2);
        }
        expect_within(std::vector<double>(moments.mean().begin(), moments.mean().end()),
                      expected.mean, "mean");
        expect_within(std::vector<double>(moments.m2().begin(), moments.m2().end()), expected.m2,
                      "M2");
        expect_within(mean, expected.mean, "mean, one by one");
        expect_within(m2, expected.m2, "M2, one by one");
      });
      if (this->HasFailure()) return;
    }
  }
}

TYPED_TEST(AnyMagnitude, Standardization) {
  using T = TypeParam;
  for (const double scale : {1e-38, 1e-30, 1e-6, 1.0, 1e19, 4e37, 1e-140, 1e150}) {
    std::vector<T> x, y(12);
    for (int i = 0; i < 12; ++i) x.push_back(from_double<T>((i % 4 + 1) * scale));
    if (to_double(x[3]) == 0 || to_double(x[0]) * 2 != to_double(x[1]) ||
        std::isinf(to_double(x[3]))) {
      continue;  // not numbers of T
    }
    SCOPED_TRACE(scale);
    for_each_target([&] {
      ChannelMoments moments(1);
      moments.add(view(x, {12, 1}));
      const auto standardization = Standardization::from(moments);
      EXPECT_TRUE(standardization.constant_features().empty());
      standardization.apply<T>(view(std::as_const(x), {12, 1}), view(y, {12, 1}));
      EXPECT_NEAR(to_double(y[0]), -1.3416407864998738, kIs16Bit<T> ? 0.02 : 8 * unit<T>());
      EXPECT_NEAR(to_double(y[2]), 0.4472135954999579, kIs16Bit<T> ? 0.02 : 8 * unit<T>());
    });
  }
}

// One large value in a column is no reason to look for NaN.
TEST(Standardization, OneLargeValue) {
  std::vector<float> x(100, 1), y(100);
  x[40] = 9.97e36F;
  ChannelMoments moments(1);
  moments.add(view(std::as_const(x), {100, 1}));
  const auto standardization = Standardization::from(moments);
  standardization.apply<float>(view(std::as_const(x), {100, 1}), view(y, {100, 1}));
  // One of n values stands sqrt(n - 1) standard deviations above the mean.
  EXPECT_NEAR(y[40], std::sqrt(99.0), 1e-5);
  EXPECT_NEAR(y[0], -1 / std::sqrt(99.0), 1e-7);
}

TEST(ChannelMoments, BeyondDoubleAreRefused) {
  const std::vector<double> x = {1e200, 2e200, 3e200, 4e200};
  std::vector<double> y(4), weight(1), bias(1);
  ChannelMoments moments(1);
  moments.add(view(x, {4, 1}));
  expect_error(
      [&] {
        batch_norm_forward<double>({.x = view(x, {4, 1}), .y = view(y, {4, 1})}, moments);
      },
      {"batch_norm: ", "channel 0", "exceeds a double"});
  expect_error([&] { batch_norm_identity_init<double>(moments, 1e-5, weight, bias); },
               {"batch_norm_identity_init: ", "exceeds a double"});
}

// What double cannot hold is an Error that says so, and not taken for a constant.
TEST(Standardization, BeyondDouble) {
  for (const double scale : {1e200, 1e-200}) {
    const std::vector<double> x = {scale, 2 * scale, 4 * scale};
    ChannelMoments moments(1);
    moments.add(view(x, {3, 1}));
    expect_error([&] { Standardization::from(moments); }, {"feature 0", "multiply"});
  }
}

}  // namespace
}  // namespace evenkeel::testing
