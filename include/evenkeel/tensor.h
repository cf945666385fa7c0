// Shapes and non-owning views: how every operation sees the caller's memory.
#pragma once

#include <cstdint>
#include <type_traits>

#include "evenkeel/float16.h"

namespace evenkeel {

enum class Layout : std::uint8_t {
  channels_first,  // (N, C, S) in memory: NCHW, NCDHW, and plain (N, C) features
  channels_last,   // (N, S, C) in memory: NHWC, NDHWC
};

// The logical shape of an activation: n samples x c channels x s positions, where s is the product
// of the spatial dimensions, 1 for plain features. Any of the three may be 0. Every operation
// throws Error if one is negative, or if their product (a 0 counted as 1) in bytes is not below
// 2^63.
struct Shape {
  std::int64_t n = 0;
  std::int64_t c = 0;
  std::int64_t s = 1;
  Layout layout = Layout::channels_first;

  // Number of elements.
  constexpr std::int64_t size() const { return n * c * s; }
  constexpr bool empty() const { return n == 0 || c == 0 || s == 0; }
  // Number of values that share one channel.
  constexpr std::int64_t per_channel() const { return n * s; }
  friend constexpr bool operator==(const Shape&, const Shape&) = default;
};

// A dense activation owned by the caller. T may be const. A default-constructed view (no data)
// stands for an argument that is absent.
//
// In the arguments of an operation a const view or span is an input, any other an output. An output
// has memory of its own, or is the very memory (from the same first to the same last byte) of an
// input of which its comment says that it may be. Every operation throws Error if it overlaps any
// other argument. Inputs may overlap each other.
template <class T>
struct TensorView {
  T* data = nullptr;
  Shape shape;

  constexpr TensorView() = default;
  constexpr TensorView(T* values, const Shape& of_shape) : data(values), shape(of_shape) {}
  // A mutable view is accepted wherever a const one is expected.
  constexpr operator TensorView<const T>() const requires(!std::is_const_v<T>) {
    return {data, shape};
  }

  constexpr bool absent() const { return data == nullptr && shape.empty(); }
};

// Activations are float, double, BFloat16 or Float16 (evenkeel/float16.h).
//
// The type that is computed with beside activations of type T, and the type of the parameters,
// their gradients and the running statistics: double for double, float for all others. What a
// forward hands to its backward, mean and rstd, is double for all types. Groups whose squares leave
// the range of Wide<T> are computed in a wider type, so that any finite x is right
// (docs/numerics.md).
template <class T>
using Wide = std::conditional_t<std::is_same_v<std::remove_const_t<T>, double>, double, float>;

}  // namespace evenkeel
