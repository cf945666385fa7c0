// results.json of the lab, and the report drawn from it.
#include <fmt/format.h>

#include "evenkeel/error.h"
#include "lab/files.h"
#include "lab/json_files.h"
#include "lab/lab.h"
#include "lab/report/report.h"
#include "lab/trial_store.h"

namespace evenkeel::lab {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* format_name = "evenkeel-lab";
constexpr int format_version = 1;

json to_json(const Verdict& verdict) {
  return {{"answer", name_of(verdict.answer)}, {"depends_on", verdict.depends_on},
          {"number_is", verdict.number_is},    {"number", to_json(verdict.number)},
          {"format", name_of(verdict.format)}, {"found", verdict.found},
          {"warnings", verdict.warnings}};
}

json arm_json(const Experiment& experiment, const Outcomes& outcomes, const Arm& arm) {
  json statuses = json::array();
  for (const auto seed : outcomes.design().seeds) {
    statuses.push_back(name_of(outcomes.trial(arm, seed).status));
  }
  json values = json::object();
  for (const auto& column : experiment.columns) {
    values[column.value] = outcomes.values(arm, column.value);
  }
  return {{"name", arm.name},
          {"norm", arm.norm},
          {"settings", arm.settings},
          {"steps", arm.steps},
          {"rates", arm.rates},
          {"rate", or_null(outcomes.rate(arm))},
          {"diverged", outcomes.diverged(arm)},
          {"statuses", std::move(statuses)},
          {"values", std::move(values)}};
}

json run_json(const Outcomes& outcomes, const Outcomes::Entry& entry) {
  json run = to_json(entry.measured);
  run["arm"] = outcomes.design().arms[entry.arm].name;
  run["lr"] = entry.lr;
  run["seed"] = entry.seed;
  run["tuning"] = entry.tuning;
  return run;
}

json to_json(const Conclusion& conclusion) {
  const Experiment& experiment = *conclusion.experiment;
  const Outcomes& outcomes = conclusion.outcomes;
  json columns = json::array();
  for (const auto& column : experiment.columns) {
    columns.push_back(
        {{"value", column.value}, {"title", column.title}, {"format", name_of(column.format)}});
  }
  json arms = json::array();
  int diverged = 0;
  for (const auto& arm : outcomes.design().arms) {
    arms.push_back(arm_json(experiment, outcomes, arm));
    diverged += outcomes.diverged(arm);
  }
  json figures = json::array();
  for (const auto& figure : conclusion.figures) figures.push_back(lab::to_json(figure));
  json runs = json::array();
  for (const auto& entry : outcomes.entries()) runs.push_back(run_json(outcomes, entry));
  return {{"id", experiment.id},
          {"title", experiment.title},
          {"claim", experiment.claim},
          {"source", experiment.source},
          {"protocol", experiment.protocol},
          {"rule", experiment.rule},
          {"refutation", experiment.refutation},
          {"command", fmt::format("evenkeel lab {} --{}", experiment.id, name_of(outcomes.mode()))},
          {"trials", conclusion.trials},
          {"measured", conclusion.measured},
          {"reused", conclusion.reused},
          {"diverged", diverged},
          {"errors", conclusion.errors},
          {"seconds", conclusion.seconds},
          {"trial_seconds", conclusion.trial_seconds},
          {"seeds", outcomes.design().seeds},
          {"tuning_seeds", outcomes.design().tuning_seeds},
          {"verdict", conclusion.verdict ? to_json(*conclusion.verdict) : json(nullptr)},
          {"columns", std::move(columns)},
          {"arms", std::move(arms)},
          {"figures", std::move(figures)},
          {"runs", std::move(runs)}};
}

}  // namespace

json to_json(const LabResults& results) {
  json experiments = json::array();
  for (const auto& conclusion : results.conclusions) experiments.push_back(to_json(conclusion));
  return {{"format", format_name},
          {"format_version", format_version},
          {"command", results.command},
          {"started", results.started},
          {"finished", results.finished},
          {"mode", name_of(results.mode)},
          {"interrupted", results.interrupted},
          {"jobs", results.jobs},
          {"versions", versions_json()},
          {"machine", to_json(results.machine)},
          {"data",
           {{"name", results.data_name},
            {"train", results.train_images},
            {"held_out", results.held_out_images},
            {"test", results.test_images}}},
          {"experiments", std::move(experiments)}};
}

void write_lab_results(const LabResults& results, const fs::path& directory) {
  const std::string text = to_text(to_json(results));
  write_file(directory / "results.json", text);
  // Drawn from the text, so that it shows what a redraw shows.
  write_file(directory / "report.html", render_lab_report(json::parse(text)));
}

json redraw_lab_report(const fs::path& directory) {
  const fs::path path = directory / "results.json";
  json results = read_results(path, "evenkeel lab", format_name, format_version);
  try {
    write_file(directory / "report.html", render_lab_report(results));
  } catch (const json::exception& error) {
    throw Error(fmt::format("{}: is damaged: {}", path.string(), error.what()));
  }
  return results;
}

}  // namespace evenkeel::lab
