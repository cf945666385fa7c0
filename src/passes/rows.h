// Passes over rows: samples of `features` contiguous values, each cut into args.groups rows that
// are normalized by themselves, with parameters per feature. LayerNorm and RMSNorm have one group,
// and GroupNorm on features without positions has several. Statistics are per row, sample by
// sample.
#pragma once

#include <cstdint>
#include <span>

#include "src/kernels/rows.h"

namespace evenkeel {

// Weight and bias may be null in these arguments: then they are 1 and 0. `sum` may be null beside a
// residual: then it is not kept. non_temporal and keeps_sum need not be set.
template <class T>
void forward_rows(const kernels::RowsForward<T>& args, std::int64_t samples, std::int64_t features);

// dweight and dbias: the parameters' gradients, set if not empty; those of the arguments need not
// be set, nor non_temporal. weight may be null.
template <class T>
void backward_rows(const kernels::RowsBackward<T>& args, std::int64_t samples,
                   std::int64_t features, std::span<Wide<T>> dweight, std::span<Wide<T>> dbias);

}  // namespace evenkeel
