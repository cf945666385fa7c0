// What GroupNorm must do with one batch, forward and backward: agree with the reference, in place
// or not, with every output wanted or only some.
#pragma once

#include <utility>

#include "tests/core/group_norm_case.h"

namespace evenkeel::testing {

template <class T>
void expect_group_norm_forward(const GroupNormCase<T>& c) {
  std::vector<T> y(c.x.size());
  std::vector<double> mean(c.normalized.mean.size()), rstd(mean.size());
  GroupNormForward<T> args = c.forward(y);
  args.mean = mean;
  args.rstd = rstd;
  group_norm_forward<T>(args, c.options());
  expect_close(
      y, c.y, [&](std::size_t i) { return c.y_bound(i); }, "y");
  expect_close(
      mean, c.normalized.mean, [&](std::size_t g) { return c.mean_bound(g); }, "mean");
  expect_close(
      rstd, c.normalized.rstd, [&](std::size_t g) { return c.rstd_bound(g); }, "rstd");

  auto in_place = c.x;
  args = c.forward(in_place);
  args.x = args.y;
  group_norm_forward<T>(args, c.options());
  expect_same(in_place, y, "y in place of x");

  // The mean alone and the rstd alone.
  std::vector<double> alone(mean.size());
  args.x = view(c.x, c.shape);
  args.mean = alone;
  group_norm_forward<T>(args, c.options());
  EXPECT_EQ(alone, mean);
  args.mean = {};
  args.rstd = alone;
  group_norm_forward<T>(args, c.options());
  EXPECT_EQ(alone, rstd);
}

template <class T>
void expect_group_norm_backward(const GroupNormCase<T>& c) {
  const auto channels = static_cast<std::size_t>(c.shape.c);
  std::vector<double> mean(c.normalized.mean.size()), rstd(mean.size());
  std::vector<Wide<T>> dweight(channels), dbias(channels);
  std::vector<T> dx(c.x.size());
  GroupNormForward<T> forward = c.forward(dx);
  forward.mean = mean;
  forward.rstd = rstd;
  group_norm_forward<T>(forward, c.options());

  GroupNormBackward<T> args = c.backward(mean, rstd);
  args.dx = view(dx, c.shape);
  args.dweight = dweight;
  args.dbias = dbias;
  group_norm_backward<T>(args, c.options());
  expect_close(
      dx, c.gradients.dx, [&](std::size_t i) { return c.dx_bound(i); }, "dx");
  expect_close(
      dweight, c.gradients.dweight, [&](std::size_t i) { return c.dweight_bound(i); }, "dweight");
  expect_close(
      dbias, c.gradients.dbias, [&](std::size_t i) { return c.dbias_bound(i); }, "dbias");

  auto in_place = c.dy;
  args.dy = view(std::as_const(in_place), c.shape);
  args.dx = view(in_place, c.shape);
  group_norm_backward<T>(args, c.options());
  expect_same(in_place, dx, "dx in place of dy");

  std::vector<Wide<T>> alone(channels);
  args = c.backward(mean, rstd);
  args.dweight = alone;
  group_norm_backward<T>(args, c.options());
  EXPECT_EQ(alone, dweight);
  args.dweight = {};
  args.dbias = alone;
  group_norm_backward<T>(args, c.options());
  EXPECT_EQ(alone, dbias);
  args.dbias = {};
  args.dx = view(in_place, c.shape);
  group_norm_backward<T>(args, c.options());
  expect_same(in_place, dx, "dx alone");
}

}  // namespace evenkeel::testing
