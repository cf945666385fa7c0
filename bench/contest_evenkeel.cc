#include "bench/contestant.h"
#include "evenkeel/evenkeel.h"

namespace evenkeel::bench {
namespace {

template <class T>
std::function<void()> batch_norm(Problem& p) {
  const Shape shape = p.shape();
  const TensorView<const T> x = {p.x.as<T>(), shape};
  const TensorView<const T> dy = {p.dy.as<T>(), shape};
  const TensorView<T> out = {p.out.as<T>(), shape};
  switch (p.of.direction) {
    case Direction::forward:
      return [=, &p] {
        batch_norm_forward<T>(
            {.x = x, .weight = p.weight, .bias = p.bias, .y = out, .mean = p.mean, .rstd = p.rstd});
      };
    case Direction::inference:
      return [=, &p] {
        batch_norm_inference<T>(
            {.x = x, .weight = p.weight, .bias = p.bias, .mean = p.mean, .var = p.var, .y = out});
      };
    case Direction::backward:
      break;
  }
  return [=, &p] {
    batch_norm_backward<T>({.dy = dy,
                            .x = x,
                            .weight = p.weight,
                            .mean = p.mean,
                            .rstd = p.rstd,
                            .dx = out,
                            .dweight = p.dweight,
                            .dbias = p.dbias});
  };
}

template <class T>
std::function<void()> layer_norm(Problem& p) {
  const Shape shape = p.shape();
  const TensorView<const T> x = {p.x.as<T>(), shape};
  const TensorView<const T> dy = {p.dy.as<T>(), shape};
  const TensorView<T> out = {p.out.as<T>(), shape};
  if (p.of.direction == Direction::forward) {
    return [=, &p] {
      layer_norm_forward<T>(
          {.x = x, .weight = p.weight, .bias = p.bias, .y = out, .mean = p.mean, .rstd = p.rstd});
    };
  }
  return [=, &p] {
    layer_norm_backward<T>({.dy = dy,
                            .x = x,
                            .weight = p.weight,
                            .mean = p.mean,
                            .rstd = p.rstd,
                            .dx = out,
                            .dweight = p.dweight,
                            .dbias = p.dbias});
  };
}

template <class T>
std::function<void()> local_response_norm(Problem& p) {
  const Shape shape = p.shape();
  const TensorView<const T> x = {p.x.as<T>(), shape};
  const TensorView<const T> dy = {p.dy.as<T>(), shape};
  const TensorView<T> out = {p.out.as<T>(), shape};
  const auto options = LocalResponseNormOptions::torch(Problem::kLrnSize, Problem::kLrnAlpha,
                                                       Problem::kLrnBeta, Problem::kLrnK);
  if (p.of.direction == Direction::forward)
    return [=] { local_response_norm_forward<T>({.x = x, .y = out}, options); };
  return [=] { local_response_norm_backward<T>({.dy = dy, .x = x, .dx = out}, options); };
}

template <class T>
std::function<void()> operation(Problem& p) {
  if (p.of.is_batch_norm()) return batch_norm<T>(p);
  return p.of.is_layer_norm() ? layer_norm<T>(p) : local_response_norm<T>(p);
}

}  // namespace

Contestant evenkeel_contestant(Problem& p) {
  set_num_threads(p.of.threads);
  const auto outputs = [&p] {
    std::vector<std::vector<float>> out = {sample(p.out.data(), p.of.dtype, p.of.size())};
    if (p.of.direction == Direction::backward && p.of.op != Op::local_response_norm)
      out.insert(out.end(), {p.dweight, p.dbias});
    return out;
  };
  return {"evenkeel", operation<float>(p), outputs};
}

}  // namespace evenkeel::bench
