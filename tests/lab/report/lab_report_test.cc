// The page of the report of `evenkeel lab`, opened in headless Chromium.
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

bool contains(const json& text, const std::string& part) {
  return text.get<std::string>().find(part) != std::string::npos;
}

// A script that ends the page with the text of every node that `selector` finds: "<one><other>".
std::string listing(const std::string& selector) {
  return "document.body.append([...document.querySelectorAll('" + selector +
         "')].map((node) => `<${node.textContent}>`).join(''))";
}

bool ends_with(const json& text, const std::string& part) {
  return text.get<std::string>().ends_with(part);
}

size_t count_in(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(LabReport, FirstPageGivesVerdictsAndNumbers) {
  const json page = open(synthetic_lab_results());
  EXPECT_EQ(page["badges"],
            json::array({"confirmed", "refuted", "depends", "incomplete", "failed"}));
  EXPECT_EQ(page["targets"],
            json::array({"Learning in fewer steps confirmed",
                         "Larger learning rates refuted (within noise, one seed)",
                         "Large batches depends", "Stopped early incomplete", "Broken failed"}));
  EXPECT_TRUE(contains(page["text"],
                       "5 claims: 1 confirmed, 1 refuted, 1 depends, 1 incomplete and 1 failed."));
  const json& rows = page["tables"][0];
  ASSERT_EQ(rows.size(), 6u);
  EXPECT_TRUE(contains(rows[1][0], "Made-up claim of curves"));
  EXPECT_TRUE(contains(rows[3][1], "on the batch size"));
  EXPECT_EQ(rows[1][2], "5.5x [4.75, 6.25]\nsteps to a loss of 0.5, none over BatchNorm · 3 seeds");
  EXPECT_EQ(rows[2][2],
            "-0.2 points\naccuracy of BatchNorm minus none at the best rate · one seed only");
  EXPECT_EQ(rows[3][2],
            "-23.0 points [-25.0, -21.0]\naccuracy of BatchNorm minus none at batch 2 · 3 seeds");
  EXPECT_EQ(rows[4][2], "6 of 12 trials measured");
  EXPECT_TRUE(contains(rows[5][2], "no normalization, seed 2: out of memory"));
  EXPECT_EQ(rows[1][3], "5 min 12 s");
  EXPECT_EQ(rows[2][3], "5 min 12 s\n4 trials from before");
}

TEST(LabReport, DoubtsStandBesideTheBadge) {
  json results = synthetic_lab_results();
  json& verdict = results["experiments"][0]["verdict"];
  // A warning that only mentions noise, a single seed without a warning, and noise of many seeds.
  verdict["warnings"] = {"Seeds differ, and not Within noise: see the figure."};
  std::vector<Page> pages = {{.html = render_lab_report(results)}};
  verdict["number"]["count"] = 1;
  pages.push_back({.html = render_lab_report(results)});
  verdict["number"]["count"] = 3;
  verdict["warnings"] = {"A rate lies at the edge.", "Within noise: the interval contains 1x."};
  pages.push_back({.html = render_lab_report(results)});

  const std::vector<json> opened = open_pages(pages);
  const std::string doubts[] = {"", " (one seed)", " (within noise)"};
  for (size_t i = 0; i < pages.size(); ++i) {
    EXPECT_EQ(opened[i]["tables"][0][1][1], "confirmed" + doubts[i]);
    EXPECT_EQ(opened[i]["targets"][0], "Learning in fewer steps confirmed" + doubts[i]);
    // The others' do not change.
    EXPECT_EQ(opened[i]["tables"][0][2][1], "refuted (within noise, one seed)");
    EXPECT_EQ(opened[i]["tables"][0][3][1], "depends\non the batch size");
    EXPECT_EQ(opened[i]["tables"][0][4][1], "incomplete");
  }
}

TEST(LabReport, SaysWhatRefutedAndTheBracketsMean) {
  const json page = open(synthetic_lab_results());
  for (const char* part : {"not shown under any of the conditions, not that the opposite was",
                           "95% percentile bootstrap interval over seeds",
                           "about 84% with five seeds and 50% with two"}) {
    EXPECT_TRUE(contains(page["text"], part)) << part;
  }
}

TEST(LabReport, SaysWhatThisRunDid) {
  const json given = synthetic_lab_results()["experiments"][0];
  const json one_arm = json::array({given["arms"][0]});
  const auto steps = [&](double first, double second) {
    json arms = given["arms"];
    arms[0]["steps"] = first;
    arms[1]["steps"] = second;
    return arms;
  };
  json fixed_rates = given["arms"];
  for (json& arm : fixed_rates) arm["rates"] = {0.1};
  struct Case {
    json changes;
    std::string said;  // empty: nothing
  };
  const std::string seeds = "seeds 1 to 3, ";
  const std::string tuned = "learning rates chosen on seed 101";
  const std::vector<Case> cases = {
      {json::object(), "2 arms of 500 steps, " + seeds + tuned + "."},
      {{{"arms", steps(250, 16000)}}, "2 arms of 250 to 16,000 steps, " + seeds + tuned + "."},
      {{{"arms", steps(0, 500)}}, "2 arms of up to 500 steps, " + seeds + tuned + "."},
      {{{"arms", steps(0, 0)}}, "2 arms, " + seeds + tuned + "."},
      {{{"arms", one_arm}, {"seeds", {1}}}, "1 arm of 500 steps, seed 1, " + tuned + "."},
      {{{"seeds", {1, 2}}, {"tuning_seeds", {101, 102}}},
       "2 arms of 500 steps, seeds 1 and 2, learning rates chosen on seeds 101 and 102."},
      {{{"seeds", {1, 3, 7}}, {"tuning_seeds", json::array()}},
       "2 arms of 500 steps, seeds 1, 3 and 7."},
      {{{"arms", fixed_rates}}, "2 arms of 500 steps, seeds 1 to 3."},
      {{{"measured", 6}},
       "2 arms of 500 steps, " + seeds + tuned + "; so far 6 of 12 trials measured."},
      {{{"arms", nullptr}, {"seeds", nullptr}, {"tuning_seeds", nullptr}}, ""},
  };
  std::vector<Page> pages;
  for (const char* mode : {"full", "quick"}) {
    for (const Case& one : cases) {
      json results = synthetic_lab_results();
      results["mode"] = mode;
      json experiment = given;
      experiment.update(one.changes);
      results["experiments"] = json::array({experiment});
      pages.push_back({.html = render_lab_report(results), .script = listing(".about dd p")});
    }
  }
  const std::vector<json> opened = open_pages(pages);
  const std::string protocol = given["protocol"];
  for (size_t i = 0; i < pages.size(); ++i) {
    const bool quick = i >= cases.size();
    const std::string& said = cases[i % cases.size()].said;
    std::string shown = "\n<" + protocol + ">";
    if (!said.empty()) {
      shown +=
          (quick ? "<The protocol is that of the full run. " : "<") + ("This run: " + said) + ">";
    }
    EXPECT_EQ(opened[i]["errors"], 0);
    EXPECT_TRUE(ends_with(opened[i]["text"], shown)) << i << shown;
  }
}

TEST(LabReport, EveryParagraphOfWhatWasFound) {
  json results = synthetic_lab_results();
  results["experiments"][0]["verdict"]["found"] = "First.\nSecond.\n\n";
  const json page = open_pages({{.html = render_lab_report(results),
                                 .script = listing("#curves .verdict p:not(.headline)")}})
                        .front();
  EXPECT_TRUE(ends_with(page["text"], "\n<First.><Second.>")) << page["text"];
}

TEST(LabReport, SectionsSayHowItWasTested) {
  const json page = open(synthetic_lab_results());
  for (const char* part :
       {"A made-up paper, 2017", "Networks of three hidden layers", "Rule, fixed before the run",
        "Confirmed if the 95% interval", "What the numbers of this made-up experiment say.",
        "An interval that reaches below 0", "evenkeel lab settings --full",
        "Every dot is a seed; whiskers are 95% intervals.", "BLAS\nmade-up BLAS",
        "evenkeel lab curves rates settings stopped broken --full"}) {
    EXPECT_TRUE(contains(page["text"], part)) << part;
  }
}

TEST(LabReport, ArmsShowSeedsRatesAndDivergence) {
  const json page = open(synthetic_lab_results());
  ASSERT_EQ(page["tables"].size(), 6u);
  const json& rates = page["tables"][2];
  EXPECT_EQ(rates[0], json::array({"Arm", "Steps", "Learning rate", "Test accuracy", "Final loss",
                                   "Trials"}));
  EXPECT_EQ(rates[1],
            json::array({"no normalization", "500", "0.1\nof 0.01, 0.1", "85.5%\n85.0% 86.0% –",
                         "0.415\n0.41 0.42 0.43", "2 done\n1 diverged"}));
  const json& stopped = page["tables"][4];
  EXPECT_EQ(stopped[2][2], "not chosen\nof 0.01, 0.1, 1");
  EXPECT_EQ(stopped[2][5], "1 done\n2 not started");
}

TEST(LabReport, ClosesALongTableOfArms) {
  json results = synthetic_lab_results();
  json& arms = results["experiments"][0]["arms"];
  while (arms.size() < 40) arms.push_back(arms[0]);
  const std::string html = render_lab_report(results);
  const std::vector<json> pages = open_pages(
      {{.html = html}, {.html = html, .script = "dispatchEvent(new Event('beforeprint'))"}});
  EXPECT_TRUE(contains(pages[0]["text"], "Every arm (40)"));
  const auto shown = [](const json& page) { return count_in(page["text"], "0.1\nof 0.01, 0.1\n"); };
  EXPECT_EQ(shown(pages[1]) - shown(pages[0]), 39u) << "but not on paper";
}

TEST(LabReport, BannersWarn) {
  json results = synthetic_lab_results();
  const std::string warnings =
      R"("One seed only: the spread is not known.","Within noise: the difference is small.")";
  const json complete = open(results)["banners"];
  EXPECT_EQ(complete[0], "Without a verdict: stopped and broken.");
  EXPECT_EQ(complete.size(), 3u);
  EXPECT_TRUE(complete.dump().find(warnings) != std::string::npos) << complete;
  results["mode"] = "quick";
  results["interrupted"] = true;
  const json banners = open(results)["banners"];
  ASSERT_EQ(banners.size(), 5u);
  EXPECT_TRUE(contains(banners[0], "Interrupted"));
  EXPECT_TRUE(contains(banners[1], "Quick run"));
}

TEST(LabReport, FitsPhoneAndLaptop) {
  const std::string html = render_lab_report(synthetic_lab_results());
  const std::vector<json> pages =
      open_pages({{.html = html, .width = 390}, {.html = html, .width = 1280}});
  for (const json& page : pages) {
    EXPECT_EQ(page["errors"], 0);
    EXPECT_LE(page["overflow"], 0) << "the page scrolls sideways";
  }
  const std::string label = "curves: Learning: Training loss";
  EXPECT_GT(chart(pages[0], label)["width"], 300);
  EXPECT_LT(chart(pages[0], label)["width"], 390);
  EXPECT_LT(chart(pages[1], label)["width"], 1280 / 2);
}

TEST(LabReport, DrawsOddResults) {
  json nulls = synthetic_lab_results();
  json wrong_types = nulls;
  json no_points = nulls;
  for (json& experiment : nulls["experiments"]) {
    for (auto& [key, value] : experiment.items()) value = nullptr;
  }
  for (const char* key : {"data", "machine", "versions", "command", "jobs", "mode", "started"}) {
    nulls[key] = nullptr;
  }
  for (json& experiment : wrong_types["experiments"]) {
    for (auto& [key, value] : experiment.items()) value = "text";
  }
  wrong_types["experiments"].push_back(nullptr);
  wrong_types["experiments"].push_back(
      {{"figures", {nullptr, 1, {{"panels", {nullptr, {{"series", {nullptr, 3}}}}}}}},
       {"verdict", {{"answer", "confirmed"}, {"number", "text"}}},
       {"arms", {nullptr, 1}}});
  for (json& experiment : no_points["experiments"]) {
    for (json& figure : experiment["figures"]) {
      for (json& panel : figure["panels"]) {
        for (json& series : panel["series"]) series["points"] = json::array();
      }
    }
  }
  struct Case {
    std::string name;
    json results;
    size_t empty;
  };
  const std::vector<Case> cases = {
      {"nothing", nullptr, 0},
      {"an array", json::array(), 0},
      {"an object", json::object(), 0},
      {"text", {{"experiments", "text"}}, 0},
      {"nulls", nulls, 0},
      {"wrong types", wrong_types, 2},
      {"no points", no_points, 9},
  };
  std::vector<Page> pages;
  for (const Case& odd : cases) pages.push_back({.html = render_lab_report(odd.results)});
  const std::vector<json> opened = open_pages(pages);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(opened[i]["errors"], 0) << cases[i].name;
    EXPECT_EQ(opened[i]["charts"], 0) << cases[i].name;
    EXPECT_EQ(opened[i]["empty"], cases[i].empty) << cases[i].name;
    EXPECT_FALSE(opened[i]["headings"].empty()) << cases[i].name;
  }
}

