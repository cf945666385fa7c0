// The report of `evenkeel compare`, opened in headless Chromium.
#include "lab/report/report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/lab/report/browser.h"
#include "tests/lab/report/synthetic_results.h"

namespace evenkeel::lab {
namespace {

using nlohmann::json;

const std::vector<std::string> all_norms = {"none", "batch", "layer", "lrn"};

json open(const json& results) { return open_pages({{.html = render_report(results)}}).front(); }

std::vector<json> labelled_series(const json& chart) {
  std::vector<json> found;
  for (const json& series : chart.at("series")) {
    if (series.at("label") != "") found.push_back(series);
  }
  return found;
}

bool contains(const json& text, const std::string& part) {
  return text.get<std::string>().find(part) != std::string::npos;
}

TEST(Report, DrawsEveryChart) {
  const json page = open(synthetic_results({"mlp", "cnn"}, all_norms, {1, 2, 3}));
  // Of each network: loss, accuracy, a band for each of 4 norms, saturation and gradient for each
  // of 3 layers, and the statistics of BatchNorm.
  const size_t expected = 2 * (1 + 1 + 4 + 3 + 3 + 1);
  EXPECT_EQ(page["charts"], expected);
  EXPECT_EQ(page["drawn"].size(), expected);
  EXPECT_EQ(page["errors"], 0);
  EXPECT_EQ(page["empty"], 0);
  for (const json& drawn : page["drawn"]) {
    for (const json& series : drawn["series"]) {
      // Named lines are opaque, and none is hidden by others from end to end.
      const bool opaque =
          series["color"].get<std::string>().size() == std::string("#rrggbb").size();
      if (series["label"] != "" && opaque) {
        EXPECT_TRUE(series["painted"].get<bool>()) << drawn["label"] << ": " << series["label"];
      }
    }
  }
}

TEST(Report, DrawsEverySeedAndTheMean) {
  const json results = synthetic_results({"mlp"}, {"batch"}, {1, 2, 3});
  const json page = open(results);
  const json series = chart(page, "mlp: training loss")["series"];
  ASSERT_EQ(series.size(), 4u);
  double sum = 0;
  for (size_t seed = 0; seed < 3; ++seed) {
    const double loss = results["arms"][seed]["train"].back()["loss"];
    EXPECT_EQ(series[seed]["points"].back(), json::array({400, loss}));
    EXPECT_EQ(series[seed]["label"], "");
    sum += loss;
  }
  EXPECT_EQ(series[3]["label"], "BatchNorm");
  EXPECT_DOUBLE_EQ(series[3]["points"].back()[1], sum / 3);
}

TEST(Report, BandsShowTheLastLayerOnOneScale) {
  const json results = synthetic_results({"mlp"}, all_norms, {1});
  const json page = open(results);
  const json none = chart(page, "mlp, no normalization: 15th");
  const json batch = chart(page, "mlp, BatchNorm: 15th");
  EXPECT_EQ(none["y"]["min"], batch["y"]["min"]);
  EXPECT_EQ(none["y"]["max"], batch["y"]["max"]);
  const json& bands = results["arms"][0]["probe"].back()["bands"];
  for (const json& series : labelled_series(none)) {
    const size_t i = series["label"] == "15th percentile" ? 0 : series["label"] == "median" ? 1 : 2;
    EXPECT_EQ(series["points"].back()[1], bands[2][i]) << series["label"];
  }
  EXPECT_LE(none["y"]["min"], -1.1);                       // the lowest p15 of all norms
  EXPECT_GE(none["y"]["max"], bands[2][2].get<double>());  // the highest p85
}

TEST(Report, ControlsRedraw) {
  const std::string press = R"(
      document.querySelector('button[data-value="seconds"]').click();
      document.querySelector('button[data-value="lrn"]').click();
      const layer = document.querySelector("select");
      layer.value = "0";
      layer.dispatchEvent(new Event("change"));)";
  const json results = synthetic_results({"mlp"}, all_norms, {1});
  const json page =
      open_pages({{.html = render_report(results), .width = 1280, .script = press}}).front();
  EXPECT_EQ(page["errors"], 0);
  EXPECT_EQ(page["charts"], 12);  // without the band of LRN
  const json loss = chart(page, "mlp: training loss");
  EXPECT_EQ(loss["x"]["title"], "seconds");
  EXPECT_EQ(loss["x"]["max"], results["arms"][1]["seconds"]);
  EXPECT_EQ(labelled_series(loss).size(), 3u);
  const json band = chart(page, "mlp, no normalization: 15th");
  EXPECT_EQ(labelled_series(band)[0]["points"].back()[1],
            results["arms"][0]["probe"].back()["bands"][0][0]);
}

TEST(Report, FitsPhoneAndLaptop) {
  const std::string html = render_report(synthetic_results({"mlp"}, all_norms, {1, 2, 3, 4, 5}));
  const std::vector<json> pages =
      open_pages({{.html = html, .width = 390}, {.html = html, .width = 1280}});
  for (const json& page : pages) {
    EXPECT_EQ(page["errors"], 0);
    EXPECT_LE(page["overflow"], 0) << "the page scrolls sideways";
  }
  // One column on the phone, nearly as wide as it is; two columns on the laptop.
  EXPECT_GT(chart(pages[0], "mlp: training loss")["width"], 300);
  EXPECT_LT(chart(pages[0], "mlp: training loss")["width"], 390);
  EXPECT_LT(chart(pages[1], "mlp: training loss")["width"], 1280 / 2);
}

TEST(Report, FollowsTheColorScheme) {
  const std::vector<Page> pages = {
      {.html = render_report(synthetic_results({"mlp"}, all_norms, {1}))}};
  const json light = open_pages(pages).front();
  const json dark = open_pages(pages, /*dark=*/true).front();
  EXPECT_EQ(light["background"], "rgb(255, 255, 255)");
  EXPECT_EQ(dark["background"], "rgb(20, 23, 27)");
  const auto color = [](const json& page) {
    return chart(page, "mlp: training loss")["series"][1]["color"];
  };
  EXPECT_EQ(color(light), "#0072b2");
  EXPECT_EQ(color(dark), "#56a9f0");
}

json with_accuracies(const std::vector<double>& accuracies) {
  json results = synthetic_results(
      {"mlp"}, {all_norms.begin(), all_norms.begin() + std::ssize(accuracies)}, {1});
  for (size_t i = 0; i < accuracies.size(); ++i) {
    results["arms"][i]["test"]["accuracy"] = accuracies[i];
  }
  return results;
}

TEST(Report, HeadlineTellsDifferenceFromNoise) {
  const std::vector<json> pages =
      open_pages({{.html = render_report(with_accuracies({0.10, 0.87}))},
                  {.html = render_report(with_accuracies({0.87, 0.865}))},
                  {.html = render_report(with_accuracies({0.10, 0.87, 0.10}))}});
  const json clear = pages[0]["verdicts"][0];
  EXPECT_TRUE(contains(clear, "BatchNorm does best with 87.0% of the 10,000 test images")) << clear;
  EXPECT_TRUE(contains(clear, "no normalization worst with 10.0%")) << clear;
  // sqrt((0.87 * 0.13 + 0.1 * 0.9) / 10000) = 0.00451; 0.77 / 0.00451 = 171
  EXPECT_TRUE(contains(clear, "77 points is 170 times its standard error: well above noise"))
      << clear;
  const json noise = pages[1]["verdicts"][0];
  // sqrt((0.87 * 0.13 + 0.865 * 0.135) / 10000) = 0.00479; 0.005 / 0.00479 = 1.04
  EXPECT_TRUE(contains(noise, "No norm stands out: from 86.5% (BatchNorm) to 87.0%")) << noise;
  EXPECT_TRUE(contains(noise, "0.5 points is 1 times its standard error: within noise")) << noise;
  const json tie = pages[2]["verdicts"][0];
  EXPECT_TRUE(contains(tie, "no normalization and LayerNorm worst with 10.0%")) << tie;
  EXPECT_TRUE(contains(pages[0]["banners"].dump(), "One seed only"));
}

TEST(Report, SpreadOfSeedsIsNoise) {
  json results = synthetic_results({"mlp"}, {"none", "batch"}, {1, 2});
  const double accuracies[] = {0.70, 0.80, 0.76, 0.86};
  for (size_t i = 0; i < 4; ++i) results["arms"][i]["test"]["accuracy"] = accuracies[i];
  const json page = open(results);
  // The variance of each mean of two seeds, 0.05^2, dwarfs that of the images:
  // 0.06 / sqrt(2 * 0.0025 + (0.75 * 0.25 + 0.81 * 0.19) / 10000) = 0.846
  EXPECT_TRUE(
      contains(page["verdicts"][0], "6 points is 0.85 times its standard error: within noise"))
      << page["verdicts"][0];
  EXPECT_EQ(page["banners"], json::array());
  EXPECT_EQ(page["tables"][0][1][1], "75.00%\n70.00% 80.00%");
}

TEST(Report, SaysWhatDidNotFinish) {
  json results = synthetic_results({"mlp"}, all_norms, {1, 2});
  json& arms = results["arms"];
  arms[0]["status"] = "diverged";
  arms[0]["diverged_at_step"] = 1234;
  arms[0]["test"] = nullptr;
  arms[2]["status"] = "failed";
  arms[2]["error"] = "out of memory";
  arms[2]["test"] = nullptr;
  for (const size_t i : {4u, 5u}) {
    arms[i]["status"] = "not started";
    arms[i]["test"] = nullptr;
    for (const char* key : {"train", "eval", "probe"}) arms[i][key] = json::array();
  }
  results["interrupted"] = true;
  results["quick"] = true;
  const json page = open(results);
  EXPECT_EQ(page["errors"], 0);
  const json& rows = page["tables"][0];
  EXPECT_EQ(rows[1].back(), "seed 1: diverged at step 1,234\nseed 2: done");
  EXPECT_EQ(rows[2].back(), "seed 1: failed: out of memory\nseed 2: done");
  EXPECT_EQ(rows[3].back(), "not started");
  EXPECT_EQ(rows[4].back(), "done");
  // The seed that diverged is shown, and left out of the mean.
  const std::string held_out = rows[1][2];
  EXPECT_EQ(held_out.substr(0, 7), held_out.substr(held_out.size() - 6) + "\n") << held_out;
  EXPECT_TRUE(contains(page["verdicts"][0], "Diverged: no normalization (seed 1)."));
  EXPECT_EQ(page["banners"].size(), 2u);
  EXPECT_EQ(page["empty"], 1) << "the band of the norm that was not started";
}

TEST(Report, DivergedArmDoesNotFlattenTheOthers) {
  json results = synthetic_results({"mlp"}, {"none", "batch"}, {1});
  json& arm = results["arms"][0];
  arm["status"] = "diverged";
  arm["probe"].back()["bands"][2] = {-1e12, 0, 1e12};
  arm["train"][18]["loss"] = 1e9;
  arm["train"][19]["loss"] = nullptr;
  const json page = open(results);
  EXPECT_EQ(page["errors"], 0);
  EXPECT_LT(chart(page, "mlp, BatchNorm: 15th")["y"]["max"], 10);
  const json loss = chart(page, "mlp: training loss");
  EXPECT_EQ(loss["y"]["type"], "logarithmic");
  EXPECT_LE(loss["y"]["ticks"].size(), 10u);
}

TEST(Report, SaysWhereInstanceNormStandsNowhere) {
  json results = synthetic_results({"mlp", "cnn"}, {"none", "instance"}, {1, 2});
  for (json& arm : results["arms"]) {
    // As many as without normalization in the mlp, more in the cnn.
    if (arm["norm"] == "instance") arm["parameters"] = arm["network"] == "mlp" ? 99710 : 99806;
  }
  const json banners = open(results)["banners"];
  ASSERT_EQ(banners.size(), 1u) << banners;
  EXPECT_TRUE(contains(banners[0], "mlp: InstanceNorm stands on convolutions alone"));
}

TEST(Report, DrawsOddResults) {
  struct Case {
    std::string name;
    json results;
    int charts;
  };
  std::vector<Case> cases = {
      {"nothing", nullptr, 0},
      {"an array", json::array(), 0},
      {"an empty object", json::object(), 0},
      {"no BatchNorm", synthetic_results({"mlp"}, {"none", "layer"}, {1}), 10},
      {"one norm", synthetic_results({"cnn"}, {"batch"}, {1}), 10},
      {"five seeds", synthetic_results({"mlp"}, {"batch"}, {1, 2, 3, 4, 5}), 10},
      {"an unknown norm", synthetic_results({"mlp"}, {"brand-new"}, {1}), 9},
  };

  json started = synthetic_results({"mlp"}, all_norms, {1, 2});
  json nulls = started;
  json one_record = started;
  json zero_gradient = started;
  json wrong_types = started;
  started["interrupted"] = true;
  for (json& arm : started["arms"]) {
    arm["status"] = "interrupted";
    arm["test"] = nullptr;
    for (const char* key : {"train", "eval", "probe"}) arm[key] = json::array();
    if (arm["norm"] == "batch") arm["batch_norm_eval"] = json::array();
  }
  cases.push_back({"interrupted before the first record", started, 0});

  for (json& arm : nulls["arms"]) {
    for (auto& [key, value] : arm.items()) {
      if (key != "network" && key != "norm") value = nullptr;
    }
  }
  for (const char* key : {"data", "machine", "versions", "command", "networks", "config"}) {
    nulls[key] = nullptr;
  }
  cases.push_back({"nulls", nulls, 0});

  for (json& arm : one_record["arms"]) {
    for (const char* key : {"train", "eval", "probe", "batch_norm_eval"}) {
      if (arm[key].is_array()) arm[key] = json::array({arm[key][1]});
    }
  }
  cases.push_back({"one record", one_record, 13});

  for (json& arm : zero_gradient["arms"]) {
    for (json& record : arm["probe"]) record["gradient_norm"] = {0, 0, 0};
  }
  cases.push_back({"zero gradients", zero_gradient, 13});

  for (json& arm : wrong_types["arms"]) {
    for (auto& [key, value] : arm.items()) {
      if (key != "network" && key != "norm") value = "text";
    }
  }
  wrong_types["arms"].push_back(nullptr);
  wrong_types["arms"].push_back(
      json{{"train", {nullptr, 1, "x"}}, {"probe", {nullptr, json::object()}}});
  cases.push_back({"wrong types", wrong_types, 0});

  std::vector<Page> pages;
  for (const Case& odd : cases) pages.push_back({.html = render_report(odd.results)});
  const std::vector<json> opened = open_pages(pages);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(opened[i]["errors"], 0) << cases[i].name;
    EXPECT_EQ(opened[i]["charts"], cases[i].charts) << cases[i].name;
    EXPECT_FALSE(opened[i]["headings"].empty()) << cases[i].name;
  }
}

