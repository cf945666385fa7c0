// The figures of the report of `evenkeel lab`, opened in headless Chromium.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lab/report/report.h"
#include "tests/lab/report/browser.h"
#include "tests/lab/report/synthetic_lab_results.h"

namespace evenkeel::lab {
namespace {

using nlohmann::json;

json open(const json& results) {
  return open_pages({{.html = render_lab_report(results)}}).front();
}

// The series of a chart that `wanted` accepts.
template <typename Wanted>
std::vector<json> series_of(const json& chart, Wanted wanted) {
  std::vector<json> found;
  std::ranges::copy_if(chart.at("series"), std::back_inserter(found), wanted);
  return found;
}

TEST(LabFigures, EverySectionHasItsCharts) {
  const json page = open(synthetic_lab_results());
  EXPECT_EQ(page["errors"], 0);
  // curves and stopped: 2 panels each; rates: 3; settings: 1 and an empty one
  EXPECT_EQ(page["charts"], 8);
  EXPECT_EQ(page["drawn"].size(), 8u);
  EXPECT_EQ(page["empty"], 1) << "the panel without a finite value";
  for (const char* label :
       {"curves: Learning: Training loss", "curves: Learning: Inputs of the last layer",
        "rates: Loss against learning rate: 3 layers",
        "rates: Loss against learning rate: 30 layers", "settings: Accuracy by arm",
        "stopped: Learning: Training loss"}) {
    for (const json& series : chart(page, label)["series"]) {
      if (series["label"] != "") {
        EXPECT_TRUE(series["painted"].get<bool>()) << label << ": " << series["label"];
      }
    }
  }
}

TEST(LabFigures, LinesOfSeedsMeansAndBands) {
  const json results = synthetic_lab_results();
  const json page = open(results);
  const json& given = results["experiments"][0]["figures"][0]["panels"];
  const json& drawn = chart(page, "curves: Learning: Training loss")["series"];
  ASSERT_EQ(drawn.size(), given[0]["series"].size());
  for (size_t i = 0; i < drawn.size(); ++i) {
    EXPECT_EQ(drawn[i]["points"], given[0]["series"][i]["points"]) << i;
    const bool thin = given[0]["series"][i]["thin"];
    EXPECT_EQ(drawn[i]["color"].get<std::string>().size(), thin ? 9u : 7u) << "fades if thin";
    EXPECT_EQ(drawn[i]["dash"].empty(), given[0]["series"][i]["dash"] == 0) << i;
  }

  // Each line with an interval is followed by the edges of its band, which is filled between them.
  const json& band = chart(page, "curves: Learning: Inputs of the last layer")["series"];
  ASSERT_EQ(band.size(), 6u);
  const json& points = given[1]["series"][1]["points"];
  EXPECT_EQ(band[5]["fill"], "-1");
  for (size_t i = 0; i < points.size(); ++i) {
    EXPECT_EQ(band[4]["points"][i][1], points[i][2]);
    EXPECT_EQ(band[5]["points"][i][1], points[i][3]);
  }
  EXPECT_TRUE(band[3]["points"][5][1].is_null()) << "a gap stays one";
}

TEST(LabFigures, DotsOfSeedsAndWhiskersOnLogarithmicAxes) {
  const json results = synthetic_lab_results();
  const json page = open(results);
  const json& given = results["experiments"][1]["figures"][0]["panels"][0]["series"];
  const json& drawn = chart(page, "rates: Loss against learning rate: 3 layers");
  EXPECT_EQ(drawn["x"]["type"], "logarithmic");
  EXPECT_EQ(drawn["y"]["type"], "logarithmic");
  EXPECT_TRUE(std::ranges::count(drawn["x"]["ticks"], json("0.1")) == 1) << drawn["x"]["ticks"];

  // Dots are the series without a line: all seeds of 8 rates, then the means.
  const auto dots = series_of(drawn, [](const json& series) { return series["line"] == false; });
  ASSERT_EQ(dots.size(), given.size());
  EXPECT_EQ(dots[2]["points"], given[2]["points"]) << "every seed of BatchNorm";
  EXPECT_EQ(dots[2]["points"].size(), 3u * 8);

  // Whiskers go from low to high of each mean, with a gap before the next.
  const auto whiskers = series_of(drawn, [](const json& series) { return series["line"] == true; });
  ASSERT_EQ(whiskers.size(), 3u);
  const json& means = given[3]["points"];
  for (size_t i = 0; i < means.size(); ++i) {
    EXPECT_EQ(whiskers[1]["points"][3 * i], json::array({means[i][0], means[i][2]}));
    EXPECT_EQ(whiskers[1]["points"][3 * i + 1], json::array({means[i][0], means[i][3]}));
    EXPECT_TRUE(whiskers[1]["points"][3 * i + 2][1].is_null());
  }
  EXPECT_EQ(whiskers[0]["points"].size(), 3u * 7) << "none where there is no value";

  for (const json& point : dots[2]["points"]) {
    EXPECT_GT(point[0], drawn["x"]["min"]);
    EXPECT_LT(point[0], drawn["x"]["max"]);
  }
}

TEST(LabFigures, CategoriesAreNamed) {
  const json page = open(synthetic_lab_results());
  const json& drawn = chart(page, "settings: Accuracy by arm");
  EXPECT_EQ(drawn["x"]["ticks"],
            json::array({"no normalization, batch 2", "BatchNorm, batch 2",
                         "no normalization, batch 64", "BatchNorm, batch 64"}));
  EXPECT_EQ(drawn["x"]["min"], -0.5);
  EXPECT_EQ(drawn["x"]["max"], 3.5);
}

TEST(LabFigures, PanelsThatMeasureTheSameShareAScale) {
  json results = synthetic_lab_results();
  json& panels = results["experiments"][1]["figures"][0]["panels"];
  panels[2]["series"][0]["points"][0][1] = 1e5;
  const json page = open(results);
  const json& first = chart(page, "rates: Loss against learning rate: 3 layers")["y"];
  const json& last = chart(page, "rates: Loss against learning rate: 30 layers")["y"];
  EXPECT_GE(first["max"], 1e5);
  EXPECT_EQ(first["max"], last["max"]);
  EXPECT_EQ(first["min"], last["min"]);
  // Loss and input do not.
  EXPECT_LT(chart(page, "curves: Learning: Inputs of the last layer")["y"]["min"], 0);
  EXPECT_GE(chart(page, "curves: Learning: Training loss")["y"]["min"], 0);
}

TEST(LabFigures, LegendNamesEachLabelOnce) {
  const json page = open(synthetic_lab_results());
  ASSERT_EQ(page["legends"].size(), 4u);
  EXPECT_EQ(page["legends"][0],
            json::array({"no normalization", "BatchNorm", "BatchNorm, frozen"}));
  EXPECT_EQ(page["legends"][2], json::array({"●no normalization", "●BatchNorm"}));
}

}  // namespace
}  // namespace evenkeel::lab
