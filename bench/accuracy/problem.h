// One computation that every library does alike, and what its exact result is.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "evenkeel/float16.h"
#include "evenkeel/local_response_norm.h"
#include "evenkeel/tensor.h"
#include "reference/reference.h"

namespace evenkeel::accuracy {

using reference::Values;

enum class Operation { batch_norm, layer_norm, local_response_norm };
enum class Type { float32, float64, bfloat16, float16 };

// Calls f(T()) for the T that stands for the type.
template <class F>
decltype(auto) with_type(Type type, const F& f) {
  switch (type) {
    case Type::float32:
      return f(float{});
    case Type::float64:
      return f(double{});
    case Type::bfloat16:
      return f(BFloat16{});
    default:
      return f(Float16{});
  }
}

template <class T>
constexpr bool kIs16Bit = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

template <class T>
T narrow(double value) {
  if constexpr (kIs16Bit<T>) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}
template <class T>
double widen(T value) {
  if constexpr (kIs16Bit<T>) {
    return static_cast<double>(static_cast<float>(value));
  } else {
    return static_cast<double>(value);
  }
}
template <class T>
std::vector<T> narrow(const Values& values) {
  std::vector<T> result;
  for (const double v : values) result.push_back(narrow<T>(v));
  return result;
}
template <class T>
Values widen(const std::vector<T>& values) {
  Values result;
  for (const T v : values) result.push_back(widen(v));
  return result;
}

inline constexpr double kEps = 1e-5;

// The window and constants of LRN mean the same in all libraries: odd size, alpha over size.
inline constexpr std::int64_t kWindow = 5;
inline constexpr double kAlpha = 1e-4, kBeta = 0.75, kK = 1;

// All numbers are of the type, so that no library rounds its inputs; in channels-first order.
struct Problem {
  Operation operation;
  Type type;
  double mean;  // of x, whose standard deviation is 1
  Shape shape;
  Values x, dy;
  Values weight, bias;  // per channel or feature; none in LRN
};

// What a library made of it; empty what it does not have.
struct Outputs {
  Values y, dx, dweight;
};

Problem make_problem(Operation operation, Type type, double mean);
Outputs exact(const Problem& problem);
// Exact arithmetic but for what the backward starts from: mean and rstd as the forward stores them,
// rounded to float (double for double). No backward with these arguments can do better.
Outputs exact_from_stored_statistics(const Problem& problem);

}  // namespace evenkeel::accuracy
