// Arms that several experiments share: each network without norm, with BatchNorm and with
// LayerNorm, at one learning rate for all and at each one's own best.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lab/experiment.h"
#include "lab/networks.h"
#include "lab/train_trial.h"

namespace evenkeel::lab {

struct GridNetwork {
  std::string name;
  std::string title;
  NetworkPlan plan;
  std::int64_t batch_size;
  double equal_rate;          // of all norms alike
  std::vector<double> rates;  // that the best is chosen from
  std::int64_t steps;
  std::int64_t quick_steps;
};

// One combination.
struct GridCell {
  const GridNetwork& network;
  std::string norm;
  bool own_rate;

  std::string arm_name() const;
  std::string rate_title() const;  // "equal rates" or "own rates"
  // The arm without norm that it is compared with.
  GridCell without_norm() const { return {network, "none", own_rate}; }
};

const std::vector<GridNetwork>& grid_networks();
const std::vector<std::string>& grid_norms();  // none, batch, layer
// Every network at equal and at own rates, with this norm.
std::vector<GridCell> grid_cells(const std::string& norm);
std::string grid_norm_title(const std::string& norm);
// Networks and rates in a sentence.
std::string grid_protocol();

// A value of a cell's final trials, by seed.
std::vector<double> grid_values_of(const Outcomes& outcomes, const GridCell& cell,
                                   const std::string& value);

Design grid_design(Mode mode);
// The network that a trial of such a design is about, and what it trains.
const GridNetwork& grid_network(const Trial& trial);
TrialPlan grid_plan(const Trial& trial);

// A panel for each network and kind of rate: a curve of each norm.
std::vector<Panel> grid_panels(const Outcomes& outcomes, const std::string& curve, const Axis& y);
// A panel for each network: one value of each arm.
std::vector<Panel> grid_values(const Outcomes& outcomes, const std::string& value, const Axis& y);

}  // namespace evenkeel::lab
