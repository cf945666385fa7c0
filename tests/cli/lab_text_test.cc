// What `evenkeel lab` prints, from experiments and results made by hand.
#include "cli/lab_text.h"

#include <gtest/gtest.h>

#include <sstream>

namespace evenkeel::cli {
namespace {

using nlohmann::json;

json unfinished(const char* id, int trials, int measured) {
  return {{"id", id},     {"trials", trials},        {"measured", measured}, {"reused", 0},
          {"seconds", 2}, {"errors", json::array()}, {"verdict", nullptr}};
}

TEST(VerdictTable, HasALineForEachExperimentAsFarAsItGot) {
  json first = unfinished("first", 6, 6);
  first["seconds"] = 65.2;
  first["reused"] = 2;
  first["verdict"] = {{"answer", "depends"},
                      {"depends_on", "the batch size"},
                      {"number_is", "batch minus none"},
                      {"number", {{"mean", -0.234}, {"low", -0.25}, {"high", -0.21}, {"count", 5}}},
                      {"format", "points"},
                      {"warnings", {"Two arms are within noise."}}};
  json second = first;
  second["id"] = "the-second";
  second["reused"] = 0;
  second["verdict"]["answer"] = "confirmed";
  second["verdict"]["depends_on"] = "";
  second["verdict"]["number"] = {
      {"mean", 0.012}, {"low", nullptr}, {"high", nullptr}, {"count", 1}};
  json failed = unfinished("failed", 6, 6);
  failed["errors"] = {"arm, seed 1: no memory"};
  const json results = {
      {"mode", "full"},
      {"experiments",
       {first, second, failed, unfinished("stopped", 12, 7), unfinished("untouched", 12, 0)}}};
  EXPECT_EQ(
      verdict_table(results),
      "experiment  verdict                    time  deciding number\n"
      "first       depends on the batch size  1:06  -23.4 points [-25.0, -21.0]: batch minus "
      "none\n"
      "the-second  confirmed                  1:06  +1.2 points (one seed): batch minus none\n"
      "failed      1 failed                   0:02  -\n"
      "stopped     7 of 12 trials             0:02  -\n"
      "untouched   not started                0:02  -\n"
      "\n"
      "To note:\n"
      "  first, the-second: Two arms are within noise.\n"
      "  first: 2 of 6 trials are an earlier run's; their time is counted too.\n");
}

TEST(VerdictTable, AQuickRunSaysSo) {
  const json results = {{"mode", "quick"}, {"experiments", {unfinished("one", 1, 0)}}};
  EXPECT_TRUE(verdict_table(results).starts_with("A quick run: "));
}

TEST(ListOf, HasIdClaimSourceAndTimesInLinesThatFit) {
  lab::Experiment one;
  one.id = "one";
  one.title = "First title";
  for (int i = 0; i < 50; ++i) one.claim += "γ and β ";
  one.source = "Somebody 2020";
  one.quick_minutes = 0.5;
  one.full_minutes = 3;
  lab::Experiment two = one;
  two.id = "two";
  two.full_minutes = 120;
  const std::string list = list_of({one, two});
  EXPECT_TRUE(list.starts_with("one: First title\n  γ and β γ and β ")) << list;
  EXPECT_NE(list.find("\n  Source: Somebody 2020\n  Time: 30 s quick, 3 min full\n\ntwo: First"),
            std::string::npos)
      << list;
  EXPECT_NE(list.find("\nAll 2: 1 min quick, 2.0 h full."), std::string::npos) << list;
  std::istringstream lines(list);
  for (std::string line; std::getline(lines, line);) {
    // Of "γ and β", 7 columns, two bytes are not columns of their own.
    std::size_t columns = 0;
    for (const char c : line) columns += (c & 0xC0) != 0x80 ? 1 : 0;
    EXPECT_LE(columns, 80U) << line;
  }
}

}  // namespace
}  // namespace evenkeel::cli
