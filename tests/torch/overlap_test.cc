// Tensors that share memory where one of them is written to.
#include "evenkeel/torch.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

const std::vector<std::int64_t> shape = {3, 6, 4};
const std::vector<std::int64_t> features = {4};
constexpr std::int64_t size = 72;

// Memory, and x and another tensor of its shape in it, `shift` elements on.
struct Shifted {
  torch::Tensor memory, x, other;
  explicit Shifted(std::int64_t shift)
      : memory(random({2 * size}, torch::kFloat32)),
        x(memory.narrow(0, 0, size).view(shape)),
        other(memory.narrow(0, shift, size).view(shape)) {}
};

using WithResidual = std::function<torch::Tensor(const torch::Tensor& x, const torch::Tensor& r)>;
std::vector<std::pair<std::string, WithResidual>> with_residual(bool in_place) {
  return {{"batch_norm",
           [=](const torch::Tensor& x, const torch::Tensor& r) {
             return batch_norm(x, {}, {}, {}, Statistics::batch, {}, r, in_place);
           }},
          {"batch_norm",
           [=](const torch::Tensor& x, const torch::Tensor& r) {
             const RunningTensors running{torch::zeros({6}), torch::ones({6}), {}};
             return batch_norm(x, {}, {}, running, Statistics::given, {}, r, in_place);
           }},
          {"layer_norm",
           [=](const torch::Tensor& x, const torch::Tensor& r) {
             return layer_norm_residual(x, r, features, {}, {}, 1e-5, in_place).y;
           }},
          {"rms_norm", [=](const torch::Tensor& x, const torch::Tensor& r) {
             return rms_norm_residual(x, r, features, {}, {}, in_place).y;
           }}};
}

TEST(TorchOverlap, AResidualThatIsXShiftedIsRefusedInPlace) {
  const torch::NoGradGuard no_grad;
  for (const auto& [op, call] : with_residual(true)) {
    SCOPED_TRACE(op);
    for (const std::int64_t shift : {std::int64_t{1}, size / 2, size - 1}) {
      const Shifted shifted(shift);
      const auto before = shifted.memory.clone();
      expect_error([&] { call(shifted.x, shifted.other); },
                   {op + ": x (in_place) is written to and shares memory with residual",
                    "exactly that of residual", "clone()"});
      expect_error([&] { call(shifted.other, shifted.x); }, {"shares memory with residual"});
      EXPECT_TRUE(torch::equal(shifted.memory, before));
    }
  }
}

TEST(TorchOverlap, ElsewhereASharedResidualIsRight) {
  const torch::NoGradGuard no_grad;
  const auto all_in_place = with_residual(true), all_apart = with_residual(false);
  for (std::size_t i = 0; i < all_apart.size(); ++i) {
    const auto& [op, in_place] = all_in_place[i];
    const auto& apart = all_apart[i].second;
    SCOPED_TRACE(op);
    // Side by side, the very same, and, where nothing is written over them, shifted.
    for (const std::int64_t shift : {size, std::int64_t{0}}) {
      const Shifted shifted(shift), copied(shift);
      const auto expected = apart(copied.x.clone(), copied.other.clone());
      EXPECT_TRUE(torch::equal(in_place(shifted.x, shifted.other), expected));
      EXPECT_TRUE(torch::equal(shifted.x, expected));
    }
    const Shifted shifted(1);
    const auto expected = apart(shifted.x.clone(), shifted.other.clone());
    EXPECT_TRUE(torch::equal(apart(shifted.x, shifted.other), expected));
  }
}

