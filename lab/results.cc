#include "lab/results.h"

#include <fmt/format.h>

#include <iterator>

#include "evenkeel/error.h"
#include "lab/files.h"
#include "lab/json_files.h"
#include "lab/report/report.h"

namespace evenkeel::lab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* format_name = "evenkeel-compare";
constexpr int format_version = 1;

template <class Items, class Make>
json array_of(const Items& items, Make make) {
  json array = json::array();
  for (const auto& item : items) array.push_back(make(item));
  return array;
}

json networks_json(const Results& results) {
  json networks = json::object();
  for (const auto& name : results.networks) {
    const NetworkPlan& plan = network_plan(name);
    networks[name] = {{"title", plan.title},
                      {"activation", name_of(plan.activation)},
                      {"layers", plan.layer_names()}};
  }
  return networks;
}

json config_json(const Results& results) {
  json config = {{"networks", results.networks},
                 {"norms", results.norms},
                 {"seeds", results.seeds},
                 {"exact_images", results.exact_images},
                 {"jobs", results.jobs}};
  for (const auto& [network, training] : results.training) {
    config["steps"][network] = training.steps;
    config["batch_size"][network] = training.batch_size;
    config["lr"][network] = training.lr;
  }
  return config;
}

json test_json(const ArmResult& arm) {
  if (!arm.test) return nullptr;
  json test = {{"loss", arm.test->loss}, {"accuracy", arm.test->accuracy}};
  if (arm.batch_norm_test) {
    test["exact"] = arm.batch_norm_test->exact;
    test["batch"] = arm.batch_norm_test->batch;
  }
  return test;
}

json arm_json(const ArmResult& arm) {
  json j = {{"network", arm.network},
            {"norm", arm.norm},
            {"seed", arm.seed},
            {"status", name_of(arm.status)},
            {"error", or_null(arm.error)},
            {"diverged_at_step", or_null(arm.diverged_at_step)},
            {"parameters", arm.parameters},
            {"steps", arm.steps},
            {"seconds", arm.seconds},
            {"batch_norm_eval", nullptr},
            {"test", test_json(arm)}};
  j["train"] = array_of(arm.train, [](const TrainPoint& p) {
    return json{{"step", p.step}, {"seconds", p.seconds}, {"loss", p.loss}};
  });
  j["eval"] = array_of(arm.eval, [](const EvalPoint& p) {
    return json{{"step", p.step},
                {"seconds", p.seconds},
                {"loss", p.score.loss},
                {"accuracy", p.score.accuracy}};
  });
  j["probe"] = array_of(arm.probe, [](const ProbePoint& p) {
    return json{{"step", p.step},
                {"bands", p.probe.bands},
                {"saturated", p.probe.saturated},
                {"gradient_norm", p.probe.gradient_norm}};
  });
  if (arm.norm == "batch") {
    j["batch_norm_eval"] = array_of(arm.batch_norm_eval, [](const BatchNormPoint& p) {
      return json{{"step", p.step},
                  {"moving_average", p.accuracy.moving_average},
                  {"exact", p.accuracy.exact},
                  {"batch", p.accuracy.batch}};
    });
  }
  return j;
}

// Lines of one arm, all of which start alike.
class CsvLines {
 public:
  CsvLines(std::string& out, const ArmResult& arm)
      : out_(out), start_(fmt::format("{},{},{}", arm.network, arm.norm, arm.seed)) {}

  void add(std::int64_t step, std::string_view series, std::string_view layer, double value) {
    fmt::format_to(std::back_inserter(out_), "{},{},,{},{},{}\n", start_, step, series, layer,
                   value);
  }
  void add(std::int64_t step, double seconds, std::string_view series, double value) {
    fmt::format_to(std::back_inserter(out_), "{},{},{},{},,{}\n", start_, step, seconds, series,
                   value);
  }

 private:
  std::string& out_;
  std::string start_;
};

void add_probe(CsvLines& lines, const ProbePoint& point, const std::vector<std::string>& layers) {
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const auto& [p15, p50, p85] = point.probe.bands[l];
    lines.add(point.step, "input_p15", layers[l], p15);
    lines.add(point.step, "input_p50", layers[l], p50);
    lines.add(point.step, "input_p85", layers[l], p85);
    lines.add(point.step, "saturated", layers[l], point.probe.saturated[l]);
    lines.add(point.step, "gradient_norm", layers[l], point.probe.gradient_norm[l]);
  }
}

}  // namespace

json to_json(const Results& results) {
  return {{"format", format_name},
          {"format_version", format_version},
          {"command", results.command},
          {"started", results.started},
          {"finished", results.finished},
          {"interrupted", results.interrupted},
          {"quick", results.quick},
          {"versions", versions_json()},
          {"machine", to_json(results.machine)},
          {"data",
           {{"name", results.data_name},
            {"train", results.train_images},
            {"held_out", results.held_out_images},
            {"test", results.test_images},
            {"classes", classes}}},
          {"config", config_json(results)},
          {"networks", networks_json(results)},
          {"arms", array_of(results.arms, arm_json)}};
}

std::string to_csv(const Results& results) {
  std::string out = "network,norm,seed,step,seconds,series,layer,value\n";
  for (const auto& arm : results.arms) {
    CsvLines lines(out, arm);
    for (const auto& p : arm.train) lines.add(p.step, p.seconds, "train_loss", p.loss);
    for (const auto& p : arm.eval) {
      lines.add(p.step, p.seconds, "held_out_loss", p.score.loss);
      lines.add(p.step, p.seconds, "held_out_accuracy", p.score.accuracy);
    }
    for (const auto& p : arm.probe) add_probe(lines, p, network_plan(arm.network).layer_names());
    for (const auto& p : arm.batch_norm_eval) {
      lines.add(p.step, "held_out_accuracy_moving_average", "", p.accuracy.moving_average);
      lines.add(p.step, "held_out_accuracy_exact", "", p.accuracy.exact);
      lines.add(p.step, "held_out_accuracy_batch", "", p.accuracy.batch);
    }
    if (arm.test) {
      lines.add(arm.steps, arm.seconds, "test_loss", arm.test->loss);
      lines.add(arm.steps, arm.seconds, "test_accuracy", arm.test->accuracy);
    }
  }
  return out;
}

void write_results(const Results& results, const fs::path& directory) {
  const std::string text = to_text(to_json(results));
  write_file(directory / "results.json", text);
  write_file(directory / "log.csv", to_csv(results));
  // Drawn from the text, so that it shows what a redraw shows.
  write_file(directory / "report.html", render_report(json::parse(text)));
}

void redraw_report(const fs::path& directory) {
  const json results =
      read_results(directory / "results.json", "evenkeel compare", format_name, format_version);
  try {
    write_file(directory / "report.html", render_report(results));
  } catch (const json::exception& error) {
    throw Error(
        fmt::format("{}: is damaged: {}", (directory / "results.json").string(), error.what()));
  }
}

}  // namespace evenkeel::lab
