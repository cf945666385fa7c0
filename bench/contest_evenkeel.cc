// evenkeel: one call; and, for a fused case, a plain call with PyTorch's elementwise operations, in
// place, for the rest, as a program that does not fuse would do it.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <stdexcept>

#include "bench/contestant.h"
#include "bench/torch_tensor.h"
#include "evenkeel/evenkeel.h"

namespace evenkeel::bench {
namespace {

// What a call reads and writes.
template <class T>
struct Tensors {
  TensorView<const T> x = {}, dy = {}, residual = {};
  TensorView<T> out = {}, out2 = {};
  Activation activation = Activation::none;
};

template <class T>
std::function<void()> batch_norm(Problem& p, const Tensors<T>& t) {
  switch (p.of.direction) {
    case Direction::forward:
      return [=, &p] {
        batch_norm_forward<T>({.x = t.x,
                               .weight = p.weight,
                               .bias = p.bias,
                               .mean = p.saved_mean,
                               .rstd = p.saved_rstd,
                               .residual = t.residual,
                               .y = t.out},
                              {.eps = Problem::kEps, .activation = t.activation});
      };
    case Direction::inference:
      return [=, &p] {
        batch_norm_inference<T>({.x = t.x,
                                 .weight = p.weight,
                                 .bias = p.bias,
                                 .mean = p.mean,
                                 .var = p.var,
                                 .residual = t.residual,
                                 .y = t.out},
                                {.eps = Problem::kEps, .activation = t.activation});
      };
    case Direction::backward:
      break;
  }
  return [=, &p] {
    batch_norm_backward<T>({.dy = t.dy,
                            .x = t.x,
                            .weight = p.weight,
                            .bias = p.bias,
                            .mean = p.saved_mean,
                            .rstd = p.saved_rstd,
                            .residual = t.residual,
                            .dx = t.out,
                            .dresidual = t.out2,
                            .dweight = p.dweight,
                            .dbias = p.dbias},
                           {.activation = t.activation});
  };
}

template <class T>
std::function<void()> layer_norm(Problem& p, const Tensors<T>& t) {
  if (p.of.direction == Direction::forward) {
    return [=, &p] {
      layer_norm_forward<T>({.x = t.x,
                             .weight = p.weight,
                             .bias = p.bias,
                             .mean = p.saved_mean,
                             .rstd = p.saved_rstd,
                             .residual = t.residual,
                             .sum = t.out2,
                             .y = t.out},
                            {.eps = Problem::kEps});
    };
  }
  return [=, &p] {
    layer_norm_backward<T>({.dy = t.dy,
                            .x = t.x,
                            .weight = p.weight,
                            .mean = p.saved_mean,
                            .rstd = p.saved_rstd,
                            .dsum = t.residual,
                            .dx = t.out,
                            .dweight = p.dweight,
                            .dbias = p.dbias});
  };
}

template <class T>
std::function<void()> rms_norm(Problem& p, const Tensors<T>& t) {
  if (p.of.direction == Direction::forward) {
    return [=, &p] {
      rms_norm_forward<T>({.x = t.x, .weight = p.weight, .rstd = p.saved_rstd, .y = t.out},
                          {.eps = Problem::kEps});
    };
  }
  return [=, &p] {
    rms_norm_backward<T>({.dy = t.dy,
                          .x = t.x,
                          .weight = p.weight,
                          .rstd = p.saved_rstd,
                          .dx = t.out,
                          .dweight = p.dweight});
  };
}

template <class T>
std::function<void()> group_norm(Problem& p, const Tensors<T>& t) {
  const GroupNormOptions options{.groups = p.of.groups(), .eps = Problem::kEps};
  if (p.of.direction == Direction::forward) {
    return [=, &p] {
      group_norm_forward<T>({.x = t.x,
                             .weight = p.weight,
                             .bias = p.bias,
                             .mean = p.saved_mean,
                             .rstd = p.saved_rstd,
                             .y = t.out},
                            options);
    };
  }
  return [=, &p] {
    group_norm_backward<T>({.dy = t.dy,
                            .x = t.x,
                            .weight = p.weight,
                            .mean = p.saved_mean,
                            .rstd = p.saved_rstd,
                            .dx = t.out,
                            .dweight = p.dweight,
                            .dbias = p.dbias},
                           options);
  };
}

template <class T>
std::function<void()> instance_norm(Problem& p, const Tensors<T>& t) {
  if (p.of.direction == Direction::forward) {
    return [=, &p] {
      instance_norm_forward<T>({.x = t.x,
                                .weight = p.weight,
                                .bias = p.bias,
                                .mean = p.saved_mean,
                                .rstd = p.saved_rstd,
                                .y = t.out},
                               {.eps = Problem::kEps});
    };
  }
  return [=, &p] {
    instance_norm_backward<T>({.dy = t.dy,
                               .x = t.x,
                               .weight = p.weight,
                               .mean = p.saved_mean,
                               .rstd = p.saved_rstd,
                               .dx = t.out,
                               .dweight = p.dweight,
                               .dbias = p.dbias});
  };
}

template <class T>
std::function<void()> local_response_norm(Problem& p, const Tensors<T>& t) {
  const auto options = LocalResponseNormOptions::torch(Problem::kLrnSize, Problem::kLrnAlpha,
                                                       Problem::kLrnBeta, Problem::kLrnK);
  if (p.of.direction == Direction::forward)
    return [=] { local_response_norm_forward<T>({.x = t.x, .y = t.out}, options); };
  return [=] { local_response_norm_backward<T>({.dy = t.dy, .x = t.x, .dx = t.out}, options); };
}

template <class T>
std::function<void()> fused(Problem& p) {
  const Tensors<T> t = {.x = p.view<const T>(p.x),
                        .dy = p.view<const T>(p.dy),
                        .residual = p.view<const T>(p.residual),
                        .out = p.view<T>(p.out),
                        .out2 = p.view<T>(p.out2),
                        .activation = p.of.has_relu() ? Activation::relu : Activation::none};
  if (p.of.is_batch_norm()) return batch_norm(p, t);
  if (p.of.is_layer_norm()) return layer_norm(p, t);
  switch (p.of.op) {
    case Op::rms_norm:
      return rms_norm(p, t);
    case Op::group_norm:
      return group_norm(p, t);
    case Op::instance_norm:
      return instance_norm(p, t);
    default:
      return local_response_norm(p, t);
  }
}

template <class T>
std::function<void()> unfused_batch_norm(Problem& p) {
  Tensors<T> t = {.x = p.view<const T>(p.x), .out = p.view<T>(p.out)};
  const at::Tensor out = torch_tensor(p, p.out), residual = torch_tensor(p, p.residual);
  if (p.of.direction != Direction::backward) {
    return [=, normalize = batch_norm(p, t)] {
      normalize();
      if (residual.defined()) out.add_(residual);
      out.relu_();
    };
  }
  // The masked dy is the gradient of the residual; if there is none, dx takes its place.
  const Buffer& masked = p.of.has_residual() ? p.out2 : p.out;
  t.dy = p.view<const T>(masked);
  return [mask = torch_tensor(p, masked), dy = torch_tensor(p, p.dy), y = torch_tensor(p, p.y),
          normalize = batch_norm(p, t)]() mutable {
    at::threshold_backward_out(mask, dy, y, 0);
    normalize();
  };
}

template <class T>
std::function<void()> unfused_layer_norm(Problem& p) {
  const at::Tensor x = torch_tensor(p, p.x), residual = torch_tensor(p, p.residual);
  if (p.of.direction == Direction::forward) {
    const Tensors<T> t = {.x = p.view<const T>(p.out2), .out = p.view<T>(p.out)};
    return [=, sum = torch_tensor(p, p.out2), normalize = layer_norm(p, t)]() mutable {
      at::add_out(sum, x, residual);
      normalize();
    };
  }
  const Tensors<T> t = {
      .x = p.view<const T>(p.x), .dy = p.view<const T>(p.dy), .out = p.view<T>(p.out)};
  return [residual, dx = torch_tensor(p, p.out), normalize = layer_norm(p, t)] {
    normalize();
    dx.add_(residual);
  };
}

// y, and LayerNorm's sum; or dx, dweight, dbias and dresidual. RMSNorm has no bias.
std::vector<std::vector<float>> outputs(const Problem& p) {
  const Case& c = p.of;
  std::vector<std::vector<float>> result = {sample(p.out.data(), c.dtype, c.size())};
  if (c.direction == Direction::backward && c.op != Op::local_response_norm) {
    result.push_back(p.dweight);
    if (c.op != Op::rms_norm) result.push_back(p.dbias);
  }
  if (c.has_second_output()) result.push_back(sample(p.out2.data(), c.dtype, c.size()));
  return result;
}

}  // namespace

Contestant evenkeel_contestant(Problem& p) {
  set_num_threads(p.of.threads);
  return with_type(p.of.dtype, [&]<class T>(T*) -> Contestant {
    return {"evenkeel", fused<T>(p), [&p] { return outputs(p); }};
  });
}

Contestant unfused_contestant(Problem& p) {
  set_num_threads(p.of.threads);
  at::set_num_threads(p.of.threads);
  return with_type(p.of.dtype, [&]<class T>(T*) -> Contestant {
    const auto compute = p.of.is_batch_norm() ? unfused_batch_norm<T>(p) : unfused_layer_norm<T>(p);
    const auto run = [compute] {
      const at::NoGradGuard unrecorded;
      compute();
    };
    return {"unfused", run, [&p] { return outputs(p); }};
  });
}

}  // namespace evenkeel::bench
