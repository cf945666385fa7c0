#include "evenkeel/local_response_norm.h"

#include "evenkeel/torch/functional.h"
#include "evenkeel/torch/local_response_norm.h"
#include "torch/bridge.h"

namespace evenkeel::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Window = evenkeel::LocalResponseNormOptions;

struct LocalResponseNormFunction : torch::autograd::Function<LocalResponseNormFunction> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& input,
                               const Window& window, bool over_x) {
    const Layout layout = layout_of(input);
    const torch::Tensor x = dense(input, layout);
    variable_list dirty;
    const torch::Tensor y = output_of(input, x, over_x, dirty);
    ctx->mark_dirty(dirty);
    dispatch(x, [&]<class T>() {
      local_response_norm_forward<T>({.x = view<const T>(x, layout), .y = view<T>(y, layout)},
                                     window);
    });
    ctx->save_for_backward({x});
    ctx->saved_data["behind"] = window.behind;
    ctx->saved_data["ahead"] = window.ahead;
    ctx->saved_data["alpha"] = window.alpha;
    ctx->saved_data["beta"] = window.beta;
    ctx->saved_data["k"] = window.k;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    refuse_double_backward("local_response_norm");
    const torch::Tensor x = ctx->get_saved_variables()[0];
    const Layout layout = layout_of(x);
    const torch::Tensor dy = dense(gradients[0], layout);
    const torch::Tensor dx = torch::empty_like(x);
    const Window window{.behind = ctx->saved_data["behind"].toInt(),
                        .ahead = ctx->saved_data["ahead"].toInt(),
                        .alpha = ctx->saved_data["alpha"].toDouble(),
                        .beta = ctx->saved_data["beta"].toDouble(),
                        .k = ctx->saved_data["k"].toDouble()};
    dispatch(x, [&]<class T>() {
      local_response_norm_backward<T>({.dy = view<const T>(dy, layout),
                                       .x = view<const T>(x, layout),
                                       .dx = view<T>(dx, layout)},
                                      window);
    });
    return {dx, {}, {}};
  }
};

}  // namespace

torch::Tensor local_response_norm(const torch::Tensor& x, const Window& options, bool in_place) {
  check_channels("local_response_norm", x, {}, {});
  return or_input(LocalResponseNormFunction::apply(x, options, in_place && !recorded({x})), x);
}

LocalResponseNormImpl::LocalResponseNormImpl(const Window& convention)
    : torch::nn::LocalResponseNormImpl(convention.behind + convention.ahead + 1),
      window(convention) {}

LocalResponseNormImpl::LocalResponseNormImpl(const torch::nn::LocalResponseNormImpl& other)
    : torch::nn::LocalResponseNormImpl(other) {
  adopt_state(*this, other);
}

torch::Tensor LocalResponseNormImpl::forward(const torch::Tensor& x) {
  const auto of_torch = Window::torch(options.size(), options.alpha(), options.beta(), options.k());
  return local_response_norm(x, window.value_or(of_torch), in_place);
}

std::shared_ptr<torch::nn::Module> LocalResponseNormImpl::clone(
    const torch::optional<torch::Device>& device) const {
  const auto copy = clone_of<torch::nn::LocalResponseNormImpl>(*this, device);
  copy->window = window;
  copy->in_place = in_place;
  return copy;
}

void LocalResponseNormImpl::pretty_print(std::ostream& out) const {
  if (!window) {
    out << description_of(torch::nn::LocalResponseNormImpl(options));
    return;
  }
  out << "evenkeel::nn::LocalResponseNorm(behind=" << window->behind << ", ahead=" << window->ahead
      << ", alpha=" << window->alpha << ", beta=" << window->beta << ", k=" << window->k << ")";
}

}  // namespace evenkeel::nn
