// Batch and layer normalization: the same formulas, a different group.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/page.h"
#include "cli/worked_example.h"
#include "evenkeel/batch_norm.h"
#include "evenkeel/layer_norm.h"
#include "evenkeel/moments.h"

namespace evenkeel::cli {
namespace {

// What the library computed: statistics by group, and the matrices.
struct Worked {
  std::vector<Moments> moments;  // its biased variance is the one that normalizes
  std::vector<double> rstd;
  Matrix normalized;  // x^
  Matrix y;
};

// The one difference between the two layers.
enum class Group { column, row };

std::int64_t group_of(Group group, std::int64_t sample, std::int64_t feature) {
  return group == Group::column ? feature : sample;
}

std::string letter(std::int64_t group) { return std::string(1, static_cast<char>('A' + group)); }

template <class Forward>
Forward arguments(const Matrix& x, std::span<double> mean, std::span<double> rstd, Matrix& y) {
  Forward forward;
  forward.x = x.view();
  forward.mean = mean;
  forward.rstd = rstd;
  forward.y = y.view();
  return forward;
}

Worked work_out_batch_norm(const NormExample& example) {
  const Matrix& x = example.x;
  Worked worked{.moments = {}, .rstd = {}, .normalized = x, .y = x};
  std::vector<double> mean(static_cast<std::size_t>(x.features));
  worked.rstd = mean;
  const BatchNormOptions options{.eps = example.eps};
  auto forward = arguments<BatchNormForward<double>>(x, mean, worked.rstd, worked.normalized);
  batch_norm_forward(forward, options);
  forward.weight = example.weight;
  forward.bias = example.bias;
  forward.y = worked.y.view();
  batch_norm_forward(forward, options);

  ChannelMoments moments(x.features);
  moments.add(x.view());
  for (std::size_t c = 0; c < mean.size(); ++c) {
    worked.moments.push_back({moments.count(), moments.mean()[c], moments.m2()[c]});
  }
  return worked;
}

Worked work_out_layer_norm(const NormExample& example) {
  const Matrix& x = example.x;
  Worked worked{.moments = {}, .rstd = {}, .normalized = x, .y = x};
  std::vector<double> mean(static_cast<std::size_t>(x.samples));
  worked.rstd = mean;
  auto forward = arguments<LayerNormForward<double>>(x, mean, worked.rstd, worked.normalized);
  layer_norm_forward(forward, example.eps);
  forward.weight = example.weight;
  forward.bias = example.bias;
  forward.y = worked.y.view();
  layer_norm_forward(forward, example.eps);

  const std::span<const double> values = x.values;
  const auto features = static_cast<std::size_t>(x.features);
  for (std::size_t n = 0; n < mean.size(); ++n) {
    worked.moments.push_back(moments_of(values.subspan(n * features, features)));
  }
  return worked;
}

std::string by_hand(const NormExample& example, const Worked& worked, Group group) {
  const Matrix& x = example.x;
  const bool column = group == Group::column;
  const std::int64_t count = column ? x.samples : x.features;
  const auto value = [&](std::int64_t i) { return column ? x.at(i, 0) : x.at(0, i); };
  const double mu = worked.moments[0].mean;
  const double var = worked.moments[0].biased_variance();
  const double normalized = worked.normalized.at(0, 0);

  std::string out = "One value by hand: sample s1, feature f1, group A\n";
  out += fmt::format("  mu   = ({}) / {} = {}\n",
                     spelled_sum(count, [&](std::int64_t i) { return operand(value(i)); }), count,
                     number(mu));
  out += fmt::format("  var  = ({}) / {} = {}\n",
                     spelled_sum(count,
                                 [&](std::int64_t i) {
                                   return fmt::format("({} - {})^2", number(value(i)), operand(mu));
                                 }),
                     count, number(var));
  out += fmt::format("  rstd = 1 / sqrt({} + {}) = {}\n", number(var), number(example.eps),
                     number(worked.rstd[0]));
  out += fmt::format("  x^   = ({} - {}) * {} = {}\n", number(value(0)), operand(mu),
                     number(worked.rstd[0]), number(normalized));
  out +=
      fmt::format("  y    = {} * {} + {} = {}\n", number(normalized),
                  operand(example.weight.empty() ? 1 : example.weight[0]),
                  operand(example.bias.empty() ? 0 : example.bias[0]), number(worked.y.at(0, 0)));
  return out;
}

std::string parameters(const NormExample& example) {
  if (example.weight.empty() && example.bias.empty()) {
    return "  weight is 1 and bias is 0, as they are when training starts, so y = x^.\n";
  }
  const std::vector<double>* rows[] = {&example.weight, &example.bias};
  return Table{.columns = numbered("f", example.x.features),
               .rows = {"weight", "bias"},
               .cell =
                   [&](std::int64_t r, std::int64_t c) {
                     const std::vector<double>& row = *rows[r];
                     return row.empty() ? number(r == 0 ? 1 : 0)
                                        : number(row[static_cast<std::size_t>(c)]);
                   },
               .bold = {}}
      .text();
}

std::string page(const NormExample& example, const Worked& worked, Group group, bool bold) {
  const Matrix& x = example.x;
  const auto in_first_group = [&](std::int64_t n, std::int64_t c) {
    return bold && group_of(group, n, c) == 0;
  };
  const auto matrix = [&](auto cell) {
    return Table{.columns = numbered("f", x.features),
                 .rows = numbered("s", x.samples),
                 .cell = cell,
                 .bold = in_first_group}
        .text();
  };
  const bool column = group == Group::column;

  std::string out = fmt::format("Input x: {} samples x {} features\n", x.samples, x.features);
  out += matrix([&](std::int64_t n, std::int64_t c) { return number(x.at(n, c)); });
  out += "\nWho is averaged with whom: values with the same letter form one group\n";
  out += matrix([&](std::int64_t n, std::int64_t c) { return letter(group_of(group, n, c)); });

  out +=
      "\n1. Statistics of each group of K values\n"
      "     mu = sum(x) / K     var = sum((x - mu)^2) / K     rstd = 1 / sqrt(var + eps)\n";
  std::vector<std::string> groups;
  for (std::size_t g = 0; g < worked.moments.size(); ++g) {
    groups.push_back(
        fmt::format("{} ({}{})", letter(static_cast<std::int64_t>(g)), column ? "f" : "s", g + 1));
  }
  out += Table{.columns = {"K", "mu", "var", "rstd"},
               .rows = groups,
               .cell =
                   [&](std::int64_t r, std::int64_t c) {
                     const auto g = static_cast<std::size_t>(r);
                     const Moments& moments = worked.moments[g];
                     switch (c) {
                       case 0:
                         return number(moments.count);
                       case 1:
                         return decimal(moments.mean);
                       case 2:
                         return decimal(moments.biased_variance());
                       default:
                         return decimal(worked.rstd[g]);
                     }
                   },
               .bold = [&](std::int64_t r, std::int64_t) { return bold && r == 0; }}
             .text();

  out += "\n2. Normalize: x^ = (x - mu) * rstd, with the statistics of the value's group\n";
  out +=
      matrix([&](std::int64_t n, std::int64_t c) { return decimal(worked.normalized.at(n, c)); });
  out += "\n3. Scale and shift, by feature: y = x^ * weight + bias\n";
  out += parameters(example);
  out += matrix([&](std::int64_t n, std::int64_t c) { return decimal(worked.y.at(n, c)); });
  return out + "\n" + by_hand(example, worked, group);
}

}  // namespace

std::string explain_batch_norm(const NormExample& example, bool bold) {
  std::string out =
      "Batch normalization: each feature (column) is normalized over the samples of the batch.\n\n";
  const Worked worked = work_out_batch_norm(example);
  out += page(example, worked, Group::column, bold);
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
  std::string out =
      "Layer normalization: each sample (row) is normalized over its own features.\n\n";
  out += page(example, work_out_layer_norm(example), Group::row, bold);
  out +=
      "\nA sample's result does not depend on the other samples: training and a trained network\n"
      "compute the same, for a batch of any size. weight and bias still go by feature.\n";
  return out;
}

}  // namespace evenkeel::cli
