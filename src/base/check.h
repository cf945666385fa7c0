// Argument checks: each throws Error naming the operation, the argument, what was expected and what
// was given. All of an operation's checks run before any of its work.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "evenkeel/activation.h"
#include "evenkeel/error.h"
#include "evenkeel/tensor.h"
#include "src/base/overlap.h"
#include "src/base/text.h"

namespace evenkeel {

inline std::string to_string(const Shape& shape) {
  const auto n = std::to_string(shape.n), c = std::to_string(shape.c), s = std::to_string(shape.s);
  return shape.layout == Layout::channels_first
             ? "(N=" + n + ", C=" + c + ", S=" + s + ") channels-first"
             : "(N=" + n + ", S=" + s + ", C=" + c + ") channels-last";
}

// Whether an array of the shape can be counted in 64 bits, and so can its rows, planes and columns:
// a dimension of 0 does not excuse the others.
inline bool is_countable(const Shape& shape, std::int64_t element_bytes) {
  std::int64_t bytes = element_bytes;
  return std::ranges::none_of(std::array{shape.n, shape.c, shape.s}, [&](std::int64_t size) {
    return __builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes);
  });
}

// The checks of one call of an operation, e.g. Check check("layer_norm"). Those of shapes and sizes
// come in the order of the arguments, since each also sees to it that the argument shares no memory
// with an earlier one that it must not (src/base/overlap.h): `may_be` names the inputs whose very
// memory an output may be.
class Check {
 public:
  explicit Check(const char* op) : op_(op) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(std::string(op_) + ": " + what);
  }
  void require(bool condition, const std::string& what) const {
    if (!condition) fail(what);
  }

  // A required activation whose shape is the caller's to choose: the one that the other arguments
  // are measured by.
  template <class T>
  void shape(const char* name, const TensorView<T>& x) {
    if (is_absent(x)) absent_ = name;
    tensor(name, x, {});
  }
  // A required activation of a given shape.
  template <class T>
  void same_shape(const char* name, const TensorView<T>& x, const Shape& expected,
                  MayBe may_be = {}) {
    if (!(x.shape == expected)) {
      blame_what_is_absent();
      fail(std::string(name) +
           (is_absent(x) ? " is absent" : " has the shape " + to_string(x.shape)) + ", expected " +
           to_string(expected));
    }
    tensor(name, x, may_be);
  }
  // As same_shape, or absent. An empty activation is one and the same as an absent one.
  template <class T>
  void same_shape_or_absent(const char* name, const TensorView<T>& x, const Shape& expected,
                            MayBe may_be = {}) {
    if (!x.absent()) same_shape(name, x, expected, may_be);
  }
  template <class T>
  void size(const char* name, std::span<T> values, std::int64_t expected, const char* of) {
    if (std::ssize(values) != expected) {
      blame_what_is_absent();
      fail(std::string(name) + " has " + std::to_string(values.size()) + " elements, expected " +
           std::to_string(expected) + " (" + of + ")");
    }
    memory(name, values.data(), expected, {});
  }
  template <class T>
  void size_or_absent(const char* name, std::span<T> values, std::int64_t expected,
                      const char* of) {
    if (!values.empty()) size(name, values, expected, of);
  }
  // An optional count in the caller's memory that the call may increment.
  void count(const char* name, std::int64_t* count) {
    if (!count) return;
    if (*count < 0 || *count == std::numeric_limits<std::int64_t>::max()) {
      fail(std::string(name) + " is " + std::to_string(*count) +
           ", expected a count from 0 to 2^63 - 2");
    }
    memory(name, count, 1, {});
  }
  // A residual and the optional output of its sum with x, of a normalization over that sum.
  template <class T>
  void sum_of_residual(const TensorView<const T>& residual, const TensorView<T>& sum,
                       const Shape& expected) {
    same_shape_or_absent("residual", residual, expected);
    same_shape_or_absent("sum", sum, expected, {"x", "residual"});
    require(sum.absent() || !residual.absent() || expected.size() == 0,
            "sum is given without a residual, expected both or no sum");
  }
  void activation(const Activation& a) const {
    if (!(a.low <= a.high)) {
      fail("the activation has the bounds " + exactly(a.low) + " and " + exactly(a.high) +
           ", expected low <= high");
    }
    if (!std::isfinite(a.slope)) {
      fail("the activation has the slope " + exactly(a.slope) + ", expected a finite number");
    }
  }
  void eps(double eps) const {
    if (!(eps > 0) || !std::isfinite(eps)) {
      fail("eps is " + exactly(eps) + ", expected a finite number above 0");
    }
  }

 private:
  template <class T>
  void tensor(const char* name, const TensorView<T>& x, MayBe may_be) {
    const Shape& s = x.shape;
    if (s.n < 0 || s.c < 0 || s.s < 0) {
      fail(std::string(name) + " has the shape " + to_string(s) +
           ", expected no negative dimension");
    }
    if (!is_countable(s, sizeof(T))) {
      fail(std::string(name) + " has the shape " + to_string(s) +
           ", expected dimensions whose product, in bytes, is below 2^63");
    }
    if (x.data == nullptr && s.size() > 0) {
      fail(std::string(name) + " has no data, expected " + std::to_string(s.size()) + " elements");
    }
    memory(name, x.data, s.size(), may_be);
  }
  template <class T>
  void memory(const char* name, T* values, std::int64_t size, MayBe may_be) {
    if (arguments_.full()) fail("has more arguments than are compared for overlaps");
    const auto [written, other] = arguments_.add(name, values, size, may_be);
    if (!written) return;
    std::string allowed;
    for (const std::string_view input : may_be) {
      allowed += (allowed.empty() ? ", or exactly that of " : " or ") + std::string(input);
    }
    fail(std::string(written) + " overlaps " + other + ", expected memory of its own" + allowed);
  }
  // As default-constructed. An empty activation may have no data either, but its shape says so.
  template <class T>
  static bool is_absent(const TensorView<T>& x) {
    return x.data == nullptr && x.shape == Shape();
  }
  // An argument that was measured by one that is absent is not to blame.
  void blame_what_is_absent() const {
    if (absent_) fail(std::string(absent_) + " is absent, expected a tensor");
  }

  const char* op_;
  const char* absent_ = nullptr;
  ArgumentMemory arguments_;
};

// The values of an optional parameter or output; an empty span is absent wherever it points.
template <class P>
P* data_or_null(std::span<P> values) {
  return values.empty() ? nullptr : values.data();
}

// The place `offset` elements on in an array that may be absent.
template <class P>
P* at_or_null(P* data, std::int64_t offset) {
  return data ? data + offset : nullptr;
}

}  // namespace evenkeel
