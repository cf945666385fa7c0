#include "lab/norm_grid.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "lab/draw.h"

namespace evenkeel::lab {
namespace {

NetworkPlan xavier_perceptron() {
  auto plan = perceptron(3, 100, Activation::sigmoid);
  plan.xavier = true;
  return plan;
}

std::string rate_title(bool own_rate) {
  return own_rate ? "own best learning rate" : "equal learning rate";
}

}  // namespace

std::string GridCell::arm_name() const {
  return fmt::format("{}, {}, {}", network.name, grid_norm_title(norm),
                     own_rate ? "own rate" : "equal rate");
}

std::string GridCell::rate_title() const { return own_rate ? "own rates" : "equal rates"; }

const std::vector<GridNetwork>& grid_networks() {
  static const std::vector<GridNetwork> networks = {
      {.name = "mlp",
       .title = "a perceptron of 3 layers of 100 sigmoid units (Xavier initialization)",
       .plan = xavier_perceptron(),
       .batch_size = 60,
       .equal_rate = 0.3,
       .rates = {0.03, 0.1, 0.3, 1, 3},
       .steps = 3000,
       .quick_steps = 600},
      {.name = "cnn",
       .title = "the convolutional network",
       .plan = network_plan("cnn"),
       .batch_size = 64,
       .equal_rate = 0.1,
       .rates = {0.01, 0.03, 0.1, 0.3, 1},
       .steps = 600,
       .quick_steps = 120},
  };
  return networks;
}

const std::vector<std::string>& grid_norms() {
  static const std::vector<std::string> norms = {"none", "batch", "layer"};
  return norms;
}

std::vector<GridCell> grid_cells(const std::string& norm) {
  std::vector<GridCell> cells;
  for (const auto& network : grid_networks()) {
    for (const bool own_rate : {false, true}) cells.push_back({network, norm, own_rate});
  }
  return cells;
}

std::string grid_norm_title(const std::string& norm) {
  if (norm == "batch") return "BatchNorm";
  return norm == "layer" ? "LayerNorm" : "none";
}

std::string grid_protocol() {
  std::vector<std::string> parts;
  for (const auto& network : grid_networks()) {
    parts.push_back(fmt::format("{} at batches of {} and lr = {} or the best of {}", network.title,
                                network.batch_size, network.equal_rate,
                                fmt::join(network.rates, ", ")));
  }
  return fmt::format(
      "Without norm, with BatchNorm and with LayerNorm: {}. The best rate of each arm is that with "
      "the highest accuracy on held-out images.",
      fmt::join(parts, "; "));
}

std::vector<double> grid_values_of(const Outcomes& outcomes, const GridCell& cell,
                                   const std::string& value) {
  return outcomes.values(outcomes.arm(cell.arm_name()), value);
}

Design grid_design(Mode mode) {
  Design design;
  for (const auto& norm : grid_norms()) {
    for (const auto& cell : grid_cells(norm)) {
      const auto& network = cell.network;
      design.batch_size = std::max(design.batch_size, network.batch_size);
      design.arms.push_back(
          {.name = cell.arm_name(),
           .norm = norm,
           .settings = {{"network", network.name}, {"batch_size", network.batch_size}},
           .steps = mode == Mode::full ? network.steps : network.quick_steps,
           .rates = cell.own_rate ? network.rates : std::vector<double>{network.equal_rate}});
    }
  }
  set_seeds(design, mode == Mode::full ? 5 : 2, 1);
  return design;
}

const GridNetwork& grid_network(const Trial& trial) {
  const auto name = trial.arm.settings.at("network").get<std::string>();
  return *std::ranges::find(grid_networks(), name, &GridNetwork::name);
}

TrialPlan grid_plan(const Trial& trial) {
  const auto& network = grid_network(trial);
  TrialPlan plan{.network = network.plan, .norm = norm_of(trial.arm.norm)};
  plan.batch_size = network.batch_size;
  plan.eval_points = 1;
  return plan;
}

std::vector<Panel> grid_panels(const Outcomes& outcomes, const std::string& curve, const Axis& y) {
  std::vector<Panel> panels;
  for (const auto& [network, any, own_rate] : grid_cells("none")) {
    Panel panel{.title = fmt::format("{}, {}", network.name, rate_title(own_rate)),
                .x = {.title = "Step", .format = Format::count},
                .y = y};
    for (const auto& norm : grid_norms()) {
      const auto& arm = outcomes.arm(GridCell{network, norm, own_rate}.arm_name());
      auto lines = over_seeds(outcomes, arm, curve, grid_norm_title(norm));
      std::ranges::move(lines, std::back_inserter(panel.series));
    }
    panels.push_back(std::move(panel));
  }
  return panels;
}

std::vector<Panel> grid_values(const Outcomes& outcomes, const std::string& value, const Axis& y) {
  std::vector<Panel> panels;
  for (const auto& network : grid_networks()) {
    std::vector<std::string> arms;
    std::vector<std::string> labels;
    for (const bool own_rate : {false, true}) {
      for (const auto& norm : grid_norms()) {
        arms.push_back(GridCell{network, norm, own_rate}.arm_name());
        labels.push_back(grid_norm_title(norm) + (own_rate ? ", own" : ", equal"));
      }
    }
    panels.push_back(values_by_arm(outcomes, arms, value, network.name, y, labels));
  }
  return panels;
}

}  // namespace evenkeel::lab
