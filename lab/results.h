// What a comparison measured, and its forms in files. docs/results-format.md describes each value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lab/machine.h"
#include "lab/measure.h"
#include "lab/training.h"

namespace evenkeel::lab {

struct TrainPoint {
  std::int64_t step = 0;
  double seconds = 0;
  double loss = 0;
};

struct EvalPoint {
  std::int64_t step = 0;
  double seconds = 0;
  Score score;
};

struct ProbePoint {
  std::int64_t step = 0;
  Probe probe;
};

struct BatchNormPoint {
  std::int64_t step = 0;
  BatchNormAccuracy accuracy;
};

// One training: a network with a norm from a seed.
struct ArmResult {
  std::string network;
  std::string norm;
  std::uint64_t seed = 0;
  Status status = Status::not_started;
  std::optional<std::string> error;              // why it failed
  std::optional<std::int64_t> diverged_at_step;  // first step whose loss was not finite
  std::int64_t parameters = 0;
  std::int64_t steps = 0;
  double seconds = 0;
  std::vector<TrainPoint> train;
  std::vector<EvalPoint> eval;
  std::vector<ProbePoint> probe;
  std::vector<BatchNormPoint> batch_norm_eval;  // only with BatchNorm
  std::optional<Score> test;
  std::optional<BatchNormAccuracy> batch_norm_test;  // only with BatchNorm
};

struct Results {
  std::string command;
  std::string started;  // UTC, ISO 8601
  std::string finished;
  bool interrupted = false;
  bool quick = false;
  Machine machine;
  std::string data_name;
  std::int64_t train_images = 0;
  std::int64_t held_out_images = 0;
  std::int64_t test_images = 0;
  std::int64_t exact_images = 0;
  std::vector<std::string> networks;
  std::vector<std::string> norms;
  std::vector<std::uint64_t> seeds;
  std::map<std::string, Training> training;  // by network
  int jobs = 1;
  std::vector<ArmResult> arms;
};

nlohmann::json to_json(const Results& results);
// Every series in long form, one value a line, under a header line.
std::string to_csv(const Results& results);

// Writes results.json, log.csv and report.html into a directory, each whole or not at all.
void write_results(const Results& results, const std::filesystem::path& directory);
// Draws report.html of a directory anew from its results.json. Throws Error if that is missing or
// not of this format.
void redraw_report(const std::filesystem::path& directory);

}  // namespace evenkeel::lab
