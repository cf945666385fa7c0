// Drawings and warnings that experiments share. In all of them the seeds of an arm are thin lines
// or hollow dots, and their mean is bold or filled.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lab/experiment.h"

namespace evenkeel::lab {

// A curve of an arm's final trials, by seed.
std::vector<Curve> curves_of(const Outcomes& outcomes, const Arm& arm, const std::string& curve);

// Curves of several seeds, each a thin line that ends where its training diverged, and the mean up
// to where every seed has a value. Points are averaged by index, in x too. One seed is only its
// mean.
std::vector<Series> seeds_and_mean(const std::vector<Curve>& curves, const std::string& label,
                                   const std::string& color, int dash = 0);
// The same of a curve of an arm's final trials, in the color of its norm.
std::vector<Series> over_seeds(const Outcomes& outcomes, const Arm& arm, const std::string& curve,
                               const std::string& label, int dash = 0);

// Values of several seeds at each x: each a hollow dot, and the means as filled dots with bootstrap
// whiskers, with a line through them if `join`. An x where a seed has none has no mean.
std::vector<Series> seeds_at(const std::vector<double>& x,
                             const std::vector<std::vector<double>>& values,
                             const std::string& label, const std::string& color, bool join,
                             int dash = 0);

// One value of each arm's final trials, side by side; `labels` instead of the names of the arms if
// given. `if_diverged` stands for a training that diverged; without it such a seed has no dot.
Panel values_by_arm(const Outcomes& outcomes, const std::vector<std::string>& arms,
                    const std::string& value, std::string title, Axis y,
                    std::vector<std::string> labels = {}, std::optional<double> if_diverged = {});

// The value by which a rate is chosen against the rate, for the tuning seeds, one line for each arm
// that had a choice. Arms of one color differ in dashes.
Panel rate_panel(const Outcomes& outcomes, const std::vector<std::string>& arms,
                 const std::string& value, std::string title, Axis y);
// Of all arms, by the accuracy on held-out images.
Figure rate_choice(const Outcomes& outcomes);

// Warns if `interval` lies on both sides of the threshold; `what` names the quantity.
void warn_if_within_noise(Verdict& verdict, const Interval& interval, double threshold,
                          std::string_view what, Format format);
// What a rule compares with its threshold.
struct Comparison {
  std::string what;
  Interval interval;
};
// Confirmed if every interval is above the threshold, refuted if none is, depends otherwise. The
// number is the interval with the lowest mean, which all others confirm with; of a refuted claim
// the highest, as not even that confirms. Warns of those within noise.
Verdict judge_above(const std::vector<Comparison>& comparisons, double threshold, Format format);

}  // namespace evenkeel::lab
