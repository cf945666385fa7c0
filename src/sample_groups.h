// Normalization over groups of channels within each sample: what GroupNorm and InstanceNorm do once
// their arguments are checked. The shape is not empty.
#pragma once

#include "evenkeel/group_norm.h"
#include "src/base/types.h"
#include "src/kernels/operands.h"

namespace evenkeel {

// kept: the N*G moments, if not null.
template <class T>
void normalize_groups(const GroupNormForward<T>& args, const GroupNormOptions& options,
                      GroupMoments<Extended<T>>* kept = nullptr);

template <class T>
void backward_groups(const GroupNormBackward<T>& args, const GroupNormOptions& options);

}  // namespace evenkeel
