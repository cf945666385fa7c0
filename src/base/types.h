// The types of x and y. To add one, add a line here, its widen and narrow to kernels/float16-inl.h
// and, unless it is computed with in float, its Wide<T> to evenkeel/tensor.h.
#pragma once

#include "evenkeel/float16.h"
#include "evenkeel/tensor.h"

// Calls macro(T) or macro(T, ...) for each type.
#define EVENKEEL_FOR_EACH_TYPE(macro, ...)                                         \
  macro(float __VA_OPT__(, ) __VA_ARGS__) macro(double __VA_OPT__(, ) __VA_ARGS__) \
      macro(BFloat16 __VA_OPT__(, ) __VA_ARGS__) macro(Float16 __VA_OPT__(, ) __VA_ARGS__)
