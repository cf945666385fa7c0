#include "evenkeel/rms_norm.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/passes/rows.h"

namespace evenkeel {
namespace {

// The factor of x^: the weight, or 1 + weight; null if it is absent.
template <class P>
const P* factor_of(std::span<const P> weight, bool unit_offset) {
  if (weight.empty() || !unit_offset) return data_or_null(weight);
  auto* const factor = scratch<P, Scratch::weight>(std::ssize(weight));
  std::ranges::transform(weight, factor, [](P w) { return 1 + w; });
  return factor;
}

}  // namespace

template <class T>
void rms_norm_forward(const RmsNormForward<T>& args, const RmsNormOptions& options) {
  Check check("rms_norm");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  const std::int64_t samples = shape.n, features = shape.c * shape.s;
  check.size_or_absent("weight", args.weight, features, "features");
  check.size_or_absent("rstd", args.rstd, samples, "samples");
  check.sum_of_residual(args.residual, args.sum, shape);
  check.same_shape("y", args.y, shape, {"x", "residual"});
  check.eps(options.eps);
  if (shape.size() == 0) return;
  forward_rows<T>({.x = args.x.data,
                   .weight = factor_of(args.weight, options.unit_offset),
                   .bias = nullptr,
                   .mean = nullptr,
                   .rstd = data_or_null(args.rstd),
                   .residual = args.residual.data,
                   .sum = args.sum.data,
                   .y = args.y.data,
                   .eps = options.eps,
                   .groups = 1,
                   .centered = false},
                  samples, features);
}

template <class T>
void rms_norm_backward(const RmsNormBackward<T>& args, const RmsNormOptions& options) {
  Check check("rms_norm_backward");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  const std::int64_t samples = shape.n, features = shape.c * shape.s;
  check.same_shape("dy", args.dy, shape);
  check.size_or_absent("weight", args.weight, features, "features");
  check.size("rstd", args.rstd, samples, "samples");
  check.same_shape_or_absent("dsum", args.dsum, shape);
  check.same_shape_or_absent("dx", args.dx, shape, {"dy", "dsum"});
  check.size_or_absent("dweight", args.dweight, features, "features");
  if (shape.size() == 0) {
    std::ranges::fill(args.dweight, Wide<T>{0});
    return;
  }
  backward_rows<T>({.dy = args.dy.data,
                    .x = args.x.data,
                    .weight = factor_of(args.weight, options.unit_offset),
                    .mean = nullptr,
                    .rstd = args.rstd.data(),
                    .dsum = args.dsum.data,
                    .dx = args.dx.data},
                   samples, features, args.dweight, {});
}

#define EVENKEEL_INSTANTIATE(T)                                                    \
  template void rms_norm_forward(const RmsNormForward<T>&, const RmsNormOptions&); \
  template void rms_norm_backward(const RmsNormBackward<T>&, const RmsNormOptions&);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
