#include "lab/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

#include "lab/compare.h"
#include "tests/lab/idx_files.h"

namespace evenkeel::lab {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::set<std::string> keys(const json& object) {
  std::set<std::string> names;
  for (const auto& [key, value] : object.items()) names.insert(key);
  return names;
}

using Keys = std::set<std::string>;

// One arm with BatchNorm that is done, one without that diverged, with values chosen by hand.
Results example() {
  Results results;
  results.command = "evenkeel compare --norms batch,none";
  results.networks = {"mlp"};
  results.norms = {"batch", "none"};
  results.seeds = {1};
  results.training["mlp"] = {.steps = 10, .batch_size = 60, .lr = 0.1};

  ArmResult& batch = results.arms.emplace_back();
  batch.network = "mlp";
  batch.norm = "batch";
  batch.seed = 1;
  batch.status = Status::done;
  batch.steps = 10;
  batch.seconds = 0.25;
  batch.train = {{.step = 10, .seconds = 0.25, .loss = 0.5}};
  batch.eval = {{.step = 10, .seconds = 0.25, .score = {.loss = 0.75, .accuracy = 0.875}}};
  const Probe probe{.bands = {{-1, 0, 1}, {-2, 0, 2}, {-3, 0, 3}},
                    .saturated = {0, 0.25, 0.5},
                    .gradient_norm = {1, 2, std::nan("")}};
  batch.probe = {{.step = 10, .probe = probe}};
  batch.batch_norm_eval = {
      {.step = 10, .accuracy = {.moving_average = 0.5, .exact = 0.625, .batch = 0.75}}};
  batch.test = Score{.loss = 1, .accuracy = 0.5};
  batch.batch_norm_test = BatchNormAccuracy{.moving_average = 0.5, .exact = 0.25, .batch = 0.125};

  ArmResult& none = results.arms.emplace_back();
  none.network = "mlp";
  none.norm = "none";
  none.seed = 1;
  none.status = Status::diverged;
  none.diverged_at_step = 7;
  return results;
}

TEST(Results, JsonHasTheKeysOfItsFormat) {
  const json j = to_json(example());
  EXPECT_EQ(keys(j),
            (Keys{"format", "format_version", "command", "started", "finished", "interrupted",
                  "quick", "versions", "machine", "data", "config", "networks", "arms"}));
  EXPECT_EQ(keys(j["versions"]), (Keys{"evenkeel", "libtorch", "blas", "compiler"}));
  EXPECT_EQ(keys(j["machine"]), (Keys{"cpu", "cores", "memory_gib", "os", "simd_target"}));
  EXPECT_EQ(keys(j["data"]), (Keys{"name", "train", "held_out", "test", "classes"}));
  EXPECT_EQ(keys(j["config"]), (Keys{"networks", "norms", "seeds", "steps", "batch_size", "lr",
                                     "exact_images", "jobs"}));
  EXPECT_EQ(j["config"]["lr"]["mlp"], 0.1);
  EXPECT_EQ(keys(j["networks"]["mlp"]), (Keys{"title", "activation", "layers"}));
  EXPECT_EQ(j["networks"]["mlp"]["layers"], json({"hidden1", "hidden2", "hidden3"}));
  for (const auto& arm : j["arms"]) {
    EXPECT_EQ(keys(arm),
              (Keys{"network", "norm", "seed", "status", "error", "diverged_at_step", "parameters",
                    "steps", "seconds", "train", "eval", "probe", "batch_norm_eval", "test"}));
  }
}

TEST(Results, JsonHoldsTheValues) {
  // By way of the text, as a reader gets it.
  const json j = json::parse(to_json(example()).dump());
  const json& batch = j["arms"][0];
  EXPECT_EQ(batch["status"], "done");
  EXPECT_EQ(batch["train"], json::parse(R"([{"step": 10, "seconds": 0.25, "loss": 0.5}])"));
  EXPECT_EQ(batch["eval"], json::parse(R"([{"step": 10, "seconds": 0.25, "loss": 0.75,
                                            "accuracy": 0.875}])"));
  EXPECT_EQ(batch["probe"], json::parse(R"([{"step": 10,
      "bands": [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-3.0, 0.0, 3.0]],
      "saturated": [0.0, 0.25, 0.5], "gradient_norm": [1.0, 2.0, null]}])"));
  EXPECT_EQ(batch["batch_norm_eval"],
            json::parse(R"([{"step": 10, "moving_average": 0.5, "exact": 0.625, "batch": 0.75}])"));
  EXPECT_EQ(batch["test"],
            json::parse(R"({"loss": 1.0, "accuracy": 0.5, "exact": 0.25, "batch": 0.125})"));
  EXPECT_TRUE(batch["diverged_at_step"].is_null());

  const json& none = j["arms"][1];
  EXPECT_EQ(none["status"], "diverged");
  EXPECT_EQ(none["diverged_at_step"], 7);
  EXPECT_TRUE(none["batch_norm_eval"].is_null());
  EXPECT_TRUE(none["test"].is_null());
  EXPECT_EQ(none["train"], json::array());
}

TEST(Results, CsvIsOneValueALine) {
  std::istringstream csv(to_csv(example()));
  std::string line;
  std::getline(csv, line);
  EXPECT_EQ(line, "network,norm,seed,step,seconds,series,layer,value");
  std::set<std::string> lines;
  while (std::getline(csv, line)) {
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), 7) << line;
    lines.insert(line);
  }
  EXPECT_TRUE(lines.contains("mlp,batch,1,10,0.25,train_loss,,0.5"));
  EXPECT_TRUE(lines.contains("mlp,batch,1,10,0.25,held_out_accuracy,,0.875"));
  EXPECT_TRUE(lines.contains("mlp,batch,1,10,,input_p85,hidden2,2"));
  EXPECT_TRUE(lines.contains("mlp,batch,1,10,,held_out_accuracy_exact,,0.625"));
  EXPECT_TRUE(lines.contains("mlp,batch,1,10,0.25,test_accuracy,,0.5"));
  // 1 train, 2 eval, 5 probe series of 3 layers, 3 of BatchNorm, 2 test.
  EXPECT_EQ(lines.size(), 1U + 2 + 15 + 3 + 2);
}

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Results, WritesAndRedraws) {
  const TemporaryDirectory directory;
  write_results(example(), directory.path());
  EXPECT_EQ(json::parse(content(directory / "results.json")),
            json::parse(to_json(example()).dump()));
  EXPECT_EQ(content(directory / "log.csv"), to_csv(example()));
  const std::string report = content(directory / "report.html");
  EXPECT_THAT(report, HasSubstr("evenkeel compare --norms batch,none"));

  std::filesystem::remove(directory / "report.html");
  redraw_report(directory.path());
  EXPECT_EQ(content(directory / "report.html"), report);
}

TEST(Results, RedrawRefusesWhatIsNotResults) {
  const TemporaryDirectory directory;
  EXPECT_THAT(error_of([&] { redraw_report(directory.path()); }), HasSubstr("cannot be read"));
  for (const char* text : {"", "[1, 2]", "{\"format\": \"evenkeel-compare\"}", "{\"format\": 3"}) {
    std::ofstream(directory / "results.json") << text;
    EXPECT_THAT(error_of([&] { redraw_report(directory.path()); }),
                HasSubstr("expected results of evenkeel compare, format version 1"))
        << text;
  }
  EXPECT_FALSE(std::filesystem::exists(directory / "report.html"));
}

}  // namespace
}  // namespace evenkeel::lab
