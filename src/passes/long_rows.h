// Passes over rows that are few and long: threads share the features, not the samples.
#pragma once

#include <cstdint>
#include <span>

#include "src/kernels/rows.h"

namespace evenkeel {

// Whether the shape asks for it: fewer samples than threads that might work on them, of 64 KB of
// floats or more.
inline bool are_long_rows(std::int64_t samples, std::int64_t features) {
  return samples < 64 && features >= 16384;
}

// As forward_rows and backward_rows, for one group and with all arguments set. A residual needs a
// sum. The results are bitwise those of whole rows; dweight and dbias are added up in another
// order.
template <class T>
void forward_long_rows(const kernels::RowsForward<T>& args, std::int64_t samples,
                       std::int64_t features);
// Returns false, with nothing written, if a row does not fit the kernels.
template <class T>
bool backward_long_rows(const kernels::RowsBackward<T>& args, std::int64_t samples,
                        std::int64_t features, std::span<Wide<T>> dweight,
                        std::span<Wide<T>> dbias);

}  // namespace evenkeel
