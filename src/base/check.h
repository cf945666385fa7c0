// Argument checks: each throws Error naming the operation, the argument, what was expected and what
// was given. All of an operation's checks run before any of its work.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "evenkeel/activation.h"
#include "evenkeel/error.h"
#include "evenkeel/tensor.h"

namespace evenkeel {

inline std::string to_string(const Shape& shape) {
  const auto n = std::to_string(shape.n), c = std::to_string(shape.c), s = std::to_string(shape.s);
  return shape.layout == Layout::channels_first
             ? "(N=" + n + ", C=" + c + ", S=" + s + ") channels-first"
             : "(N=" + n + ", S=" + s + ", C=" + c + ") channels-last";
}

// The checks of one operation, e.g. Check check("layer_norm").
class Check {
 public:
  explicit Check(const char* op) : op_(op) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(std::string(op_) + ": " + what);
  }
  void require(bool condition, const std::string& what) const {
    if (!condition) fail(what);
  }

  // A required activation whose shape is the caller's to choose.
  template <class T>
  void shape(const char* name, const TensorView<T>& x) const {
    const Shape& s = x.shape;
    if (s.n < 0 || s.c < 0 || s.s < 0) {
      fail(std::string(name) + " has the shape " + to_string(s) +
           ", expected no negative dimension");
    }
    if (x.data == nullptr && s.size() > 0) {
      fail(std::string(name) + " has no data, expected " + std::to_string(s.size()) + " elements");
    }
  }
  // A required activation of a given shape.
  template <class T>
  void same_shape(const char* name, const TensorView<T>& x, const Shape& expected) const {
    shape(name, x);
    if (!(x.shape == expected)) {
      fail(std::string(name) + " has the shape " + to_string(x.shape) + ", expected " +
           to_string(expected));
    }
  }
  // As same_shape, or absent. An empty activation is one and the same as an absent one.
  template <class T>
  void same_shape_or_absent(const char* name, const TensorView<T>& x, const Shape& expected) const {
    if (!x.absent()) same_shape(name, x, expected);
  }
  template <class T>
  void size(const char* name, std::span<T> values, std::int64_t expected, const char* of) const {
    if (static_cast<std::int64_t>(values.size()) != expected) {
      fail(std::string(name) + " has " + std::to_string(values.size()) + " elements, expected " +
           std::to_string(expected) + " (" + of + ")");
    }
  }
  template <class T>
  void size_or_absent(const char* name, std::span<T> values, std::int64_t expected,
                      const char* of) const {
    if (!values.empty()) size(name, values, expected, of);
  }
  // A residual and the optional output of its sum with x, of a normalization over that sum.
  template <class T>
  void sum_of_residual(const TensorView<const T>& residual, const TensorView<T>& sum,
                       const Shape& expected) const {
    same_shape_or_absent("residual", residual, expected);
    same_shape_or_absent("sum", sum, expected);
    require(sum.absent() || !residual.absent() || expected.size() == 0,
            "sum is given without a residual, expected both or no sum");
  }
  void activation(const Activation& a) const {
    if (!(a.low <= a.high)) {
      fail("the activation has the bounds " + std::to_string(a.low) + " and " +
           std::to_string(a.high) + ", expected low <= high");
    }
    if (!std::isfinite(a.slope)) {
      fail("the activation has the slope " + std::to_string(a.slope) +
           ", expected a finite number");
    }
  }
  void eps(double eps) const {
    if (!(eps > 0) || !std::isfinite(eps)) {
      fail("eps is " + std::to_string(eps) + ", expected a finite number above 0");
    }
  }

 private:
  const char* op_;
};

// The values of an optional parameter or output; an empty span is absent wherever it points.
template <class P>
P* data_or_null(std::span<P> values) {
  return values.empty() ? nullptr : values.data();
}

}  // namespace evenkeel
