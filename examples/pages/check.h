// What the examples of docs/ check themselves with.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>

// Ends the program with exit code 1 if the values differ by more than the tolerance.
inline void expect_near(const char* what, double value, double expected, double tolerance) {
  if (std::abs(value - expected) <= tolerance) return;  // false for NaN too
  std::fprintf(stderr, "%s is %.9g, expected %.9g\n", what, value, expected);
  std::exit(1);
}
