#include "lab/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "evenkeel/error.h"

namespace evenkeel::lab {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

std::string_view name_of(Mode mode) { return mode == Mode::quick ? "quick" : "full"; }

std::string_view name_of(Answer answer) {
  constexpr std::array<std::string_view, 3> names = {"confirmed", "refuted", "depends"};
  return names.at(static_cast<std::size_t>(answer));
}

Answer answer_of(const std::vector<bool>& confirmed) {
  if (std::ranges::all_of(confirmed, std::identity())) return Answer::confirmed;
  if (std::ranges::none_of(confirmed, std::identity())) return Answer::refuted;
  return Answer::depends;
}

void set_seeds(Design& design, int count, int tuning) {
  constexpr std::uint64_t first_tuning_seed = 101;
  for (int i = 0; i < count; ++i) design.seeds.push_back(1 + static_cast<std::uint64_t>(i));
  for (int i = 0; i < tuning; ++i) {
    design.tuning_seeds.push_back(first_tuning_seed + static_cast<std::uint64_t>(i));
  }
}

double Measured::value(const std::string& name) const {
  const auto found = values.find(name);
  return found == values.end() ? nan : found->second;
}

const Curve& Measured::curve(const std::string& name) const {
  static const Curve empty;
  const auto found = curves.find(name);
  return found == curves.end() ? empty : found->second;
}

const Arm& Outcomes::arm(const std::string& name) const {
  const auto found = std::ranges::find(design_.arms, name, &Arm::name);
  if (found == design_.arms.end()) throw Error(fmt::format("there is no arm '{}'", name));
  return *found;
}

std::optional<double> Outcomes::rate(const Arm& arm) const {
  const auto found = rates_.find(arm.name);
  if (found != rates_.end()) return found->second;
  if (arm.rates.size() == 1) return arm.rates.front();
  return std::nullopt;
}

void Outcomes::choose(const Arm& arm, double rate) { rates_[arm.name] = rate; }

const Measured& Outcomes::trial(const Arm& arm, std::uint64_t seed) const {
  static const Measured empty;
  const auto found = std::ranges::find_if(entries_, [&](const Entry& entry) {
    return !entry.tuning && entry.seed == seed && design_.arms[entry.arm].name == arm.name;
  });
  return found == entries_.end() ? empty : found->measured;
}

std::vector<double> Outcomes::values(const Arm& arm, const std::string& name) const {
  std::vector<double> result;
  for (const auto seed : design_.seeds) result.push_back(trial(arm, seed).value(name));
  return result;
}

std::vector<double> Outcomes::values(const Arm& arm, const std::string& name,
                                     double if_diverged) const {
  std::vector<double> result;
  for (const auto seed : design_.seeds) {
    const Measured& measured = trial(arm, seed);
    result.push_back(measured.status == Status::diverged ? if_diverged : measured.value(name));
  }
  return result;
}

std::vector<double> Outcomes::tuned(const Arm& arm, double rate, const std::string& name) const {
  std::vector<double> result;
  for (const auto& entry : entries_) {
    if (entry.tuning && entry.lr == rate && design_.arms[entry.arm].name == arm.name) {
      const bool done = entry.measured.status == Status::done;
      result.push_back(done ? entry.measured.value(name) : nan);
    }
  }
  return result;
}

int Outcomes::diverged(const Arm& arm) const {
  return static_cast<int>(std::ranges::count_if(design_.seeds, [&](std::uint64_t seed) {
    return trial(arm, seed).status == Status::diverged;
  }));
}

}  // namespace evenkeel::lab
