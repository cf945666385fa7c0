// The core's operations on float behind one C function, so that bench/pytorch.py can time them
// beside a current PyTorch in the same process.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <string_view>

#include "evenkeel/evenkeel.h"

namespace {

using evenkeel::TensorView;

constexpr double kEps = 1e-5;

}  // namespace

extern "C" {

// Memory of the caller; shapes by the conventions of the operation's header.
struct EvenkeelCase {
  const float *x, *dy;
  const float *weight, *bias;
  double *mean, *rstd;
  float* out;  // y or dx
  float *dweight, *dbias;
  std::int64_t n, c, s, groups, statistics;
  std::int32_t channels_last, backward, threads;
};

// Computes the case once. Returns 0, or 1 after printing what is wrong.
__attribute__((visibility("default"))) int evenkeel_run(const char* name, const EvenkeelCase* of) {
  try {
    const EvenkeelCase& a = *of;
    const std::string_view op = name;
    const evenkeel::Shape shape{
        a.n, a.c, a.s,
        a.channels_last ? evenkeel::Layout::channels_last : evenkeel::Layout::channels_first};
    const TensorView<const float> x(a.x, shape), dy(a.dy, shape);
    const TensorView<float> out(a.out, shape);
    const auto of_size = [](auto* values, std::int64_t size) {
      return std::span(values, static_cast<std::size_t>(size));
    };
    const bool rows = op == "layer_norm" || op == "rms_norm";
    const std::int64_t parameters = rows ? a.c * a.s : a.c;
    const auto weight = of_size(a.weight, parameters), bias = of_size(a.bias, parameters);
    const auto mean = of_size(a.mean, a.statistics), rstd = of_size(a.rstd, a.statistics);
    const auto dweight = of_size(a.dweight, parameters), dbias = of_size(a.dbias, parameters);
    evenkeel::set_num_threads(a.threads);
    // The arguments that three of the operations have in common.
    const auto set_forward = [&](auto args) {
      args.x = x;
      args.weight = weight;
      args.bias = bias;
      args.mean = mean;
      args.rstd = rstd;
      args.y = out;
      return args;
    };
    const auto set_backward = [&](auto args) {
      args.dy = dy;
      args.x = x;
      args.weight = weight;
      args.mean = mean;
      args.rstd = rstd;
      args.dx = out;
      args.dweight = dweight;
      args.dbias = dbias;
      return args;
    };
    if (op == "batch_norm" && !a.backward) {
      evenkeel::batch_norm_forward(set_forward(evenkeel::BatchNormForward<float>()), {.eps = kEps});
    } else if (op == "batch_norm") {
      evenkeel::batch_norm_backward(set_backward(evenkeel::BatchNormBackward<float>()));
    } else if (op == "layer_norm" && !a.backward) {
      evenkeel::layer_norm_forward(set_forward(evenkeel::LayerNormForward<float>()), {.eps = kEps});
    } else if (op == "layer_norm") {
      evenkeel::layer_norm_backward(set_backward(evenkeel::LayerNormBackward<float>()));
    } else if (op == "group_norm" && !a.backward) {
      evenkeel::group_norm_forward(set_forward(evenkeel::GroupNormForward<float>()),
                                   {.groups = a.groups, .eps = kEps});
    } else if (op == "group_norm") {
      evenkeel::group_norm_backward(set_backward(evenkeel::GroupNormBackward<float>()),
                                    {.groups = a.groups});
    } else if (op == "rms_norm" && !a.backward) {
      evenkeel::rms_norm_forward<float>({.x = x, .weight = weight, .rstd = rstd, .y = out},
                                        {.eps = kEps});
    } else if (op == "rms_norm") {
      evenkeel::rms_norm_backward<float>(
          {.dy = dy, .x = x, .weight = weight, .rstd = rstd, .dx = out, .dweight = dweight});
    } else {
      std::fprintf(stderr, "evenkeel_run: there is no operation '%s'\n", name);
      return 1;
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "evenkeel_run: %s\n", error.what());
    return 1;
  }
}
}
