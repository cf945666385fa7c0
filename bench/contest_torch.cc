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

// forward(x, weight, bias), of which the first `differentiated` have gradients. The backward is
// autograd's through the kept graph.
template <class Forward>
std::function<Outputs()> recorded(Problem& p, at::ScalarType type, std::size_t differentiated,
                                  const Forward& forward) {
  std::vector<Tensor> inputs = {torch_tensor(p, p.x), vector(p.weight, type), vector(p.bias, type)};
  if (p.of.direction == Direction::forward)
    return [=] { return Outputs{forward(inputs[0], inputs[1], inputs[2])}; };
  const at::AutoGradMode recording(true);
  for (Tensor& input : inputs) input = input.detach().set_requires_grad(true);
  const Tensor y = forward(inputs[0], inputs[1], inputs[2]);
  inputs.resize(differentiated);
  return [y, inputs, dy = torch_tensor(p, p.dy)] {
    return torch::autograd::grad({y}, inputs, {dy}, /*retain_graph=*/true);
  };
}

std::function<Outputs()> operation(Problem& p, at::ScalarType parameters) {
  switch (p.of.op) {
    case Op::layer_norm:
    case Op::layer_norm_add:
      return layer_norm(p, parameters);
    case Op::rms_norm:  // composed, since this PyTorch has none
      return recorded(p, parameters, 2, [](const Tensor& x, const Tensor& weight, const Tensor&) {
        const Tensor mean_square = x.square().mean(-1, /*keepdim=*/true);
        return x * (mean_square + Problem::kEps).rsqrt() * weight;
      });
    case Op::group_norm:
      return recorded(
          p, parameters, 3,
          [groups = p.of.groups()](const auto& x, const auto& weight, const auto& bias) {
            return at::group_norm(x, groups, weight, bias, Problem::kEps);
          });
    case Op::instance_norm:
      return recorded(p, parameters, 3, [](const auto& x, const auto& weight, const auto& bias) {
        return at::instance_norm(x, weight, bias, {}, {}, /*use_input_stats=*/true, 0.1,
                                 Problem::kEps, /*cudnn_enabled=*/false);
      });
    case Op::local_response_norm:
      return recorded(p, parameters, 1, [](const Tensor& x, const Tensor&, const Tensor&) {
        return torch::nn::functional::local_response_norm(
            x, torch::nn::functional::LocalResponseNormFuncOptions(Problem::kLrnSize)
                   .alpha(Problem::kLrnAlpha)
                   .beta(Problem::kLrnBeta)
                   .k(Problem::kLrnK));
      });
    default:
      return batch_norm(p, parameters);
  }
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
