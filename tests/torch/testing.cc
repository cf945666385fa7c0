#include "tests/torch/testing.h"

#include <ATen/CPUGeneratorImpl.h>

#include "evenkeel/error.h"

namespace evenkeel::nn::testing {

std::string name_of(Arrangement arrangement) {
  switch (arrangement) {
    case Arrangement::contiguous:
      return "contiguous";
    case Arrangement::channels_last:
      return "channels_last";
    default:
      return "strided";
  }
}

torch::Tensor arranged(const torch::Tensor& x, Arrangement arrangement) {
  switch (arrangement) {
    case Arrangement::channels_last:
      return x.movedim(1, -1).contiguous().movedim(-1, 1).detach();
    case Arrangement::strided:
      return x.repeat_interleave(2, -1).slice(-1, 0, 2 * x.size(-1), 2).detach();
    default:
      return x.clone();
  }
}

torch::Tensor random(torch::IntArrayRef sizes, torch::ScalarType dtype, std::uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return torch::randn(sizes, generator, torch::kFloat64).mul_(2).add_(0.5).to(dtype);
}

void randomize_parameters(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  std::uint64_t seed = 50;
  for (auto& parameter : module.parameters()) {
    parameter.copy_(random(parameter.sizes(), torch::kFloat64, seed++));
  }
}

std::string name_of(const Activation& activation) {
  switch (activation.kind) {
    case Activation::Kind::leaky_relu:
      return c10::str("leaky_relu ", activation.slope);
    case Activation::Kind::silu:
      return "silu";
    case Activation::Kind::hardswish:
      return "hardswish";
    default:
      return c10::str("clamp from ", activation.low, " to ", activation.high);
  }
}

torch::Tensor activated(const torch::Tensor& x, const Activation& activation) {
  if (activation == Activation::none) return x;
  if (activation == Activation::relu) return torch::relu(x);
  switch (activation.kind) {
    case Activation::Kind::leaky_relu:
      return torch::leaky_relu(x, activation.slope);
    case Activation::Kind::silu:
      return torch::silu(x);
    case Activation::Kind::hardswish:
      return torch::hardswish(x);
    default:
      return torch::hardtanh(x, activation.low, activation.high);
  }
}

double tolerance(torch::ScalarType dtype) {
  constexpr double single = 1e-5;
  switch (dtype) {
    case torch::kFloat64:
      return 2e-14;
    case torch::kBFloat16:
      return 0x1p-8 + single;
    case torch::kFloat16:
      return 0x1p-11 + single;
    default:
      return single;
  }
}

void expect_close(const torch::Tensor& actual, const torch::Tensor& expected, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(actual.defined(), expected.defined()) << what;
  if (!actual.defined()) return;
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  ASSERT_EQ(actual.scalar_type(), expected.scalar_type()) << what;
  if (expected.numel() == 0) return;
  const auto wanted = expected.to(torch::kFloat64);
  const double scale = std::max(1.0, wanted.abs().max().item<double>());
  const double error = (actual.to(torch::kFloat64) - wanted).abs().max().item<double>();
  // Written so that a NaN fails.
  EXPECT_TRUE(error <= tolerance * scale)
      << what << ": off by " << error << ", allowed " << tolerance * scale;
}

torch::Tensor finite_differences(const std::function<torch::Tensor()>& f, const torch::Tensor& x,
                                 const torch::Tensor& seed) {
  const torch::NoGradGuard no_grad;
  constexpr double h = 1e-5;
  const auto loss = [&] { return (f() * seed).sum().item<double>(); };
  auto gradient = torch::zeros_like(x, torch::MemoryFormat::Contiguous);
  auto flat = gradient.view(-1);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    // Element i in logical order, whatever the strides, as a view.
    torch::Tensor element = x;
    std::int64_t rest = i, stride = x.numel();
    for (const auto size : x.sizes()) {
      stride /= size;
      element = element.select(0, rest / stride);
      rest %= stride;
    }
    const double value = element.item<double>();
    element.fill_(value + h);
    const double above = loss();
    element.fill_(value - h);
    const double below = loss();
    element.fill_(value);
    flat[i] = (above - below) / (2 * h);
  }
  return gradient;
}

void expect_gradients(const std::function<torch::Tensor()>& f,
                      const std::vector<torch::Tensor>& leaves) {
  const auto y = f();
  const auto seed = random(y.sizes(), torch::kFloat64, 7);
  const auto gradients = torch::autograd::grad({y}, leaves, {seed});
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    expect_close(gradients[i], finite_differences(f, leaves[i], seed), finite_difference_tolerance,
                 "gradient " + std::to_string(i));
  }
}

void expect_error(const std::function<void()>& f, const std::vector<std::string>& parts) {
  try {
    f();
  } catch (const Error& error) {
    for (const auto& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "'" << part << "' is not in: " << error.what();
    }
    return;
  }
  ADD_FAILURE() << "no evenkeel::Error was thrown, expected one with: " << parts.front();
}

}  // namespace evenkeel::nn::testing
