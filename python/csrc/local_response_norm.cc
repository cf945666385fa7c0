// Local response normalization.
#include "python/csrc/tensors.h"

namespace evenkeel::python {
namespace {

constexpr std::string_view kOp = "local_response_norm";

// The window and factors that a convention means by its parameters.
LocalResponseNormOptions options_of(const std::string& convention, std::int64_t size, double alpha,
                                    double beta, double k) {
  using Options = LocalResponseNormOptions;
  if (convention == "torch") return Options::torch(size, alpha, beta, k);
  if (convention == "paper") return Options::paper(size, alpha, beta, k);
  if (convention == "onnx") return Options::onnx(size, alpha, beta, k);
  if (convention == "cudnn") return Options::cudnn(size, alpha, beta, k);
  if (convention == "caffe") return Options::caffe(size, alpha, beta, k);
  if (convention == "tensorflow") return Options::tensorflow(size, k, alpha, beta);
  throw Error(std::string(kOp) + ": convention is '" + convention +
              "', expected torch, paper, onnx, cudnn, caffe or tensorflow");
}

Tensor forward(Tensor x_in, std::int64_t size, double alpha, double beta, double k,
               std::string convention) {
  const Inputs in(kOp, x_in, {}, {});
  const Tensor y = torch::stable::empty_like(in.x);
  dispatch(kOp, in.x, [&]<class T>() {
    local_response_norm_forward<T>(
        {.x = view<const T>(in.x, in.layout), .y = view<T>(y, in.layout)},
        options_of(convention, size, alpha, beta, k));
  });
  return y;
}

Tensor backward(Tensor dy_in, Tensor x_in, std::int64_t size, double alpha, double beta, double k,
                std::string convention) {
  const Inputs in(kOp, x_in, {}, {});
  const Tensor dy = aligned(dy_in, in.x), dx = torch::stable::empty_like(in.x);
  dispatch(kOp, in.x, [&]<class T>() {
    local_response_norm_backward<T>({.dy = view<const T>(dy, in.layout),
                                     .x = view<const T>(in.x, in.layout),
                                     .dx = view<T>(dx, in.layout)},
                                    options_of(convention, size, alpha, beta, k));
  });
  return dx;
}

}  // namespace
}  // namespace evenkeel::python

STABLE_TORCH_LIBRARY_IMPL(evenkeel_norm, CPU, m) {
  using namespace evenkeel::python;
  m.impl("local_response_norm", TORCH_BOX(&forward));
  m.impl("local_response_norm_backward", TORCH_BOX(&backward));
}
