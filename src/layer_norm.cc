#include "evenkeel/layer_norm.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/types.h"
#include "src/passes/rows.h"

namespace evenkeel {

template <class T>
void layer_norm_forward(const LayerNormForward<T>& args, const LayerNormOptions& options) {
  Check check("layer_norm");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  const std::int64_t samples = shape.n, features = shape.c * shape.s;
  check.size_or_absent("weight", args.weight, features, "features");
  check.size_or_absent("bias", args.bias, features, "features");
  check.size_or_absent("mean", args.mean, samples, "samples");
  check.size_or_absent("rstd", args.rstd, samples, "samples");
  check.sum_of_residual(args.residual, args.sum, shape);
  check.same_shape("y", args.y, shape, {"x", "residual"});
  check.eps(options.eps);
  if (shape.size() == 0) return;
  forward_rows<T>({.x = args.x.data,
                   .weight = data_or_null(args.weight),
                   .bias = data_or_null(args.bias),
                   .mean = data_or_null(args.mean),
                   .rstd = data_or_null(args.rstd),
                   .residual = args.residual.data,
                   .sum = args.sum.data,
                   .y = args.y.data,
                   .eps = options.eps,
                   .groups = 1,
                   .centered = true},
                  samples, features);
}

template <class T>
void layer_norm_backward(const LayerNormBackward<T>& args) {
  Check check("layer_norm_backward");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  const std::int64_t samples = shape.n, features = shape.c * shape.s;
  check.same_shape("dy", args.dy, shape);
  check.size_or_absent("weight", args.weight, features, "features");
  check.size("mean", args.mean, samples, "samples");
  check.size("rstd", args.rstd, samples, "samples");
  check.same_shape_or_absent("dsum", args.dsum, shape);
  check.same_shape_or_absent("dx", args.dx, shape, {"dy", "dsum"});
  check.size_or_absent("dweight", args.dweight, features, "features");
  check.size_or_absent("dbias", args.dbias, features, "features");
  if (shape.size() == 0) {
    std::ranges::fill(args.dweight, Wide<T>{0});
    std::ranges::fill(args.dbias, Wide<T>{0});
    return;
  }
  backward_rows<T>({.dy = args.dy.data,
                    .x = args.x.data,
                    .weight = data_or_null(args.weight),
                    .mean = args.mean.data(),
                    .rstd = args.rstd.data(),
                    .dsum = args.dsum.data,
                    .dx = args.dx.data},
                   samples, features, args.dweight, args.dbias);
}

#define EVENKEEL_INSTANTIATE(T)                                                          \
  template void layer_norm_forward(const LayerNormForward<T>&, const LayerNormOptions&); \
  template void layer_norm_backward(const LayerNormBackward<T>&);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
