// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

namespace evenkeel {

// Thrown for every misuse and every damaged input. The message names the operation, the argument,
// what was expected and what came, e.g. "layer_norm: weight has 512 elements, expected 768
// (features)". Arguments are checked before any work, so an Error leaves every output untouched.
// The only other exception is std::bad_alloc. The library never prints, aborts or exits.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace evenkeel
