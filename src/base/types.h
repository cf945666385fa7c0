// The types of x and y. To add one, add a line here, its widen and narrow to kernels/float16-inl.h
// and, unless it is computed with in float, its Wide<T> to evenkeel/tensor.h.
#pragma once

#include <type_traits>

#include "evenkeel/float16.h"
#include "evenkeel/tensor.h"

namespace evenkeel {

// What statistics and coefficients are computed with, and the groups whose squares or products
// leave the range of Wide<T>: for every finite value of T, its square is far inside the range of
// Extended<T>. (Where long double is double, as on Windows and macOS, that does not hold for
// T = double.)
template <class T>
using Extended = std::conditional_t<std::is_same_v<T, double>, long double, double>;

}  // namespace evenkeel

// Calls macro(T) or macro(T, ...) for each type.
#define EVENKEEL_FOR_EACH_TYPE(macro, ...)                                         \
  macro(float __VA_OPT__(, ) __VA_ARGS__) macro(double __VA_OPT__(, ) __VA_ARGS__) \
      macro(BFloat16 __VA_OPT__(, ) __VA_ARGS__) macro(Float16 __VA_OPT__(, ) __VA_ARGS__)
