#include "lab/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <utility>

namespace evenkeel::lab {
namespace {

Series line(const Curve& curve, const std::string& color, int dash) {
  Series series{.color = color, .dash = dash};
  for (std::size_t i = 0; i < curve.x.size(); ++i) {
    series.points.push_back({curve.x[i], curve.y[i]});
  }
  return series;
}

Curve mean_of(const std::vector<Curve>& curves) {
  std::size_t shortest = curves.empty() ? 0 : curves.front().x.size();
  for (const auto& curve : curves) shortest = std::min(shortest, curve.x.size());
  const auto n = static_cast<double>(curves.size());
  Curve mean;
  for (std::size_t i = 0; i < shortest; ++i) {
    double x = 0;
    double y = 0;
    for (const auto& curve : curves) {
      x += curve.x[i] / n;
      y += curve.y[i] / n;
    }
    mean.add(x, y);
  }
  return mean;
}

Point mean_point(double x, std::span<const double> values) {
  const auto interval = bootstrap_mean(values);
  return {x, interval.mean, interval.low, interval.high};
}

}  // namespace

std::vector<Series> seeds_and_mean(const std::vector<Curve>& curves, const std::string& label,
                                   const std::string& color, int dash) {
  std::vector<Series> all;
  if (curves.size() > 1) {
    for (const auto& curve : curves) {
      all.push_back(line(curve, color, dash));
      all.back().thin = true;
    }
  }
  all.push_back(line(mean_of(curves), color, dash));
  all.back().label = label;
  return all;
}

std::vector<Curve> curves_of(const Outcomes& outcomes, const Arm& arm, const std::string& curve) {
  std::vector<Curve> curves;
  for (const auto seed : outcomes.design().seeds) {
    curves.push_back(outcomes.trial(arm, seed).curve(curve));
  }
  return curves;
}

std::vector<Series> over_seeds(const Outcomes& outcomes, const Arm& arm, const std::string& curve,
                               const std::string& label, int dash) {
  return seeds_and_mean(curves_of(outcomes, arm, curve), label, arm.norm, dash);
}

std::vector<Series> seeds_at(const std::vector<double>& x,
                             const std::vector<std::vector<double>>& values,
                             const std::string& label, const std::string& color, bool join,
                             int dash) {
  Series seeds{.color = color, .style = Series::Style::dots, .thin = true, .dash = dash};
  Series means{.label = label, .color = color, .style = Series::Style::dots, .dash = dash};
  Series through{.color = color, .dash = dash};
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (const double value : values[i]) seeds.points.push_back({x[i], value});
    means.points.push_back(mean_point(x[i], values[i]));
    through.points.push_back({x[i], means.points.back().y});
  }
  std::vector<Series> all = {std::move(seeds)};
  if (join) all.push_back(std::move(through));
  all.push_back(std::move(means));
  return all;
}

Panel values_by_arm(const Outcomes& outcomes, const std::vector<std::string>& arms,
                    const std::string& value, std::string title, Axis y,
                    std::vector<std::string> labels, std::optional<double> if_diverged) {
  Panel panel{.title = std::move(title), .y = std::move(y)};
  panel.x.categories = labels.empty() ? arms : std::move(labels);
  for (std::size_t i = 0; i < arms.size(); ++i) {
    const auto& arm = outcomes.arm(arms[i]);
    const auto values =
        if_diverged ? outcomes.values(arm, value, *if_diverged) : outcomes.values(arm, value);
    // The seeds stand beside their mean, which would hide them.
    const auto at = static_cast<double>(i);
    Series seeds{.color = arm.norm, .style = Series::Style::dots, .thin = true};
    for (const double each : values) seeds.points.push_back({at - 0.12, each});
    panel.series.push_back(std::move(seeds));
    panel.series.push_back(
        {.color = arm.norm, .points = {mean_point(at, values)}, .style = Series::Style::dots});
  }
  return panel;
}

Panel rate_panel(const Outcomes& outcomes, const std::vector<std::string>& arms,
                 const std::string& value, std::string title, Axis y) {
  Panel panel{
      .title = std::move(title), .x = {.title = "Learning rate", .log = true}, .y = std::move(y)};
  std::map<std::string, int> dashes;  // by color
  for (const auto& name : arms) {
    const auto& arm = outcomes.arm(name);
    if (arm.rates.size() < 2) continue;
    std::vector<std::vector<double>> values;
    for (const double rate : arm.rates) values.push_back(outcomes.tuned(arm, rate, value));
    auto drawn = seeds_at(arm.rates, values, arm.name, arm.norm, /*join=*/true, dashes[arm.norm]++);
    std::ranges::move(drawn, std::back_inserter(panel.series));
  }
  return panel;
}

Figure rate_choice(const Outcomes& outcomes) {
  std::vector<std::string> arms;
  for (const auto& arm : outcomes.design().arms) arms.push_back(arm.name);
  return {.title = "How the learning rates were chosen",
          .caption =
              "Each arm takes the rate with the best mean over the tuning seeds on held-out "
              "images, which neither train nor decide. A rate without a point diverged.",
          .panels = {rate_panel(outcomes, arms, "held_out_accuracy", "Choice of the rate",
                                {.title = "Held-out accuracy", .format = Format::percent})}};
}

void warn_if_within_noise(Verdict& verdict, const Interval& interval, double threshold,
                          std::string_view what, Format format) {
  if (!interval.known() || !interval.contains(threshold)) return;
  verdict.warnings.push_back(fmt::format("Within noise: the interval of {}, {}, contains {}.", what,
                                         format_interval(interval, format),
                                         format_number(threshold, format)));
}

Verdict judge_above(const std::vector<Comparison>& comparisons, double threshold, Format format) {
  Verdict verdict;
  verdict.format = format;
  std::vector<bool> above;
  std::vector<Comparison> known;
  for (const auto& comparison : comparisons) {
    above.push_back(comparison.interval.above(threshold));
    warn_if_within_noise(verdict, comparison.interval, threshold, comparison.what, format);
    if (!std::isnan(comparison.interval.mean)) {
      known.push_back(comparison);
    } else {
      verdict.warnings.push_back(fmt::format(
          "Not known, as a training has no such value, and so not shown: {}.", comparison.what));
    }
  }
  verdict.answer = answer_of(above);
  if (known.empty()) return verdict;
  const auto mean = [](const Comparison& each) { return each.interval.mean; };
  const auto deciding = verdict.answer == Answer::refuted
                            ? std::ranges::max_element(known, {}, mean)
                            : std::ranges::min_element(known, {}, mean);
  verdict.number_is = deciding->what;
  verdict.number = deciding->interval;
  return verdict;
}

}  // namespace evenkeel::lab
