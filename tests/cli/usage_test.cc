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
      {"lab"},
      {"explain"},
      {"explain", "batch-norm"},
      {"explain", "layer-norm"},
      {"explain", "group-norm"},
      {"explain", "instance-norm"},
      {"explain", "rms-norm"},
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
      {{"explain"},
       "batch-norm, layer-norm, group-norm, instance-norm, rms-norm and lrn",
       "evenkeel explain"},
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
      {{"explain", "batch-norm", "--samples", "1"},
       "a batch of one sample",
       "evenkeel explain batch-norm"},
      {{"explain", "batch-norm", "--input", "1,2,3"},
       "a batch of one sample",
       "evenkeel explain batch-norm"},
      {{"explain", "batch-norm", "--eps", "0"}, "--eps: 0 is not", "evenkeel explain batch-norm"},
      {{"explain", "batch-norm", "--eps", "nan"},
       "--eps: nan is not",
       "evenkeel explain batch-norm"},
      {{"explain", "layer-norm", "--eps=-1"}, "--eps: -1 is not", "evenkeel explain layer-norm"},
      {{"explain", "layer-norm", "--eps", "inf"},
       "--eps: inf is not",
       "evenkeel explain layer-norm"},
      {{"explain", "layer-norm", "--weight", "1,2"},
       "--weight: 2 numbers for 4 features",
       "evenkeel explain layer-norm"},
      {{"explain", "batch-norm", "--bias", "1,2,3,4,5"},
       "--bias: 5 numbers for 4 features",
       "evenkeel explain batch-norm"},
      {{"explain", "batch-norm", "--bias", "1,2,nan,4"},
       "--bias: nan is not",
       "evenkeel explain batch-norm"},
      {{"explain", "group-norm", "--groups", "4"},
       "--groups: 4 does not divide the 6 channels",
       "evenkeel explain group-norm"},
      {{"explain", "group-norm", "--groups", "0"}, "--groups", "evenkeel explain group-norm"},
      {{"explain", "group-norm", "--features", "4"}, "'--features'", "evenkeel explain group-norm"},
      {{"explain", "group-norm", "--channels", "8", "--positions", "3"},
       "--positions: 8 channels x 3 positions",
       "evenkeel explain group-norm"},
      {{"explain", "group-norm", "--positions", "2", "--weight", "1,2,3,4,5,6,7,8"},
       "--weight: 8 numbers for 6 channels",
       "evenkeel explain group-norm"},
      {{"explain", "instance-norm", "--positions", "1"},
       "a channel with one position",
       "evenkeel explain instance-norm"},
      {{"explain", "instance-norm", "--input", "1,2,3,4"},
       "--positions: 3 does not divide the 4 columns",
       "evenkeel explain instance-norm"},
      {{"explain", "rms-norm", "--bias", "1,2,3,4"}, "'--bias'", "evenkeel explain rms-norm"},
      {{"explain", "rms-norm", "--eps", "0"}, "--eps: 0 is not", "evenkeel explain rms-norm"},
      {{"explain", "layer-norm", "--input", ""},
       "--input: no numbers",
       "evenkeel explain layer-norm"},
      {{"explain", "lrn", "--input", "nan,2"},
       "--input: nan is not a finite",
       "evenkeel explain lrn"},
      {{"explain", "lrn", "--input", "1,-inf"},
       "--input: -inf is not a finite",
       "evenkeel explain lrn"},
      {{"explain", "lrn", "--size", "0"}, "--size: 0, expected 1 to 99", "evenkeel explain lrn"},
      {{"explain", "lrn", "--size", "-3"}, "--size: -3, expected 1 to 99", "evenkeel explain lrn"},
      {{"explain", "lrn", "--size", "100"},
       "--size: 100, expected 1 to 99",
       "evenkeel explain lrn"},
      {{"explain", "lrn", "--convention", "tensorflow", "--size", "-1"},
       "--size: -1, expected 0 to 99",
       "evenkeel explain lrn"},
      {{"explain", "lrn", "--convention", "caffe", "--size", "4"},
       "--size: 4 is even",
       "evenkeel explain lrn"},
      {{"explain", "lrn", "--alpha", "nan"}, "--alpha: nan", "evenkeel explain lrn"},
      {{"explain", "lrn", "--beta", "inf"}, "--beta: inf", "evenkeel explain lrn"},
      {{"explain", "lrn", "--k", "nan"}, "--k: nan", "evenkeel explain lrn"},
      {{"standardize"}, "IN.npy", "evenkeel standardize"},
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
