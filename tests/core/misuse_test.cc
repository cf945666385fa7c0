// Misuse that is the same for every operation: what is absent, shapes that cannot be, and numbers
// in messages.
#include <functional>
#include <sstream>
#include <utility>

#include "tests/core/testing.h"

namespace evenkeel::testing {
namespace {

using Tensor = TensorView<const float>;
using Output = TensorView<float>;
using OnXAndY = std::function<void(Tensor, Output)>;

// Every operation that needs an input and an output of the same shape, of three channels.
std::vector<std::pair<std::string, OnXAndY>> operations() {
  static const std::vector<float> three(3, 1);
  return {
      {"batch_norm", [](Tensor x, Output y) { batch_norm_forward<float>({.x = x, .y = y}); }},
      {"batch_norm",
       [](Tensor x, Output y) { batch_norm_forward<float>({.x = x, .weight = three, .y = y}); }},
      {"batch_norm_inference",
       [](Tensor x, Output y) {
         batch_norm_inference<float>({.x = x, .mean = three, .var = three, .y = y});
       }},
      {"layer_norm", [](Tensor x, Output y) { layer_norm_forward<float>({.x = x, .y = y}); }},
      {"rms_norm", [](Tensor x, Output y) { rms_norm_forward<float>({.x = x, .y = y}); }},
      {"group_norm",
       [](Tensor x, Output y) { group_norm_forward<float>({.x = x, .y = y}, {.groups = 3}); }},
      {"instance_norm", [](Tensor x, Output y) { instance_norm_forward<float>({.x = x, .y = y}); }},
      {"local_response_norm",
       [](Tensor x, Output y) { local_response_norm_forward<float>({.x = x, .y = y}); }},
      {"batch_norm_backward",
       [](Tensor x, Output y) {
         batch_norm_backward<float>({.dy = y, .x = x, .mean = {}, .rstd = {}});
       }},
      {"layer_norm_backward",
       [](Tensor x, Output y) { layer_norm_backward<float>({.dy = y, .x = x}); }},
      {"rms_norm_backward",
       [](Tensor x, Output y) { rms_norm_backward<float>({.dy = y, .x = x}); }},
      {"local_response_norm_backward", [](Tensor x, Output y) {
         local_response_norm_backward<float>({.dy = y, .x = x, .dx = y});
       }}};
}

TEST(Misuse, AnAbsentXIsToBlame) {
  std::vector<float> y(24);
  for (const auto& [name, call] : operations()) {
    expect_error([&] { call({}, view(y, {4, 3, 2})); }, {name + ": x is absent"});
  }
}

TEST(Misuse, AnAbsentOutputIsNamed) {
  const std::vector<float> x(24);
  for (const auto& [name, call] : operations()) {
    if (name == "batch_norm_backward") continue;  // its statistics are checked before
    expect_error(
        [&] {
          call(view(x, {4, 3, 2}), {});
        },
        {name + ": ", "y is absent, expected (N=4, C=3, S=2)"});
  }
}

// Sizes whose product is 0 in 64 bits, or negative, or fits only until it is multiplied by the size
// of an element, or is hidden by a dimension of 0.
TEST(Misuse, ShapesThatCannotBeCountedAreRefused) {
  constexpr std::int64_t big = std::int64_t{1} << 32, most = std::int64_t{1} << 62;
  for (const Shape& shape : {Shape{big, 3, big}, Shape{most, 3, 4}, Shape{big, 3, big / 2},
                             Shape{big, 3, big / 16}, Shape{0, 3, most}, Shape{most, 3, 0}}) {
    std::vector<float> some(24);
    for (float* data : {some.data(), static_cast<float*>(nullptr)}) {
      for (const auto& [name, call] : operations()) {
        expect_error(
            [&] {
              call({data, shape}, {data, shape});
            },
            {name + ": x has the shape (N=" + std::to_string(shape.n), "below 2^63"});
      }
    }
    // An optional argument of such a shape is not absent.
    expect_error(
        [&] {
          layer_norm_forward<float>({.x = view(std::as_const(some), {4, 3, 2}),
                                     .residual = {nullptr, {big, 1, big}},
                                     .y = view(some, {4, 3, 2})});
        },
        {"layer_norm: residual has the shape (N=4294967296"});
    ChannelMoments moments(3);
    expect_error([&] { moments.add(Tensor(some.data(), shape)); },
                 {"channel_moments", "below 2^63"});
    EXPECT_EQ(moments.count(), 0);
  }
  expect_error(
      [] {
        group_norm_forward<float>({.x = {nullptr, {4, 0, 1}}, .y = {nullptr, {4, 0, 1}}},
                                  {.groups = most});
      },
      {"group_norm: groups is 4611686018427387904"});
}

// As few digits as tell the number from its neighbors: by "%f", 1e-12 would show as 0.000000.
TEST(Misuse, NumbersInMessagesAreThoseThatCame) {
  std::vector<float> y(24);
  const std::vector<float> values(24), three(3, 1);
  const auto x = view(values, {4, 3, 2});
  const auto batch_norm = [&](const BatchNormOptions& options) {
    std::vector<float> mean(3), var(3);
    batch_norm_forward<float>(
        {.x = x, .running = {.mean = mean, .var = var}, .y = view(y, {4, 3, 2})}, options);
  };
  expect_error([&] { batch_norm({.eps = -1e-12}); }, {"eps is -1e-12,"});
  expect_error([&] { batch_norm({.update = RunningUpdate::moving_average(1.00000001)}); },
               {"new_batch_weight is 1.00000001,"});
  expect_error([&] { batch_norm({.activation = Activation::hardtanh(1e-9, -1e300)}); },
               {"the bounds 1e-09 and -1e+300,"});
  expect_error([&] { batch_norm({.activation = Activation::leaky_relu(HUGE_VAL)}); },
               {"the slope inf,"});
  expect_error(
      [&] {
        local_response_norm_forward<float>({.x = x, .y = view(y, {4, 3, 2})},
                                           {.alpha = 1e-9, .beta = HUGE_VAL, .k = 1e20});
      },
      {"alpha is 1e-09, beta inf, k 1e+20,"});
  ChannelMoments one(3);
  one.add(Tensor(values.data(), {1, 3}));
  expect_error(
      [&] {
        batch_norm_forward<float>({.x = x, .y = view(y, {4, 3, 2})}, one);
      },
      {"the moments are of 1 values per channel"});
  const std::vector<double> sums(3), saved(3, 1);
  expect_error(
      [&] {
        batch_norm_backward<float>({.dy = x, .x = x, .mean = saved, .rstd = saved},
                                   {.dy = sums, .dy_x = sums}, 1e-7);
      },
      {"the count is 1e-07,"});
}

// The members of a Standardization are public.
TEST(Misuse, AStandardizationOfUnequalSizes) {
  const std::vector<float> values(24);
  std::vector<float> y(24);
  for (Standardization s : {Standardization{1, {0, 0, 0}, {1, 1}, {1, 1, 1}},
                            Standardization{1, {0, 0, 0}, {1, 1, 1}, {}}}) {
    const std::string wrong = s.std.size() != 3 ? "std has 2" : "scale has 0";
    expect_error(
        [&] {
          s.apply(view(values, {8, 3}), view(y, {8, 3}));
        },
        {"standardization: " + wrong + " elements, expected 3 (features)"});
    std::ostringstream out;
    expect_error([&] { s.save(out); }, {"standardization: " + wrong});
  }
}

}  // namespace
}  // namespace evenkeel::testing
