#include "bench/case.h"

#include <fmt/format.h>

#include <array>

namespace evenkeel::bench {
namespace {

struct Dims {
  std::int64_t n, c, h = 1, w = 1;
  bool quick = false;
};

// ResNet-50 at batch 50.
constexpr std::array kResNet = {
    Dims{50, 64, 112, 112},
    Dims{50, 256, 56, 56},
    Dims{50, 512, 28, 28, true},
    Dims{50, 2048, 7, 7},
};
// With a C that is no multiple of a vector, and with features without positions.
constexpr std::array kBatchNorm = {
    kResNet[0],
    kResNet[1],
    kResNet[2],
    kResNet[3],
    Dims{16, 100, 28, 28, true},
    Dims{8192, 256, 1, 1, true},
    Dims{100000, 32},
};
constexpr std::array kLayerNorm = {
    Dims{256, 768},   Dims{4096, 768}, Dims{4096, 1024, 1, 1, true},
    Dims{8192, 4096}, Dims{65536, 64}, Dims{1, 4096, 1, 1, true},
};
// Stable Diffusion's U-Net and decoder.
constexpr std::array kGroupNorm = {
    Dims{2, 320, 96, 96, true},
    Dims{1, 128, 256, 256},
};
// A volume of 64 x 64 x 64, and a layer of style transfer.
constexpr std::array kInstanceNorm = {
    Dims{2, 32, 4096, 64},
    Dims{16, 64, 128, 128, true},
};
constexpr std::array kLocalResponseNorm = {
    Dims{16, 96, 55, 55},
    Dims{16, 256, 27, 27, true},
};

}  // namespace

std::string to_string(Op op) {
  switch (op) {
    case Op::batch_norm:
      return "batch_norm";
    case Op::batch_norm_relu:
      return "batch_norm_relu";
    case Op::batch_norm_add_relu:
      return "batch_norm_add_relu";
    case Op::layer_norm:
      return "layer_norm";
    case Op::layer_norm_add:
      return "layer_norm_add";
    case Op::rms_norm:
      return "rms_norm";
    case Op::group_norm:
      return "group_norm";
    case Op::instance_norm:
      return "instance_norm";
    case Op::local_response_norm:
      return "local_response_norm";
  }
  return "?";
}

std::string to_string(Direction direction) {
  constexpr std::array kNames = {"forward", "backward", "inference"};
  return kNames.at(static_cast<std::size_t>(direction));
}

std::string to_string(Order order) {
  constexpr std::array kNames = {"nchw", "nhwc", "rows"};
  return kNames.at(static_cast<std::size_t>(order));
}

std::string to_string(Dtype dtype) {
  constexpr std::array kNames = {"f32", "bf16", "f16"};
  return kNames.at(static_cast<std::size_t>(dtype));
}

std::string Case::shape() const {
  return order == Order::rows ? fmt::format("{}x{}", n, c) : fmt::format("{}x{}x{}x{}", n, c, h, w);
}

std::string Case::name() const {
  return fmt::format("{}/{}/{}/{}/{}/{}", to_string(op), to_string(direction), shape(),
                     to_string(order), to_string(dtype), threads);
}

bool Case::is_batch_norm() const {
  return op == Op::batch_norm || op == Op::batch_norm_relu || op == Op::batch_norm_add_relu;
}

Case Case::plain() const {
  Case result = *this;
  if (is_batch_norm()) result.op = Op::batch_norm;
  if (is_layer_norm()) result.op = Op::layer_norm;
  return result;
}

Case Case::in(Dtype other) const {
  Case result = *this;
  result.dtype = other;
  return result;
}

int Case::operands() const {
  if (direction != Direction::backward) {
    // x, y; and the residual; LayerNorm keeps the sum as well.
    return 2 + (has_residual() ? 1 : 0) + (op == Op::layer_norm_add ? 1 : 0);
  }
  // dy, x, dx; BatchNorm's residual and its gradient; the gradient that reaches LayerNorm's sum.
  return 3 + (op == Op::batch_norm_add_relu ? 2 : 0) + (op == Op::layer_norm_add ? 1 : 0);
}

int Case::streams(const Caches& caches) const {
  const bool trains = is_batch_norm() && direction != Direction::inference;
  if (!(trains || is_of_samples()) || !cold(caches)) return operands();
  // What the pass over a channel reads for its sums, and the pass that writes reads again.
  const int twice = direction == Direction::forward ? 1 : op == Op::batch_norm_add_relu ? 3 : 2;
  // A sample that stays in the shared cache is read from memory once, in either order.
  if (is_of_samples() && twice * c * h * w * element_bytes() <= caches.last_level)
    return operands();
  // A channel's slice, channels-first, is contiguous runs and may stay in the shared cache. A
  // column cannot be read alone: a line of memory holds 64 bytes of each row.
  const std::int64_t samples = is_of_samples() ? 1 : n;
  const bool fits = order == Order::nchw
                        ? twice * samples * h * w * element_bytes() <= caches.last_level
                        : twice * samples * h * w * 64 <= caches.l2 / 2;
  return fits ? operands() : operands() + twice;
}

int Case::unfused_streams(const Caches& caches) const {
  int passes = 0;
  if (direction == Direction::backward) {
    passes = fused() ? 3 : 0;
  } else {
    passes = (has_relu() ? 2 : 0) + (has_residual() ? 3 : 0);
  }
  return plain().streams(caches) + passes;
}

std::vector<Case> all_cases(const std::vector<int>& threads) {
  using enum Direction;
  using enum Op;
  using enum Dtype;
  std::vector<Case> cases;
  // The types of a case are neighbors, so that they are compared under the same conditions.
  const auto add = [&](Op op, std::initializer_list<Direction> directions, const auto& shapes,
                       std::initializer_list<Dtype> dtypes) {
    for (const Dims& d : shapes)
      for (const Order order : {Order::nchw, Order::nhwc, Order::rows}) {
        if ((order == Order::rows) != (d.h == 1)) continue;
        for (const Direction direction : directions)
          for (const int t : threads)
            for (const Dtype dtype : dtypes)
              cases.push_back({op, direction, d.n, d.c, d.h, d.w, order, dtype, t, d.quick});
      }
  };
  add(batch_norm, {forward, backward, inference}, kBatchNorm, {f32, bf16, f16});
  add(batch_norm_relu, {forward, backward, inference}, kBatchNorm, {f32, bf16, f16});
  add(batch_norm_add_relu, {forward, backward, inference}, kResNet, {f32});
  add(layer_norm, {forward, backward}, kLayerNorm, {f32, bf16, f16});
  add(layer_norm_add, {forward, backward}, kLayerNorm, {f32});
  add(rms_norm, {forward, backward}, kLayerNorm, {f32, bf16, f16});
  add(group_norm, {forward, backward}, kGroupNorm, {f32, bf16, f16});
  add(instance_norm, {forward, backward}, kInstanceNorm, {f32, bf16, f16});
  add(local_response_norm, {forward, backward}, kLocalResponseNorm, {f32, bf16, f16});
  // Of the quick shapes: all that is plain and float, and an example of bf16 and of fusion.
  for (Case& c : cases) {
    const bool example = c.c == 512 && c.order == Order::nchw;
    c.quick = c.quick && (c.fused() ? c.op == batch_norm_relu && c.dtype == f32 && example
                                    : c.dtype == f32 || (c.dtype == bf16 && example));
  }
  return cases;
}

}  // namespace evenkeel::bench
