#include "tests/lab/report/synthetic_lab_results.h"

#include <cmath>
#include <string>
#include <vector>

namespace evenkeel::lab {
namespace {

using nlohmann::json;

constexpr int seed_count = 3;
constexpr int total_steps = 500;

json axis(const std::string& title, const std::string& format, bool log = false,
          const std::vector<std::string>& categories = {}) {
  return {{"title", title}, {"format", format}, {"log", log}, {"categories", categories}};
}

json series(const std::string& label, const std::string& color, const std::string& style, bool thin,
            const json& points, int dash = 0) {
  return {{"label", label}, {"color", color}, {"style", style},
          {"thin", thin},   {"dash", dash},   {"points", points}};
}

// A curve that falls, for every seed, and their mean.
void add_curves(json& panel, const std::string& label, const std::string& norm, double rate,
                int dash) {
  json mean = json::array();
  for (int seed = 1; seed <= seed_count; ++seed) {
    json points = json::array();
    for (int step = 20; step <= total_steps; step += 20) {
      points.push_back({step, 0.4 + 1.9 * std::exp(-rate * (1 + 0.1 * seed) * step)});
    }
    panel["series"].push_back(series("", norm, "line", true, points, dash));
  }
  for (int step = 20; step <= total_steps; step += 20) {
    mean.push_back({step, 0.4 + 1.9 * std::exp(-rate * 1.2 * step)});
  }
  panel["series"].push_back(series(label, norm, "line", false, mean, dash));
}

json curves_figure() {
  json loss = {{"title", "Training loss"},
               {"x", axis("step", "count")},
               {"y", axis("loss", "decimal")},
               {"series", json::array()}};
  json band = loss;
  band["title"] = "Inputs of the last layer";
  band["y"] = axis("input", "decimal");
  add_curves(loss, "no normalization", "none", 0.003, 0);
  add_curves(loss, "BatchNorm", "batch", 0.02, 0);
  add_curves(loss, "BatchNorm, frozen", "batch", 0.012, 1);
  for (const std::string norm : {"none", "batch"}) {
    json points = json::array();
    for (int step = 20; step <= total_steps; step += 20) {
      const double middle = norm == "none" ? 0.004 * step : 0.1 * std::sin(0.02 * step);
      points.push_back({step, middle, middle - 1, middle + 1.2});
    }
    points[5][1] = points[5][2] = points[5][3] = nullptr;  // a gap
    band["series"].push_back(
        series(norm == "none" ? "no normalization" : "BatchNorm", norm, "line", false, points));
  }
  return {{"title", "Learning"},
          {"caption", "Loss on the training batches, and the 15th to 85th percentile."},
          {"panels", {loss, band}}};
}

json rates_figure() {
  json panels = json::array();
  for (const std::string depth : {"3 layers", "10 layers", "30 layers"}) {
    json panel = {{"title", depth},
                  {"x", axis("learning rate", "power", true)},
                  {"y", axis("final loss", "power", true)},
                  {"series", json::array()}};
    for (const std::string norm : {"none", "batch", "layer"}) {
      json seeds = json::array();
      json means = json::array();
      for (int i = 0; i < 8; ++i) {
        const double rate = 0.003 * std::pow(10.0, 0.5 * i);
        const double best = norm == "none" ? 0.1 : norm == "batch" ? 3 : 0.5;
        const double loss = 0.03 * std::exp(std::pow(std::log10(rate / best), 2));
        for (int seed = 0; seed < seed_count; ++seed) {
          seeds.push_back({rate, loss * (0.8 + 0.2 * seed)});
        }
        means.push_back({rate, loss, 0.8 * loss, 1.2 * loss});
      }
      if (norm == "none") means.back() = {9.5, nullptr, nullptr, nullptr};
      panel["series"].push_back(series("", norm, "dots", true, seeds));
      panel["series"].push_back(series("mean of " + norm, norm, "dots", false, means));
    }
    panels.push_back(panel);
  }
  return {{"title", "Loss against learning rate"},
          {"caption", "Every dot is a seed; whiskers are 95% intervals."},
          {"panels", panels}};
}

json settings_figure() {
  const std::vector<std::string> names = {"no normalization, batch 2", "BatchNorm, batch 2",
                                          "no normalization, batch 64", "BatchNorm, batch 64"};
  const double accuracies[] = {0.86, 0.63, 0.88, 0.90};
  json panel = {{"title", ""},
                {"x", axis("", "count", false, names)},
                {"y", axis("test accuracy", "percent")},
                {"series", json::array()}};
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string norm = i % 2 == 0 ? "none" : "batch";
    const double x = static_cast<double>(i);
    json seeds = json::array();
    for (int seed = -1; seed <= 1; ++seed) seeds.push_back({x - 0.12, accuracies[i] + 0.01 * seed});
    panel["series"].push_back(series("", norm, "dots", true, seeds));
    panel["series"].push_back(
        series(norm == "none" ? "no normalization" : "BatchNorm", norm, "dots", false,
               {{x, accuracies[i], accuracies[i] - 0.01, accuracies[i] + 0.01}}));
  }
  json empty = panel;
  empty["title"] = "Not measured";
  for (json& one : empty["series"]) {
    for (json& point : one["points"]) point = {point[0], nullptr};
  }
  return {{"title", "Accuracy by arm"},
          {"caption", "Seeds are hollow, means full."},
          {"panels", {panel, empty}}};
}

json arm(const std::string& name, const std::string& norm, double accuracy,
         const std::vector<double>& rates) {
  return {{"name", name},
          {"norm", norm},
          {"settings", {{"depth", 3}}},
          {"steps", total_steps},
          {"rates", rates},
          {"rate", rates.back()},
          {"diverged", 0},
          {"statuses", {"done", "done", "done"}},
          {"values",
           {{"test_accuracy", {accuracy - 0.01, accuracy, accuracy + 0.01}},
            {"final_loss", {0.41, 0.42, 0.43}}}}};
}

json experiment(const std::string& id, const std::string& title, const json& figures) {
  return {
      {"id", id},
      {"title", title},
      {"claim", "Made-up claim of " + id + ": a network with normalization does better."},
      {"source", "A made-up paper, 2017"},
      {"protocol",
       "Networks of three hidden layers with 100 units each are trained on 55,000 images for 500 "
       "steps of 60 images; each arm's learning rate is chosen on held-out images."},
      {"rule",
       "Confirmed if the 95% interval of the paired difference lies above 0 for every setting; "
       "refuted if it does for none; depends otherwise."},
      {"refutation", "An interval that reaches below 0 for every setting."},
      {"command", "evenkeel lab " + id + " --full"},
      {"trials", 12},
      {"measured", 12},
      {"reused", 0},
      {"diverged", 0},
      {"errors", json::array()},
      {"seconds", 312.4},
      {"trial_seconds", 603.0},
      {"seeds", {1, 2, 3}},
      {"tuning_seeds", {101}},
      {"verdict", nullptr},
      {"columns",
       {{{"value", "test_accuracy"}, {"title", "Test accuracy"}, {"format", "percent"}},
        {{"value", "final_loss"}, {"title", "Final loss"}, {"format", "decimal"}}}},
      {"arms",
       {arm("no normalization", "none", 0.86, {0.01, 0.1}),
        arm("BatchNorm", "batch", 0.89, {0.01, 0.1, 1})}},
      {"figures", figures},
      {"runs", {{{"arm", "a raw trial"}, {"lr", 0.1}, {"seed", 1}}}}};
}

json verdict(const std::string& answer, const std::string& depends_on, const std::string& number_is,
             const json& number, const std::string& format) {
  return {{"answer", answer},         {"depends_on", depends_on},
          {"number_is", number_is},   {"number", number},
          {"format", format},         {"found", "What the numbers of this made-up experiment say."},
          {"warnings", json::array()}};
}

}  // namespace

