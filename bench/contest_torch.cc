// PyTorch: its native operations below autograd, on views of the same memory. They allocate their
// outputs; main.cc sets malloc so that the memory is used again, without new pages.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/nn/functional/normalization.h>

#include "bench/contestant.h"

namespace evenkeel::bench {
namespace {

using at::Tensor;
using Outputs = std::vector<Tensor>;

at::ScalarType type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::bf16:
      return at::kBFloat16;
    case Dtype::f16:
      return at::kHalf;
    case Dtype::f32:
      break;
  }
  return at::kFloat;
}

Tensor tensor(const Problem& p, const Buffer& buffer) {
  const Case& c = p.of;
  const auto options = at::TensorOptions(type_of(c.dtype));
  if (c.order == Order::rows) return at::from_blob(buffer.data(), {c.n, c.c}, options);
  const std::int64_t plane = c.h * c.w;
  if (c.order == Order::nchw) return at::from_blob(buffer.data(), {c.n, c.c, c.h, c.w}, options);
  return at::from_blob(buffer.data(), {c.n, c.c, c.h, c.w}, {c.c * plane, 1, c.w * c.c, c.c},
                       options);
}

Tensor vector(std::vector<float>& values) {
  return at::from_blob(values.data(), {std::ssize(values)}, at::kFloat);
}

Outputs outputs_of(const std::tuple<Tensor, Tensor, Tensor>& result, Direction direction) {
  const auto& [first, second, third] = result;
  // A forward's are y, mean and rstd.
  return direction == Direction::backward ? Outputs{first, second, third} : Outputs{first};
}

std::function<Outputs()> batch_norm(Problem& p) {
  const Tensor x = tensor(p, p.x), dy = tensor(p, p.dy);
  const Tensor weight = vector(p.weight), bias = vector(p.bias);
  const Tensor mean = vector(p.mean), var = vector(p.var), rstd = vector(p.rstd);
  const Direction direction = p.of.direction;
  switch (direction) {
    case Direction::forward:
      return [=] {
        return outputs_of(at::native_batch_norm(x, weight, bias, {}, {}, true, 0.1, Problem::kEps),
                          direction);
      };
    case Direction::inference:
      return [=] {
        return outputs_of(
            at::native_batch_norm(x, weight, bias, mean, var, false, 0.1, Problem::kEps),
            direction);
      };
    case Direction::backward:
      break;
  }
  return [=] {
    return outputs_of(at::native_batch_norm_backward(dy, x, weight, {}, {}, mean, rstd, true,
                                                     Problem::kEps, {true, true, true}),
                      direction);
  };
}

std::function<Outputs()> layer_norm(Problem& p) {
  const Tensor x = tensor(p, p.x), dy = tensor(p, p.dy);
  const Tensor weight = vector(p.weight), bias = vector(p.bias);
  const Tensor mean = vector(p.mean).unsqueeze(1), rstd = vector(p.rstd).unsqueeze(1);
  const std::int64_t features = p.of.c;
  const Direction direction = p.of.direction;
  if (direction == Direction::forward) {
    return [=] {
      return outputs_of(at::native_layer_norm(x, {features}, weight, bias, Problem::kEps),
                        direction);
    };
  }
  return [=] {
    return outputs_of(at::native_layer_norm_backward(dy, x, {features}, mean, rstd, weight, bias,
                                                     {true, true, true}),
                      direction);
  };
}

// It has no native operation, so the backward is autograd's through the kept graph.
std::function<Outputs()> local_response_norm(Problem& p) {
  Tensor x = tensor(p, p.x);
  const Tensor dy = tensor(p, p.dy);
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

std::function<Outputs()> operation(Problem& p) {
  if (p.of.is_batch_norm()) return batch_norm(p);
  return p.of.is_layer_norm() ? layer_norm(p) : local_response_norm(p);
}

}  // namespace

Contestant torch_contestant(Problem& p) {
  at::set_num_threads(p.of.threads);
  const auto last = std::make_shared<Outputs>();
  const auto run = [last, compute = operation(p)] {
    const at::NoGradGuard unrecorded;
    last->clear();  // free first, so that the memory can be used again
    *last = compute();
  };
  const auto outputs = [last, dtype = p.of.dtype] {
    std::vector<std::vector<float>> result;
    for (const Tensor& tensor : *last) {
      // A dense tensor's memory has the order of its strides, so this compares layouts as well.
      result.push_back(
          sample(tensor.data_ptr(), tensor.dim() == 1 ? Dtype::f32 : dtype, tensor.numel()));
    }
    return result;
  };
  return {"torch", run, outputs};
}

}  // namespace evenkeel::bench
