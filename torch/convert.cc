#include "evenkeel/torch/convert.h"

#include "evenkeel/error.h"
#include "torch/bridge.h"

namespace evenkeel::nn {
namespace {

bool is_channels_last(const torch::Tensor& x) {
  return x.dim() > 2 && x.movedim(1, -1).is_contiguous();
}

}  // namespace

Layout layout_of(const torch::Tensor& x) {
  return !x.is_contiguous() && is_channels_last(x) ? Layout::channels_last : Layout::channels_first;
}

torch::Tensor dense(const torch::Tensor& x, Layout layout) {
  if (!x.defined()) return x;
  if (layout == Layout::channels_first) return x.contiguous();
  if (is_channels_last(x)) return x;
  return x.movedim(1, -1).contiguous().movedim(-1, 1);
}

Shape shape_of(const torch::Tensor& x, Layout layout) {
  Shape shape{x.size(0), x.size(1), 1, layout};
  for (std::int64_t d = 2; d < x.dim(); ++d) shape.s *= x.size(d);
  return shape;
}

void check_floating_cpu(std::string_view op, std::string_view argument, const torch::Tensor& x) {
  if (!x.defined()) throw Error(c10::str(op, ": ", argument, " is undefined, expected a tensor"));
  const auto type = x.scalar_type();
  if (type != torch::kFloat32 && type != torch::kFloat64 && type != torch::kBFloat16 &&
      type != torch::kFloat16) {
    throw Error(c10::str(op, ": ", argument, " is of type ", type,
                         ", expected Float, Double, BFloat16 or Half; convert it with "
                         ".to(torch::kFloat32)"));
  }
  if (!x.device().is_cpu()) {
    throw Error(c10::str(op, ": ", argument, " is on device ", x.device(),
                         ", expected cpu; move it with .to(torch::kCPU)"));
  }
  if (x.layout() != torch::kStrided) {
    throw Error(c10::str(op, ": ", argument, " has layout ", x.layout(),
                         ", expected Strided; convert it with .to_dense()"));
  }
}

void add_moments(ChannelMoments& moments, const torch::Tensor& x) {
  check_floating_cpu("add_moments", "x", x);
  const Layout layout = layout_of(x);
  const torch::Tensor values = dense(x.detach(), layout);
  dispatch(x, [&]<class T>() { moments.add(view<const T>(values, layout)); });
}

}  // namespace evenkeel::nn
