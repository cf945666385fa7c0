// Exit codes, help and mistyped commands.
#include <gtest/gtest.h>

#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Usage, HelpOfEveryCommandHasExamplesAndSucceeds) {
  const std::vector<std::vector<std::string>> commands = {
      {},
      {"compare"},
      {"explain"},
      {"explain", "batch-norm"},
      {"explain", "layer-norm"},
      {"explain", "lrn"},
      {"standardize"},
      {"info"},
  };
  for (std::vector<std::string> command : commands) {
    std::string words = "evenkeel";
    for (const std::string& word : command) words += " " + word;
    SCOPED_TRACE(words);
    command.emplace_back("--help");
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.err, "");
    EXPECT_TRUE(contains(outcome.out, "Usage: " + words)) << outcome.out;
    EXPECT_TRUE(contains(outcome.out, "Examples:\n  evenkeel")) << outcome.out;
  }
}

TEST(Usage, VersionIsPrinted) {
  const Outcome outcome = run({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "evenkeel " EVENKEEL_VERSION "\n");
}

TEST(Usage, NoCommandShowsTheHelpAsAnError) {
  const Outcome outcome = run({});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(contains(outcome.err, "Usage: evenkeel")) << outcome.err;
}

struct Mistake {
  std::vector<std::string> arguments;
  std::string named;  // what the message must name
  std::string help;   // the command whose help it must point at
};

TEST(Usage, MistakesAreNamedAndPointAtTheHelp) {
  const std::vector<Mistake> mistakes = {
      {{"explan"}, "'explan'", "evenkeel"},
      {{"--versoin"}, "'--versoin'", "evenkeel"},
      {{"explain"}, "batch-norm, layer-norm and lrn", "evenkeel explain"},
      {{"explain", "batchnorm"}, "'batchnorm'", "evenkeel explain"},
      {{"explain", "lrn", "--sise", "3"}, "'--sise'", "evenkeel explain lrn"},
      {{"explain", "lrn", "--size", "three"}, "--size", "evenkeel explain lrn"},
      {{"explain", "lrn", "--convention", "pytorch"}, "pytorch", "evenkeel explain lrn"},
      {{"explain", "batch-norm", "--samples", "0"}, "--samples", "evenkeel explain batch-norm"},
      {{"explain", "batch-norm", "--samples", "17"}, "--samples", "evenkeel explain batch-norm"},
      {{"explain", "batch-norm", "--features", "17"}, "--features", "evenkeel explain batch-norm"},
      {{"explain", "layer-norm", "--input", "1,2;3"}, "row 2 has 1 values", "evenkeel explain"},
      {{"explain", "layer-norm", "--input", "1,two"}, "'two'", "evenkeel explain layer-norm"},
      {{"explain", "layer-norm", "--input", "1;2", "--seed", "3"}, "--input", "evenkeel explain"},
      {{"standardize"}, "in", "evenkeel standardize"},
      {{"standardize", "a.npy", "-o", "b.npy"}, "--stats", "evenkeel standardize"},
      {{"standardize", "a.npy", "-o", "b.npy", "--stat", "s.json"},
       "'--stat'",
       "evenkeel standardize"},
      {{"standardize", "a.npy", "-o", "b.npy", "--stats", "s", "--apply", "s"},
       "--apply",
       "evenkeel standardize"},
      {{"standardize", "a.npy", "-o", "b.npy", "--stats", "a.npy"},
       "a.npy",
       "evenkeel standardize"},
      {{"standardize", "a.npy", "-o", "b.npy", "--apply", "./b.npy"},
       "./b.npy",
       "evenkeel standardize"},
      {{"info", "simd"}, "'simd'", "evenkeel info"},
  };
  for (const Mistake& mistake : mistakes) {
    const Outcome outcome = run(mistake.arguments);
    SCOPED_TRACE(outcome.err);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(outcome.err.starts_with("evenkeel: error: "));
    EXPECT_TRUE(contains(outcome.err, mistake.named)) << "expected: " << mistake.named;
    EXPECT_TRUE(contains(outcome.err, "See '" + mistake.help)) << "expected: " << mistake.help;
  }
}

}  // namespace
}  // namespace evenkeel::cli