json synthetic_lab_results() {
  json curves = experiment("curves", "Learning in fewer steps", json::array({curves_figure()}));
  curves["verdict"] =
      verdict("confirmed", "", "steps to a loss of 0.5, none over BatchNorm",
              {{"mean", 5.5}, {"low", 4.75}, {"high", 6.25}, {"count", 3}}, "ratio");
  json rates = experiment("rates", "Larger learning rates", json::array({rates_figure()}));
  rates["verdict"] =
      verdict("refuted", "", "accuracy of BatchNorm minus none at the best rate",
              {{"mean", -0.002}, {"low", nullptr}, {"high", nullptr}, {"count", 1}}, "points");
  rates["verdict"]["warnings"] = {"One seed only: the spread is not known.",
                                  "Within noise: the difference is small."};
  rates["diverged"] = 1;
  rates["reused"] = 4;
  rates["arms"][0]["diverged"] = 1;
  rates["arms"][0]["statuses"][2] = "diverged";
  rates["arms"][0]["values"]["test_accuracy"][2] = nullptr;
  json settings = experiment("settings", "Large batches", json::array({settings_figure()}));
  settings["verdict"] =
      verdict("depends", "the batch size", "accuracy of BatchNorm minus none at batch 2",
              {{"mean", -0.23}, {"low", -0.25}, {"high", -0.21}, {"count", 3}}, "points");
  json stopped = experiment("stopped", "Stopped early", json::array({curves_figure()}));
  stopped["measured"] = 6;
  stopped["arms"][1]["rate"] = nullptr;
  stopped["arms"][1]["statuses"] = {"done", "not_started", "not_started"};
  stopped["arms"][1]["values"]["test_accuracy"] = {0.88, nullptr, nullptr};
  json broken = experiment("broken", "Broken", json::array());
  broken["errors"] = {"no normalization, seed 2: out of memory"};
  return {
      {"format", "evenkeel-lab"},
      {"format_version", 1},
      {"command", "evenkeel lab curves rates settings stopped broken --full"},
      {"started", "2024-01-01T10:00:00Z"},
      {"finished", "2024-01-01T10:30:00Z"},
      {"mode", "full"},
      {"interrupted", false},
      {"jobs", 2},
      {"versions",
       {{"evenkeel", "0.1.0"},
        {"libtorch", "1.13.1"},
        {"blas", "made-up BLAS"},
        {"compiler", "GCC 12.2.0"}}},
      {"machine",
       {{"cpu", "made-up processor"},
        {"cores", 2},
        {"memory_gib", 8.0},
        {"os", "Debian GNU/Linux 12"},
        {"simd_target", "AVX2"}}},
      {"data", {{"name", "fashion-mnist"}, {"train", 55000}, {"held_out", 5000}, {"test", 10000}}},
      {"experiments", {curves, rates, settings, stopped, broken}}};
}

}  // namespace evenkeel::lab
