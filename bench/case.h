// What is measured: one operation on one shape, layout, type and number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/machine.h"

namespace evenkeel::bench {

enum class Op : std::uint8_t {
  batch_norm,
  batch_norm_relu,      // y = relu(BN(x)), fused into one call
  batch_norm_add_relu,  // y = relu(BN(x) + residual)
  layer_norm,
  layer_norm_add,  // sum = x + residual; y = LN(sum)
  rms_norm,
  group_norm,  // of 32 groups
  instance_norm,
  local_response_norm,
};
enum class Direction : std::uint8_t { forward, backward, inference };
// rows: features without positions, (N, C) in memory. The layouts nchw and nhwc coincide there.
enum class Order : std::uint8_t { nchw, nhwc, rows };
enum class Dtype : std::uint8_t { f32, bf16, f16 };

std::string to_string(Op op);
std::string to_string(Direction direction);
std::string to_string(Order order);
std::string to_string(Dtype dtype);

struct Case {
  Op op = Op::batch_norm;
  Direction direction = Direction::forward;
  std::int64_t n = 1, c = 1, h = 1, w = 1;
  Order order = Order::rows;
  Dtype dtype = Dtype::f32;
  int threads = 1;
  bool quick = false;  // part of the quick selection

  std::string shape() const;  // "50x64x112x112" or "4096x768"
  std::string name() const;   // "batch_norm/forward/50x64x112x112/nchw/f32/1"

  std::int64_t size() const { return n * c * h * w; }
  std::int64_t element_bytes() const { return dtype == Dtype::f32 ? 4 : 2; }
  std::int64_t tensor_bytes() const { return size() * element_bytes(); }
  bool is_batch_norm() const;
  bool is_layer_norm() const { return op == Op::layer_norm || op == Op::layer_norm_add; }
  bool is_of_rows() const { return is_layer_norm() || op == Op::rms_norm; }
  bool is_of_samples() const { return op == Op::group_norm || op == Op::instance_norm; }
  // Groups of channels that are normalized by themselves, if is_of_samples().
  std::int64_t groups() const { return op == Op::group_norm ? 32 : c; }
  // Means that the operation has.
  std::int64_t statistics() const { return is_of_rows() ? n : is_of_samples() ? n * groups() : c; }
  bool has_relu() const { return op == Op::batch_norm_relu || op == Op::batch_norm_add_relu; }
  bool fused() const { return op != plain().op; }
  bool has_residual() const { return op == Op::batch_norm_add_relu || op == Op::layer_norm_add; }

  // dresidual, or LayerNorm's sum.
  bool has_second_output() const {
    return op == Op::batch_norm_add_relu
               ? direction == Direction::backward
               : op == Op::layer_norm_add && direction == Direction::forward;
  }
  // The same case without what is fused into it, and in another type.
  Case plain() const;
  Case in(Dtype other) const;

  // Different tensors that the operation reads or writes.
  int operands() const;
  // Tensors that must cross the memory bus: the operands, and once more what a second pass reads
  // where a BatchNorm channel cannot be held in cache from its statistics to its use.
  int streams(const Caches& caches) const;
  // The same for the operation without fusion, followed or preceded by passes of their own: the
  // addition in place, then ReLU in place; in a backward ReLU's mask, or the addition.
  int unfused_streams(const Caches& caches) const;
  // True if the operands together fill the last-level cache.
  bool cold(const Caches& caches) const { return operands() * tensor_bytes() >= caches.last_level; }
};

// Every case, for each of the thread counts.
std::vector<Case> all_cases(const std::vector<int>& threads);

}  // namespace evenkeel::bench