TEST(Report, SaysWhatTheNumbersRestOn) {
  const json page = open(synthetic_results({"mlp"}, {"batch"}, {1}));
  EXPECT_TRUE(contains(page["text"], "BLAS\nmade-up BLAS")) << page["text"];
  EXPECT_TRUE(contains(page["text"], "exact statistics of 10,000 training images"));
}

TEST(Report, HostileTextIsOnlyText) {
  const std::string hostile =
      "</script><b>bold</b><!--<script>\"'&amp; <img src=x onerror=alert(1)>";
  json results = synthetic_results({"mlp"}, {"none", hostile}, {1});
  for (const char* key : {"command", "started", "finished"}) results[key] = hostile;
  results["data"]["name"] = hostile;
  results["machine"]["cpu"] = hostile;
  results["networks"]["mlp"]["title"] = hostile;
  results["networks"]["mlp"]["layers"][2] = hostile;
  results["arms"][0]["status"] = "failed";
  results["arms"][0]["error"] = hostile + "\xff";  // not UTF-8
  const std::string html = render_report(results);

  const std::string open_tag = "id=\"results\">";
  const size_t from = html.find(open_tag) + open_tag.size();
  const json inlined = json::parse(html.substr(from, html.find("</script>", from) - from));
  EXPECT_EQ(inlined["data"]["name"], hostile);

  const json page = open_pages({{.html = html}}).front();
  EXPECT_EQ(page["errors"], 0);
  EXPECT_TRUE(contains(page["text"], hostile));
  for (const char* tag : {"b", "img"}) {
    EXPECT_EQ(std::ranges::count(page["tags"], json(tag)), 0) << tag;
  }
}

TEST(Report, AsksNothingOfTheNetwork) {
  const std::string html = render_report(synthetic_results({"mlp"}, all_norms, {1}));
  const std::string reach_out = R"(
      fetch("https://example.invalid/data").catch(() => {});
      new Image().src = "https://example.invalid/image.png";)";
  const std::vector<json> pages = open_pages({{.html = html}, {.html = html, .script = reach_out}});
  EXPECT_EQ(pages[0]["requests"], json::array());
  EXPECT_EQ(pages[0]["violations"], json::array());
  EXPECT_EQ(pages[0]["links"], json::array({"data:,"}));
  // And the page's policy would stop a request, had it any.
  EXPECT_EQ(pages[1]["violations"], json::array({"connect-src", "img-src"}));
}

}  // namespace
}  // namespace evenkeel::lab
