#include "evenkeel/instance_norm.h"

#include <algorithm>

#include "src/base/check.h"
#include "src/base/scratch.h"
#include "src/base/types.h"
#include "src/running_statistics.h"
#include "src/sample_groups.h"

namespace evenkeel {
namespace {

void require_several_positions(const Check& check, const Shape& shape) {
  check.require(shape.s != 1,
                "one position per channel (S = 1) has no variance; use inputs with more positions, "
                "or normalize with given statistics by batch_norm_inference");
}

}  // namespace

template <class T>
void instance_norm_forward(const InstanceNormForward<T>& args, const InstanceNormOptions& options) {
  Check check("instance_norm");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size_or_absent("bias", args.bias, shape.c, "channels");
  check.size_or_absent("mean", args.mean, shape.n * shape.c, "samples times channels");
  check.size_or_absent("rstd", args.rstd, shape.n * shape.c, "samples times channels");
  check_running(check, args.running, options.update, shape.c);
  check.same_shape("y", args.y, shape, {"x"});
  check.eps(options.eps);
  if (shape.size() == 0) return;
  require_several_positions(check, shape);

  const bool updates = options.update.kind != RunningUpdate::Kind::none;
  auto* const kept =
      updates ? scratch<GroupMoments<Extended<T>>, Scratch::batch_moments>(shape.n * shape.c)
              : nullptr;
  normalize_groups<T>({.x = args.x,
                       .weight = args.weight,
                       .bias = args.bias,
                       .mean = args.mean,
                       .rstd = args.rstd,
                       .y = args.y},
                      {.groups = shape.c, .eps = options.eps}, kept);
  if (!updates) return;
  update_running(args.running, options.update, [&](std::size_t c) {
    Extended<T> mean = 0, variance = 0;
    for (std::int64_t n = 0; n < shape.n; ++n) {
      const auto& m = kept[n * shape.c + static_cast<std::int64_t>(c)];
      mean += m.mean;
      variance += m.unbiased_variance();
    }
    const auto samples = static_cast<Extended<T>>(shape.n);
    return MeanAndVariance{static_cast<double>(mean / samples),
                           static_cast<double>(variance / samples)};
  });
}

template <class T>
void instance_norm_backward(const InstanceNormBackward<T>& args) {
  Check check("instance_norm_backward");
  const Shape& shape = args.x.shape;
  check.shape("x", args.x);
  check.same_shape("dy", args.dy, shape);
  check.size_or_absent("weight", args.weight, shape.c, "channels");
  check.size("mean", args.mean, shape.n * shape.c, "samples times channels");
  check.size("rstd", args.rstd, shape.n * shape.c, "samples times channels");
  check.same_shape_or_absent("dx", args.dx, shape, {"dy"});
  check.size_or_absent("dweight", args.dweight, shape.c, "channels");
  check.size_or_absent("dbias", args.dbias, shape.c, "channels");
  if (shape.size() == 0) {
    std::ranges::fill(args.dweight, Wide<T>{0});
    std::ranges::fill(args.dbias, Wide<T>{0});
    return;
  }
  require_several_positions(check, shape);
  backward_groups<T>({.dy = args.dy,
                      .x = args.x,
                      .weight = args.weight,
                      .mean = args.mean,
                      .rstd = args.rstd,
                      .dx = args.dx,
                      .dweight = args.dweight,
                      .dbias = args.dbias},
                     {.groups = shape.c});
}

#define EVENKEEL_INSTANTIATE(T)                                                                   \
  template void instance_norm_forward(const InstanceNormForward<T>&, const InstanceNormOptions&); \
  template void instance_norm_backward(const InstanceNormBackward<T>&);
EVENKEEL_FOR_EACH_TYPE(EVENKEEL_INSTANTIATE)
#undef EVENKEEL_INSTANTIATE

}  // namespace evenkeel
