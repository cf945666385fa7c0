// Normalization by mean and variance, or by mean square: the same formulas, different groups.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/norm_page.h"
#include "cli/page.h"
#include "cli/worked_example.h"
#include "evenkeel/batch_norm.h"
#include "evenkeel/group_norm.h"
#include "evenkeel/instance_norm.h"
#include "evenkeel/layer_norm.h"
#include "evenkeel/moments.h"
#include "evenkeel/rms_norm.h"

namespace evenkeel::cli {
namespace {

// Groups of features over the samples, or of samples over the features.
Grouping by_feature(const Matrix& x) {
  return {.group_of = [](std::int64_t, std::int64_t feature) { return feature; },
          .names = numbered("f", x.features),
          .columns = numbered("f", x.features),
          .input = fmt::format("{} samples x {} features", x.samples, x.features),
          .first_value = "sample s1, feature f1",
          .weight_unit = "feature"};
}

Grouping by_sample(const Matrix& x) {
  Grouping grouping = by_feature(x);
  grouping.group_of = [](std::int64_t sample, std::int64_t) { return sample; };
  grouping.names = numbered("s", x.samples);
  return grouping;
}

// `groups` of each sample's channels, over their positions.
Grouping by_channels(const NormExample& example, std::int64_t groups) {
  const std::int64_t positions = example.positions;
  const std::int64_t width = example.channels() / groups;  // channels of a group
  Grouping grouping{
      .group_of =
          [=](std::int64_t sample, std::int64_t column) {
            return sample * groups + column / (width * positions);
          },
      .names = {},
      .columns = {},
      .input = fmt::format("{} samples x {} channels x {} position{}", example.x.samples,
                           example.channels(), positions, positions == 1 ? "" : "s"),
      .first_value =
          positions == 1 ? "sample s1, channel c1" : "sample s1, channel c1, position p1",
      .weight_unit = "channel"};
  for (std::int64_t n = 1; n <= example.x.samples; ++n) {
    for (std::int64_t first = 1; first <= example.channels(); first += width) {
      grouping.names.push_back(width == 1
                                   ? fmt::format("s{}, c{}", n, first)
                                   : fmt::format("s{}, c{}-c{}", n, first, first + width - 1));
    }
  }
  for (std::int64_t c = 1; c <= example.channels(); ++c) {
    for (std::int64_t p = 1; p <= positions; ++p) {
      grouping.columns.push_back(positions == 1 ? fmt::format("c{}", c)
                                                : fmt::format("c{}p{}", c, p));
    }
  }
  return grouping;
}

// The moments of each group, of the values or of their squares.
std::vector<Moments> moments_by_group(const Matrix& x, const Grouping& grouping, bool squares) {
  std::vector<std::vector<double>> values(grouping.names.size());
  for (std::int64_t n = 0; n < x.samples; ++n) {
    for (std::int64_t c = 0; c < x.features; ++c) {
      const double value = x.at(n, c);
      values[static_cast<std::size_t>(grouping.group_of(n, c))].push_back(squares ? value * value
                                                                                  : value);
    }
  }
  std::vector<Moments> moments;
  for (const auto& group : values) moments.push_back(moments_of(std::span<const double>(group)));
  return moments;
}

// Runs a layer twice, without and with weight and bias: `run` calls the library with a `Forward`.
template <class Forward, class Run>
Worked work_out(const NormExample& example, const Grouping& grouping, Run run) {
  constexpr bool centered = requires(Forward f) { f.mean; };
  Worked worked{.moments = moments_by_group(example.x, grouping, !centered),
                .rstd = std::vector<double>(grouping.names.size()),
                .normalized = example.x,
                .y = example.x};
  std::vector<double> mean(grouping.names.size());
  Forward forward;
  forward.x = {example.x.values.data(), example.shape()};
  forward.rstd = worked.rstd;
  forward.y = {worked.normalized.values.data(), example.shape()};
  if constexpr (centered) forward.mean = mean;
  run(forward);
  forward.weight = example.weight;
  if constexpr (centered) forward.bias = example.bias;
  forward.y = {worked.y.values.data(), example.shape()};
  run(forward);
  return worked;
}

}  // namespace

std::string explain_batch_norm(const NormExample& example, bool bold) {
  const Grouping grouping = by_feature(example.x);
  const Worked worked = work_out<BatchNormForward<double>>(
      example, grouping,
      [&](const auto& forward) { batch_norm_forward(forward, {.eps = example.eps}); });
  std::string out =
      "Batch normalization: each feature (column) is normalized over the samples of the batch.\n\n";
  out += norm_page(example, grouping, worked, /*centered=*/true, bold);
  out +=
      "\nA value depends on the other samples of its batch. A trained network therefore uses "
      "fixed\n"
      "statistics instead, a moving average of those seen in training.\n";
  const std::vector<double>& normalized = worked.normalized.values;
  if (example.x.samples == 2 && std::all_of(normalized.begin(), normalized.end(),
                                            [](double v) { return std::abs(v) > 0.99; })) {
    out +=
        "With two samples, both values of each feature here became -1 and +1, or close to it, "
        "however\n"
        "far apart they were: little more than their order is left. Try --samples 8.\n";
  }
  return out;
}

std::string explain_layer_norm(const NormExample& example, bool bold) {
  const Grouping grouping = by_sample(example.x);
  const Worked worked = work_out<LayerNormForward<double>>(
      example, grouping,
      [&](const auto& forward) { layer_norm_forward(forward, {.eps = example.eps}); });
  return "Layer normalization: each sample (row) is normalized over its own features.\n\n" +
         norm_page(example, grouping, worked, /*centered=*/true, bold) +
         "\nA sample's result does not depend on the other samples: training and a trained "
         "network\n"
         "compute the same, for a batch of any size. weight and bias still go by feature.\n";
}

std::string explain_group_norm(const NormExample& example, bool bold) {
  const Grouping grouping = by_channels(example, example.groups);
  const Worked worked =
      work_out<GroupNormForward<double>>(example, grouping, [&](const auto& forward) {
        group_norm_forward(forward, {.groups = example.groups, .eps = example.eps});
      });
  return fmt::format(
             "Group normalization: the channels of each sample are cut into {} groups of "
             "neighbors, and each\n"
             "group is normalized by itself, over its channels and positions.\n\n",
             example.groups) +
         norm_page(example, grouping, worked, /*centered=*/true, bold) +
         "\nA sample's result does not depend on the other samples. With one group all channels "
         "are\n"
         "averaged together, as in layer normalization; with as many groups as channels each is\n"
         "normalized alone, as in instance normalization. weight and bias go by channel.\n";
}

std::string explain_instance_norm(const NormExample& example, bool bold) {
  const Grouping grouping = by_channels(example, example.channels());
  const Worked worked = work_out<InstanceNormForward<double>>(
      example, grouping,
      [&](const auto& forward) { instance_norm_forward(forward, {.eps = example.eps}); });
  return "Instance normalization: each channel of each sample is normalized over its own "
         "positions.\n\n" +
         norm_page(example, grouping, worked, /*centered=*/true, bold) +
         "\nWhat a channel's values have in common, brightness and contrast of an image, is gone; "
         "only\n"
         "their pattern is left. A sample's result does not depend on the other samples. weight "
         "and\n"
         "bias go by channel.\n";
}

std::string explain_rms_norm(const NormExample& example, bool bold) {
  const Grouping grouping = by_sample(example.x);
  const Worked worked =
      work_out<RmsNormForward<double>>(example, grouping, [&](const auto& forward) {
        rms_norm_forward(forward, {.eps = example.eps, .unit_offset = example.unit_offset});
      });
  return "RMS normalization: each sample (row) is divided by the root of the mean square of its "
         "own\n"
         "features.\n\n" +
         norm_page(example, grouping, worked, /*centered=*/false, bold) +
         "\nNo mean is subtracted: an offset that all features share stays, where layer "
         "normalization\n"
         "takes it away. There is no bias. A sample's result does not depend on the other "
         "samples.\n";
}

}  // namespace evenkeel::cli