TEST(LabReport, LeavesRawTrialsOut) {
  const json results = synthetic_lab_results();
  ASSERT_TRUE(results.dump().find("a raw trial") != std::string::npos);
  EXPECT_EQ(render_lab_report(results).find("a raw trial"), std::string::npos);
}

// Every text in the results, wherever it stands, but for the words that have a meaning.
void replace_texts(json& value, const std::string& text) {
  for (auto& [key, child] : value.items()) {
    const bool word = key == "answer" || key == "style" || key == "format" || key == "value" ||
                      key == "mode" || key == "values";
    if (child.is_structured()) {
      if (!word) replace_texts(child, text);
    } else if (child.is_string() && !word) {
      child = text;
    }
  }
}

TEST(LabReport, HostileTextIsOnlyText) {
  const std::string hostile =
      "</script><b>bold</b><!--<script>\"'&amp; <img src=x onerror=alert(1)>";
  json results = synthetic_lab_results();
  replace_texts(results, hostile);
  const json page = open(results);
  EXPECT_EQ(page["errors"], 0);
  EXPECT_EQ(page["charts"], 8);
  // Of each of the 5 experiments at least title, claim, source, protocol, rule, refutation,
  // command.
  EXPECT_GE(count_in(page["text"], hostile), 5u * 7);
  for (const char* tag : {"b", "img"}) {
    EXPECT_EQ(std::ranges::count(page["tags"], json(tag)), 0) << tag;
  }
}

TEST(LabReport, AsksNothingOfTheNetwork) {
  const std::string html = render_lab_report(synthetic_lab_results());
  const std::string reach_out = R"(
      fetch("https://example.invalid/data").catch(() => {});
      new Image().src = "https://example.invalid/image.png";)";
  const std::vector<json> pages = open_pages({{.html = html}, {.html = html, .script = reach_out}});
  EXPECT_EQ(pages[0]["requests"], json::array());
  EXPECT_EQ(pages[0]["violations"], json::array());
  for (const json& link : pages[0]["links"]) {
    EXPECT_TRUE(link == "data:," || contains(link, ".html#")) << link;
  }
  // And the page's policy would stop a request, had it any.
  EXPECT_EQ(pages[1]["violations"], json::array({"connect-src", "img-src"}));
}

}  // namespace
}  // namespace evenkeel::lab
