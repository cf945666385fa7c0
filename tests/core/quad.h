// Arithmetic whose range and precision exceed those of every type of the library.
#pragma once

#include <cmath>

namespace evenkeel::testing {

#ifdef __SIZEOF_FLOAT128__
__extension__ typedef __float128 Quad;
#else  // Arm, where long double has 128 bits
using Quad = long double;
#endif

inline Quad quad_abs(Quad v) { return v < 0 ? -v : v; }

// One step of Newton from the root of a long double, whose exponents reach as far.
inline Quad quad_sqrt(Quad v) {
  const Quad root = std::sqrt(static_cast<long double>(v));
  return root == 0 ? root : (root + v / root) / 2;
}

}  // namespace evenkeel::testing
