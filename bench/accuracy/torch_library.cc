#include <torch/torch.h>

#include "bench/accuracy/libraries.h"

namespace evenkeel::accuracy {
namespace {

at::ScalarType type_of(Type type) {
  switch (type) {
    case Type::float32:
      return at::kFloat;
    case Type::float64:
      return at::kDouble;
    case Type::bfloat16:
      return at::kBFloat16;
    default:
      return at::kHalf;
  }
}

// From double, exactly: the values are of the type.
at::Tensor tensor(const Values& values, at::IntArrayRef sizes, at::ScalarType type) {
  return torch::tensor(at::ArrayRef<double>(values), at::kDouble).reshape(sizes).to(type);
}

Values values(const at::Tensor& tensor) {
  const at::Tensor wide = tensor.to(at::kDouble).contiguous();
  return {wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel()};
}

// parameters: the type of weight and bias. PyTorch takes float beside 16-bit activations in some
// operations, and the activations' own type in others.
Outputs run(const Problem& p, at::ScalarType parameters) {
  const at::NoGradGuard no_grad;
  const auto type = type_of(p.type);
  const Shape& s = p.shape;
  const auto x = tensor(p.x, {s.n, s.c, s.s}, type), dy = tensor(p.dy, {s.n, s.c, s.s}, type);
  if (p.operation == Operation::local_response_norm) {
    const at::AutoGradMode with_grad(true);
    auto leaf = x.clone().set_requires_grad(true);
    const auto options =
        torch::nn::functional::LocalResponseNormFuncOptions(kWindow).alpha(kAlpha).beta(kBeta).k(
            kK);
    const auto y = torch::nn::functional::local_response_norm(leaf, options);
    y.backward(dy);
    return {values(y.detach()), values(leaf.grad()), {}};
  }
  const auto size = static_cast<std::int64_t>(p.weight.size());
  const auto weight = tensor(p.weight, {size}, parameters),
             bias = tensor(p.bias, {size}, parameters);
  if (p.operation == Operation::batch_norm) {
    const auto [y, mean, rstd] = at::native_batch_norm(x, weight, bias, {}, {}, true, 0.1, kEps);
    const auto [dx, dweight, dbias] = at::native_batch_norm_backward(
        dy, x, weight, {}, {}, mean, rstd, true, kEps, {true, true, true});
    return {values(y), values(dx), values(dweight)};
  }
  const auto rows = x.reshape({s.n, size}), dy_rows = dy.reshape({s.n, size});
  const auto [y, mean, rstd] = at::native_layer_norm(rows, {size}, weight, bias, kEps);
  const auto [dx, dweight, dbias] = at::native_layer_norm_backward(
      dy_rows, rows, {size}, mean, rstd, weight, bias, {true, true, true});
  return {values(y), values(dx), values(dweight)};
}

}  // namespace

std::optional<Outputs> run_torch(const Problem& problem) {
  const at::ScalarType type = type_of(problem.type);
  for (const at::ScalarType parameters : {type == at::kDouble ? at::kDouble : at::kFloat, type}) {
    try {
      return run(problem, parameters);
    } catch (const c10::Error&) {  // not implemented for these types
    }
  }
  return std::nullopt;
}

}  // namespace evenkeel::accuracy
