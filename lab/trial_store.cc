#include "lab/trial_store.h"

#include <fmt/format.h>

#include <cctype>
#include <fstream>

#include "lab/files.h"
#include "lab/json_files.h"

namespace evenkeel::lab {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// FNV-1a: the same on every machine and in every release, which std::hash is not.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  return hash;
}

// "BatchNorm, batch 2" is "batchnorm-batch-2".
std::string file_name_of(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '.') {
      name += static_cast<char>(std::tolower(byte));
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  return name;
}

std::vector<double> numbers_of(const json& array) {
  std::vector<double> numbers;
  for (const auto& value : array) numbers.push_back(number_of(value));
  return numbers;
}

}  // namespace

json specification_of(const Experiment& experiment, const Trial& trial, const Dataset& data) {
  return {{"experiment", experiment.id},
          {"revision", experiment.revision},
          {"mode", name_of(trial.mode)},
          {"arm", trial.arm.name},
          {"norm", trial.arm.norm},
          {"settings", trial.arm.settings},
          {"steps", trial.arm.steps},
          {"lr", trial.lr},
          {"seed", trial.seed},
          {"tuning", trial.tuning},
          {"data",
           // The mean gray value tells other images of the same name and number.
           {{"name", data.name},
            {"mean", data.standardization.mean},
            {"train", data.train.size()},
            {"held_out", data.held_out.size()},
            {"test", data.test.size()}}}};
}

json to_json(const Measured& measured) {
  json curves = json::object();
  for (const auto& [name, curve] : measured.curves) {
    curves[name] = {{"x", curve.x}, {"y", curve.y}};
  }
  return {{"status", name_of(measured.status)},
          {"diverged_at_step", or_null(measured.diverged_at_step)},
          {"seconds", measured.seconds},
          {"values", measured.values},
          {"curves", std::move(curves)}};
}

Measured measured_of(const json& json) {
  Measured measured;
  measured.status = status_of(json.at("status").get<std::string>());
  if (!json.at("diverged_at_step").is_null()) {
    measured.diverged_at_step = json["diverged_at_step"].get<std::int64_t>();
  }
  measured.seconds = number_of(json.at("seconds"));
  for (const auto& [name, value] : json.at("values").items()) {
    measured.values[name] = number_of(value);
  }
  for (const auto& [name, curve] : json.at("curves").items()) {
    measured.curves[name] = {numbers_of(curve.at("x")), numbers_of(curve.at("y"))};
  }
  return measured;
}

fs::path TrialStore::path_of(const json& specification) const {
  return directory_ / fmt::format("{}-seed{}.{:016x}.json",
                                  file_name_of(specification.at("arm").get<std::string>()),
                                  specification.at("seed").get<std::uint64_t>(),
                                  hash_of(specification.dump()));
}

std::optional<Measured> TrialStore::load(const json& specification) const {
  std::ifstream in(path_of(specification));
  if (!in) return std::nullopt;
  const json file = json::parse(in, nullptr, /*allow_exceptions=*/false);
  try {
    if (file.at("specification") != specification) return std::nullopt;
    return measured_of(file.at("measured"));
  } catch (const std::exception&) {
    return std::nullopt;  // as good as none: it is measured and written anew
  }
}

void TrialStore::save(const json& specification, const Measured& measured) const {
  fs::create_directories(directory_);
  write_file(path_of(specification),
             to_text({{"specification", specification}, {"measured", to_json(measured)}}));
}

}  // namespace evenkeel::lab
