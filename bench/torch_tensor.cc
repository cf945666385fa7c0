#include "bench/torch_tensor.h"

#include <ATen/ATen.h>

namespace evenkeel::bench {

at::ScalarType torch_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::bf16:
      return at::kBFloat16;
    case Dtype::f16:
      return at::kHalf;
    case Dtype::f32:
      break;
  }
  return at::kFloat;
}

at::Tensor torch_tensor(const Problem& p, const Buffer& buffer) {
  if (!buffer.data()) return {};
  const Case& c = p.of;
  const auto options = at::TensorOptions(torch_type(c.dtype));
  if (c.order == Order::rows) return at::from_blob(buffer.data(), {c.n, c.c}, options);
  const std::int64_t plane = c.h * c.w;
  if (c.order == Order::nchw) return at::from_blob(buffer.data(), {c.n, c.c, c.h, c.w}, options);
  return at::from_blob(buffer.data(), {c.n, c.c, c.h, c.w}, {c.c * plane, 1, c.w * c.c, c.c},
                       options);
}

}  // namespace evenkeel::bench