TEST(TorchOverlap, ParametersInTheMemoryOfXAreRefusedInPlace) {
  const torch::NoGradGuard no_grad;
  const auto refused = [](const std::string& op, const std::string& argument, auto&& call) {
    const auto x = random(shape, torch::kFloat32), before = x.clone();
    // Six channels, or four features.
    const auto six = x.flatten().narrow(0, 7, 6), four = x.flatten().narrow(0, 7, 4);
    expect_error([&] { call(x, six, four); },
                 {op + ": x (in_place) is written to and shares memory with " + argument});
    EXPECT_TRUE(torch::equal(x, before));
  };
  using Tensor = torch::Tensor;
  refused("batch_norm", "weight", [](const Tensor& x, const Tensor& six, const Tensor&) {
    batch_norm(x, six, {}, {}, Statistics::batch, {}, {}, true);
  });
  refused("batch_norm", "bias", [](const Tensor& x, const Tensor& six, const Tensor&) {
    batch_norm(x, {}, six, {}, Statistics::batch, {}, {}, true);
  });
  refused("batch_norm", "running mean", [](const Tensor& x, const Tensor& six, const Tensor&) {
    batch_norm(x, {}, {}, {six, torch::ones({6}), {}}, Statistics::given, {}, {}, true);
  });
  refused("batch_norm", "running var", [](const Tensor& x, const Tensor& six, const Tensor&) {
    batch_norm(x, {}, {}, {torch::ones({6}), six, {}}, Statistics::given, {}, {}, true);
  });
  refused("group_norm", "weight", [](const Tensor& x, const Tensor& six, const Tensor&) {
    nn::group_norm(x, six, {}, {.groups = 2}, true);
  });
  refused("instance_norm", "bias", [](const Tensor& x, const Tensor& six, const Tensor&) {
    nn::instance_norm(x, {}, six, {}, Statistics::batch, {}, true);
  });
  refused("layer_norm", "weight", [](const Tensor& x, const Tensor&, const Tensor& four) {
    nn::layer_norm(x, features, four, {}, 1e-5, true);
  });
  refused("rms_norm", "weight", [](const Tensor& x, const Tensor&, const Tensor& four) {
    nn::rms_norm(x, features, four, {}, true);
  });
  // The sum goes over the residual.
  const auto x = random(shape, torch::kFloat32), residual = random(shape, torch::kFloat32, 2);
  expect_error(
      [&] {
        layer_norm_residual(x, residual, features, residual.flatten().narrow(0, 8, 4), {}, 1e-5,
                            true);
      },
      {"layer_norm: residual (in_place) is written to and shares memory with weight"});
}

// A parameter of another type is copied for the computation, but it would be overwritten.
TEST(TorchOverlap, ParametersOf16BitsAreNotOverwrittenEither) {
  const torch::NoGradGuard no_grad;
  const auto x = random(shape, torch::kBFloat16), before = x.clone();
  expect_error([&] { nn::layer_norm(x, features, x.flatten().narrow(0, 0, 4), {}, 1e-5, true); },
               {"shares memory with weight"});
  EXPECT_TRUE(torch::equal(x, before));
}

TEST(TorchOverlap, RunningStatisticsThatShareMemoryAreRefused) {
  const auto memory = torch::ones({20});
  const auto mean = memory.narrow(0, 0, 6), var = memory.narrow(0, 5, 6);
  const auto x = random(shape, torch::kFloat32);
  const BatchNormOptions moving{.update = RunningUpdate::moving_average(0.5)};
  for (const auto statistics : {Statistics::batch, Statistics::given}) {
    expect_error(
        [&] {
          batch_norm(x, {}, {}, {mean, var, {}}, statistics, moving);
        },
        {"running", "mean", "var"});
    expect_error(
        [&] {
          batch_norm(x, mean, {}, {mean, torch::ones({6}), {}}, statistics, moving);
        },
        {"running", "mean", "weight"});
    expect_error(
        [&] {
          batch_norm(x, {}, var, {torch::ones({6}), var, {}}, statistics, moving);
        },
        {"running", "var", "bias"});
  }
  expect_error(
      [&] {
        nn::instance_norm(x, {}, {}, {mean, var, {}}, Statistics::batch, {.update = moving.update});
      },
      {"instance_norm: running.var overlaps running.mean"});
  EXPECT_TRUE(torch::equal(memory, torch::ones({20})));
  // Only read, they may.
  EXPECT_NO_THROW(batch_norm(x, mean, {}, {mean, var, {}}, Statistics::given));
}

// An x whose elements share memory is not dense, so it is copied and left alone.
TEST(TorchOverlap, AnXThatOverlapsItselfIsLeftAlone) {
  const torch::NoGradGuard no_grad;
  const auto values = random({size}, torch::kFloat32);
  for (const auto& x :
       {values.narrow(0, 0, 4).expand(shape), values.as_strided(shape, {8, 2, 1})}) {
    const auto before = values.clone();
    for (const auto& [op, call] : with_residual(true)) {
      const auto expected = call(x.clone(), x.clone());
      EXPECT_TRUE(torch::equal(call(x, x.clone()), expected)) << op;
      EXPECT_TRUE(torch::equal(values, before)) << op;
    }
  }
  // Nor are running statistics that overlap themselves moved.
  expect_error(
      [] {
        batch_norm(torch::ones(shape), {}, {}, {torch::ones({1}).expand(6), torch::ones({6}), {}},
                   Statistics::batch, {.update = RunningUpdate::moving_average(0.5)});
      },
      {"running statistics are not contiguous"});
}

}  // namespace
}  // namespace evenkeel::nn::testing
