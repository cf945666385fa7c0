// What BatchNorm must do with one batch, forward and backward: agree with the reference, in place
// or not, with every output wanted or only some.
#pragma once

#include <utility>

#include "tests/core/batch_norm_case.h"

namespace evenkeel::testing {

template <class T>
void expect_batch_norm_forward(const BatchNormCase<T>& c) {
  std::vector<T> y(c.x.size());
  std::vector<double> mean(static_cast<std::size_t>(c.shape.c)), rstd(mean.size());
  BatchNormForward<T> args = c.forward(y);
  args.mean = mean;
  args.rstd = rstd;
  batch_norm_forward<T>(args, c.options());
  expect_close(
      y, c.y, [&](std::size_t i) { return c.y_bound(i); }, "y");
  expect_close(
      mean, c.normalized.mean, [&](std::size_t i) { return c.mean_bound(i); }, "mean");
  expect_close(
      rstd, c.normalized.rstd, [&](std::size_t i) { return c.rstd_bound(i); }, "rstd");

  auto in_place = c.x;
  args = c.forward(in_place);
  args.x = args.y;
  batch_norm_forward<T>(args, c.options());
  expect_same(in_place, y, "y in place of x");
  if (!c.residual.empty()) {
    auto over_residual = c.residual;
    args = c.forward(over_residual);
    args.residual = args.y;
    batch_norm_forward<T>(args, c.options());
    expect_same(over_residual, y, "y in place of the residual");
  }
}

// dx, dresidual, dweight and dbias, each in memory of its own.
template <class T>
struct BatchNormGradients {
  std::vector<T> dx, dresidual;
  std::vector<Wide<T>> dweight, dbias;

  explicit BatchNormGradients(const Shape& shape)
      : dx(static_cast<std::size_t>(shape.size())),
        dresidual(dx.size()),
        dweight(static_cast<std::size_t>(shape.c)),
        dbias(dweight.size()) {}
  void take(BatchNormBackward<T>& args) {
    args.dx = view(dx, args.x.shape);
    args.dresidual = view(dresidual, args.x.shape);
    args.dweight = dweight;
    args.dbias = dbias;
  }
};

template <class T>
void expect_batch_norm_backward(const BatchNormCase<T>& c) {
  const auto channels = static_cast<std::size_t>(c.shape.c);
  std::vector<double> mean(channels), rstd(channels);
  std::vector<T> y(c.x.size());
  BatchNormForward<T> forward = c.forward(y);
  forward.mean = mean;
  forward.rstd = rstd;
  batch_norm_forward<T>(forward, c.options());
  const BatchNormBackward<T> inputs = c.backward(mean, rstd);
  const auto run = [&](const BatchNormBackward<T>& args) {
    batch_norm_backward<T>(args, {.activation = c.activation});
  };

  BatchNormGradients<T> out(c.shape);
  BatchNormBackward<T> args = inputs;
  out.take(args);
  run(args);
  expect_close(
      out.dx, c.gradients.dx, [&](std::size_t i) { return c.dx_bound(i); }, "dx");
  expect_close(
      out.dweight, c.gradients.dweight, [&](std::size_t i) { return c.dweight_bound(i); },
      "dweight");
  expect_close(
      out.dbias, c.gradients.dbias, [&](std::size_t i) { return c.dbias_bound(i); }, "dbias");
  expect_close(
      out.dresidual, c.passed.dy, [&](std::size_t i) { return c.passed.error[i]; }, "dresidual");
  if (c.activation.kind == Activation::Kind::clamp) {
    // Nothing is computed that could round. And it agrees with the y that the forward gave.
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_EQ(to_double(out.dresidual[i]), c.passed.dy[i]) << "dresidual[" << i << "]";
      if (c.activation == Activation::none || to_double(c.dy[i]) == 0) continue;
      const double result = to_double(y[i]);
      const bool within = result > c.activation.low && result < c.activation.high;
      // A 16-bit y within the bounds may be rounded onto one.
      if (!kIs16Bit<T> || within) {
        ASSERT_EQ(to_double(out.dresidual[i]) != 0, within) << i;
      }
    }
  }

  // Each output in place of the inputs that it may replace, and each alone.
  auto dy = c.dy, residual = c.residual;
  args.dy = view(std::as_const(dy), c.shape);
  args.dx = view(dy, c.shape);
  args.dresidual = {};
  run(args);
  expect_same(dy, out.dx, "dx in place of dy");
  dy = c.dy;
  BatchNormGradients<T> second(c.shape);
  second.take(args);
  args.dresidual = view(dy, c.shape);
  run(args);
  expect_same(dy, out.dresidual, "dresidual in place of dy");
  expect_same(second.dx, out.dx, "dx, with dresidual in place of dy");
  if (!residual.empty()) {
    dy = c.dy;
    args.dx = view(dy, c.shape);
    args.residual = view(std::as_const(residual), c.shape);
    args.dresidual = view(residual, c.shape);
    run(args);
    expect_same(residual, out.dresidual, "dresidual in place of the residual");
    expect_same(dy, out.dx, "dx in place of dy, with dresidual in place of the residual");
  }
  BatchNormGradients<T> alone(c.shape);
  args = inputs;
  args.dweight = alone.dweight;
  run(args);
  EXPECT_EQ(alone.dweight, out.dweight);
  args.dweight = {};
  args.dresidual = view(alone.dresidual, c.shape);
  run(args);
  expect_same(alone.dresidual, out.dresidual, "dresidual alone");
}

}  // namespace evenkeel::testing
