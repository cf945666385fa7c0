// The activation types. Adding a type is adding a line here, and how it is loaded and stored to
// kernels/float16-inl.h.
#pragma once

#include "evenkeel/float16.h"
#include "evenkeel/tensor.h"

// Calls macro(T) or macro(T, ...) for each type.
#define EVENKEEL_FOR_EACH_TYPE(macro, ...)                                         \
  macro(float __VA_OPT__(, ) __VA_ARGS__) macro(double __VA_OPT__(, ) __VA_ARGS__) \
      macro(BFloat16 __VA_OPT__(, ) __VA_ARGS__) macro(Float16 __VA_OPT__(, ) __VA_ARGS__)
