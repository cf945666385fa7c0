// The trials that were measured, as files, so that none is measured twice.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "lab/experiment.h"

namespace evenkeel::lab {

// A directory with one file for each trial. A file is named by its arm and by a hash of all that
// the trial depends on, which it also holds.
class TrialStore {
 public:
  explicit TrialStore(std::filesystem::path directory) : directory_(std::move(directory)) {}

  // What was measured for the same specification; nullopt if nothing was, or if its file is
  // damaged.
  std::optional<Measured> load(const nlohmann::json& specification) const;
  // Throws Error if it cannot be written.
  void save(const nlohmann::json& specification, const Measured& measured) const;

 private:
  std::filesystem::path path_of(const nlohmann::json& specification) const;

  std::filesystem::path directory_;
};

// Everything that the numbers of a trial depend on, except the code: that is the experiment's
// revision.
nlohmann::json specification_of(const Experiment& experiment, const Trial& trial,
                                const Dataset& data);

nlohmann::json to_json(const Measured& measured);
Measured measured_of(const nlohmann::json& json);

}  // namespace evenkeel::lab
