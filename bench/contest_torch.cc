// PyTorch: its native operations below autograd, on views of the same memory. They allocate their
// outputs; main.cc sets malloc so that the memory is used again, without new pages. What our calls
// fuse are operations of their own, in place where they can be.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/nn/functional/normalization.h>

#include "bench/contestant.h"
#include "bench/torch_tensor.h"

namespace evenkeel::bench {
namespace {

using at::Tensor;
using Outputs = std::vector<Tensor>;

// Weights and statistics are float where PyTorch takes them beside the case's type, else of that
// type too.
Tensor vector(std::vector<float>& values, at::ScalarType type) {
  return at::from_blob(values.data(), {std::ssize(values)}, at::kFloat).to(type);
}

std::function<Outputs()> batch_norm(Problem& p, at::ScalarType type) {
  const Tensor x = torch_tensor(p, p.x), dy = torch_tensor(p, p.dy), y = torch_tensor(p, p.y);
  const Tensor residual = torch_tensor(p, p.residual);
  const Tensor weight = vector(p.weight, type), bias = vector(p.bias, type);
  const Tensor mean = vector(p.mean, type), var = vector(p.var, type), rstd = vector(p.rstd, type);
  const Case c = p.of;
  if (c.direction != Direction::backward) {
    const bool train = c.direction == Direction::forward;
    const Tensor given_mean = train ? Tensor() : mean, given_var = train ? Tensor() : var;
    return [=] {
      const Tensor out = std::get<0>(
          at::native_batch_norm(x, weight, bias, given_mean, given_var, train, 0.1, Problem::kEps));
      if (c.has_residual()) out.add_(residual);
      if (c.has_relu()) out.relu_();
      return Outputs{out};
    };
  }
  return [=] {
    const Tensor masked = c.has_relu() ? at::threshold_backward(dy, y, 0) : dy;
    const auto [dx, dweight, dbias] = at::native_batch_norm_backward(
        masked, x, weight, {}, {}, mean, rstd, true, Problem::kEps, {true, true, true});
    Outputs result = {dx, dweight, dbias};
    if (c.has_residual()) result.push_back(masked);
    return result;
  };
}

std::function<Outputs()> layer_norm(Problem& p, at::ScalarType type) {
  const Tensor x = torch_tensor(p, p.x), dy = torch_tensor(p, p.dy);
  const Tensor residual = torch_tensor(p, p.residual);
  const Tensor weight = vector(p.weight, type), bias = vector(p.bias, type);
  const Tensor mean = vector(p.mean, type).unsqueeze(1), rstd = vector(p.rstd, type).unsqueeze(1);
  const std::int64_t features = p.of.c;
  if (p.of.direction == Direction::forward) {
    return [=] {
      const Tensor sum = residual.defined() ? x + residual : x;
      Outputs result = {
          std::get<0>(at::native_layer_norm(sum, {features}, weight, bias, Problem::kEps))};
      if (residual.defined()) result.push_back(sum);
      return result;
    };
  }
  return [=] {
    const auto [dx, dweight, dbias] = at::native_layer_norm_backward(
        dy, x, {features}, mean, rstd, weight, bias, {true, true, true});
    if (residual.defined()) dx.add_(residual);
    return Outputs{dx, dweight, dbias};
  };
}

// It has no native operation, so the backward is autograd's through the kept graph.
std::function<Outputs()> local_response_norm(Problem& p) {
  Tensor x = torch_tensor(p, p.x);
  const Tensor dy = torch_tensor(p, p.dy);
  const auto forward = [](const Tensor& input) {
    return torch::nn::functional::local_response_norm(
        input, torch::nn::functional::LocalResponseNormFuncOptions(Problem::kLrnSize)
                   .alpha(Problem::kLrnAlpha)
                   .beta(Problem::kLrnBeta)
                   .k(Problem::kLrnK));
  };
  if (p.of.direction == Direction::forward) return [=] { return Outputs{forward(x)}; };
  const at::AutoGradMode recorded(true);
  x.set_requires_grad(true);
  const Tensor y = forward(x);
  return [=] { return torch::autograd::grad({y}, {x}, {dy}, /*retain_graph=*/true); };
}

std::function<Outputs()> operation(Problem& p, at::ScalarType parameters) {
  if (p.of.is_batch_norm()) return batch_norm(p, parameters);
  return p.of.is_layer_norm() ? layer_norm(p, parameters) : local_response_norm(p);
}

Dtype dtype_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kBFloat16:
      return Dtype::bf16;
    case at::kHalf:
      return Dtype::f16;
    default:
      return Dtype::f32;
  }
}

Contestant contestant(Problem& p, at::ScalarType parameters) {
  const auto last = std::make_shared<Outputs>();
  const auto run = [last, compute = operation(p, parameters)] {
    const at::NoGradGuard unrecorded;
    last->clear();  // free first, so that the memory can be used again
    *last = compute();
  };
  const auto outputs = [last] {
    std::vector<std::vector<float>> result;
    // A dense tensor's memory has the order of its strides, so this compares layouts as well.
    for (const Tensor& tensor : *last)
      result.push_back(sample(tensor.data_ptr(), dtype_of(tensor), tensor.numel()));
    return result;
  };
  return {"torch", run, outputs, parameters != at::kFloat};
}

}  // namespace

Contestant torch_contestant(Problem& p) {
  at::set_num_threads(p.of.threads);
  try {
    Contestant result = contestant(p, at::kFloat);
    result.run();
    return result;
  } catch (const c10::Error&) {  // of two types together
    if (p.of.dtype == Dtype::f32) throw;
  }
  return contestant(p, torch_type(p.of.dtype));
}

}  // namespace evenkeel::bench
