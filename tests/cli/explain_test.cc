// The pages of `evenkeel explain` against numbers worked out by hand.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace {

// The words of each of `count` lines: those that follow the line which starts with `heading`, and
// `skip` lines after it.
std::vector<std::vector<std::string>> table_after(const std::string& page,
                                                  const std::string& heading, int skip, int count) {
  std::istringstream in(page);
  std::string line;
  while (std::getline(in, line) && !line.starts_with(heading)) {
  }
  for (int i = 0; i < skip; ++i) std::getline(in, line);
  std::vector<std::vector<std::string>> rows;
  for (int i = 0; i < count && std::getline(in, line); ++i) {
    std::istringstream words(line);
    rows.emplace_back();
    for (std::string word; words >> word;) rows.back().push_back(word);
  }
  return rows;
}

using Rows = std::vector<std::vector<std::string>>;

// Columns (1, 3), (2, 8), (6, 6): means 2, 5, 6; biased variances 1, 9, 0. An eps of 1e-9 does not
// show in four decimals, save where the variance is 0.
const std::vector<std::string> batch = {"explain",     "batch-norm", "--input",
                                        "1,2,6;3,8,6", "--eps",      "1e-9"};

TEST(Explain, BatchNormAveragesOverSamples) {
  const Outcome page = run(batch);
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_EQ(table_after(page.out, "Input x", 1, 2),
            (Rows{{"s1", "1", "2", "6"}, {"s2", "3", "8", "6"}}));
  EXPECT_EQ(table_after(page.out, "Who is averaged", 1, 2),
            (Rows{{"s1", "A", "B", "C"}, {"s2", "A", "B", "C"}}));
  // 1 / sqrt(1e-9) = 31622.7766...
  EXPECT_EQ(table_after(page.out, "1. Statistics", 2, 3),
            (Rows{{"A", "(f1)", "2", "2.0000", "1.0000", "1.0000"},
                  {"B", "(f2)", "2", "5.0000", "9.0000", "0.3333"},
                  {"C", "(f3)", "2", "6.0000", "0.0000", "31622.7766"}}));
  const Rows normalized = {{"s1", "-1.0000", "-1.0000", "0.0000"},
                           {"s2", "1.0000", "1.0000", "0.0000"}};
  EXPECT_EQ(table_after(page.out, "2. Normalize", 1, 2), normalized);
  EXPECT_EQ(table_after(page.out, "3. Scale", 2, 2), normalized);
  EXPECT_NE(page.out.find("mu   = (1 + 3) / 2 = 2\n"), std::string::npos);
  EXPECT_NE(page.out.find("var  = ((1 - 2)^2 + (3 - 2)^2) / 2 = 1\n"), std::string::npos);
}

TEST(Explain, WeightAndBiasGoByFeature) {
  std::vector<std::string> command = batch;
  command.insert(command.end(), {"--weight", "2,-1,5", "--bias", "-0.5,0,7"});
  const Outcome page = run(command);
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_EQ(table_after(page.out, "3. Scale", 1, 2),
            (Rows{{"weight", "2", "-1", "5"}, {"bias", "-0.5", "0", "7"}}));
  EXPECT_EQ(table_after(page.out, "3. Scale", 4, 2),
            (Rows{{"s1", "-2.5000", "1.0000", "7.0000"}, {"s2", "1.5000", "-1.0000", "7.0000"}}));
  EXPECT_NE(page.out.find("y    = -1 * 2 + (-0.5) = -2.5\n"), std::string::npos) << page.out;
}

// Rows (1, 3, 1, 3) and (2, 6, 14, 18): means 2 and 10; biased variances 1 and
// (64 + 16 + 16 + 64) / 4 = 40, root 6.324555.
TEST(Explain, LayerNormAveragesOverFeatures) {
  const Outcome page =
      run({"explain", "layer-norm", "--input", "1,3,1,3;2,6,14,18", "--eps", "1e-9"});
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_EQ(table_after(page.out, "Who is averaged", 1, 2),
            (Rows{{"s1", "A", "A", "A", "A"}, {"s2", "B", "B", "B", "B"}}));
  EXPECT_EQ(table_after(page.out, "1. Statistics", 2, 2),
            (Rows{{"A", "(s1)", "4", "2.0000", "1.0000", "1.0000"},
                  {"B", "(s2)", "4", "10.0000", "40.0000", "0.1581"}}));
  EXPECT_EQ(table_after(page.out, "2. Normalize", 1, 2),
            (Rows{{"s1", "-1.0000", "1.0000", "-1.0000", "1.0000"},
                  {"s2", "-1.2649", "-0.6325", "0.6325", "1.2649"}}));
}

// Two groups of two channels: (1, 3) has mean 2 and variance 1, (10, 30) 20 and 100, (5, 5) 5 and
// 0, (0, 8) 4 and 16.
TEST(Explain, GroupNormAveragesOverNeighboringChannels) {
  const Outcome page = run({"explain", "group-norm", "--input", "1,3,10,30;5,5,0,8", "--groups",
                            "2", "--eps", "1e-9", "--weight", "1,2,1,1", "--bias", "0,0.5,0,0"});
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_EQ(table_after(page.out, "Who is averaged", 1, 2),
            (Rows{{"s1", "A", "A", "B", "B"}, {"s2", "C", "C", "D", "D"}}));
  EXPECT_EQ(table_after(page.out, "1. Statistics", 2, 4),
            (Rows{{"A", "(s1,", "c1-c2)", "2", "2.0000", "1.0000", "1.0000"},
                  {"B", "(s1,", "c3-c4)", "2", "20.0000", "100.0000", "0.1000"},
                  {"C", "(s2,", "c1-c2)", "2", "5.0000", "0.0000", "31622.7766"},
                  {"D", "(s2,", "c3-c4)", "2", "4.0000", "16.0000", "0.2500"}}));
  EXPECT_EQ(table_after(page.out, "2. Normalize", 1, 2),
            (Rows{{"s1", "-1.0000", "1.0000", "-1.0000", "1.0000"},
                  {"s2", "0.0000", "0.0000", "-1.0000", "1.0000"}}));
  EXPECT_EQ(table_after(page.out, "3. Scale", 4, 2),
            (Rows{{"s1", "-1.0000", "2.5000", "-1.0000", "1.0000"},
                  {"s2", "0.0000", "0.5000", "-1.0000", "1.0000"}}));
}

// A group of two channels with three positions each, all in one row of the page.
TEST(Explain, GroupNormAveragesOverPositionsToo) {
  const Outcome page = run({"explain", "group-norm", "--positions", "3", "--groups", "1", "--input",
                            "1,1,1,3,3,3", "--eps", "1e-9", "--weight", "1,10"});
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_EQ(table_after(page.out, "Who is averaged", 0, 2),
            (Rows{{"c1p1", "c1p2", "c1p3", "c2p1", "c2p2", "c2p3"},
                  {"s1", "A", "A", "A", "A", "A", "A"}}));
  // One weight for the three positions of a channel.
  EXPECT_EQ(table_after(page.out, "3. Scale", 4, 1),
            (Rows{{"s1", "-1.0000", "-1.0000", "-1.0000", "10.0000", "10.0000", "10.0000"}}));
  EXPECT_NE(page.out.find("One value by hand: sample s1, channel c1, position p1"),
            std::string::npos);
}

// (1, 2, 3): mean 2, variance 2/3, root 0.816497. (0, 0, 6): mean 2, variance 8, root 2.828427.
TEST(Explain, InstanceNormAveragesOverPositions) {
  const Outcome page = run({"explain", "instance-norm", "--input", "1,2,3,0,0,6", "--eps", "1e-9"});
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_EQ(table_after(page.out, "Who is averaged", 1, 1),
            (Rows{{"s1", "A", "A", "A", "B", "B", "B"}}));
  EXPECT_EQ(table_after(page.out, "1. Statistics", 2, 2),
            (Rows{{"A", "(s1,", "c1)", "3", "2.0000", "0.6667", "1.2247"},
                  {"B", "(s1,", "c2)", "3", "2.0000", "8.0000", "0.3536"}}));
  EXPECT_EQ(table_after(page.out, "2. Normalize", 1, 1),
            (Rows{{"s1", "-1.2247", "0.0000", "1.2247", "-0.7071", "-0.7071", "1.4142"}}));
  EXPECT_NE(page.out.find("mu   = (1 + 2 + 3) / 3 = 2\n"), std::string::npos) << page.out;
}

// (3, 4, 0, 0): mean square 25/4, 1 / sqrt(6.25) = 0.4. (1, -1, 1, 1): mean square 1, although the
// mean is not 0.
TEST(Explain, RmsNormDividesByTheRootMeanSquare) {
  const std::vector<std::string> command = {"explain",          "rms-norm", "--input",
                                            "3,4,0,0;1,-1,1,1", "--eps",    "1e-9"};
  const Outcome page = run(command);
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_EQ(table_after(page.out, "Who is averaged", 1, 2),
            (Rows{{"s1", "A", "A", "A", "A"}, {"s2", "B", "B", "B", "B"}}));
  EXPECT_EQ(table_after(page.out, "1. Statistics", 1, 3),
            (Rows{{"K", "ms", "rstd"},
                  {"A", "(s1)", "4", "6.2500", "0.4000"},
                  {"B", "(s2)", "4", "1.0000", "1.0000"}}));
  EXPECT_EQ(table_after(page.out, "2. Normalize", 1, 2),
            (Rows{{"s1", "1.2000", "1.6000", "0.0000", "0.0000"},
                  {"s2", "1.0000", "-1.0000", "1.0000", "1.0000"}}));
  EXPECT_NE(page.out.find("ms   = (3^2 + 4^2 + 0^2 + 0^2) / 4 = 6.25\n"), std::string::npos);

  // The weights 0, 1, 0, -1 stand for the factors 1, 2, 1, 0.
  std::vector<std::string> offset = command;
  offset.insert(offset.end(), {"--weight", "0,1,0,-1", "--unit-offset"});
  const Outcome with_offset = run(offset);
  ASSERT_EQ(with_offset.code, 0) << with_offset.err;
  EXPECT_EQ(table_after(with_offset.out, "3. Scale", 3, 2),
            (Rows{{"s1", "1.2000", "3.2000", "0.0000", "0.0000"},
                  {"s2", "1.0000", "-2.0000", "1.0000", "0.0000"}}));
  EXPECT_NE(with_offset.out.find("y    = 1.2 * (1 + 0) = 1.2\n"), std::string::npos);
  // Without a weight the factor is 1, with the offset or without it.
  offset = command;
  offset.emplace_back("--unit-offset");
  const Outcome without_weight = run(offset);
  EXPECT_EQ(table_after(without_weight.out, "3. Scale", 2, 2),
            table_after(page.out, "3. Scale", 2, 2));
}

// Window of one channel to each side, k 1, alpha 1, beta 0.5: sums 9, 25, 25, 16;
// y = x / sqrt(1 + sum).
TEST(Explain, LrnSumsOverAWindow) {
  const Outcome page = run({"explain", "lrn", "--input", "0,3,4,0", "--size", "3", "--k", "1",
                            "--alpha", "1", "--beta", "0.5"});
  ASSERT_EQ(page.code, 0) << page.err;
  EXPECT_EQ(table_after(page.out, "'o' = the others", 1, 4), (Rows{{"c1", "*", "o", ".", "."},
                                                                   {"c2", "o", "*", "o", "."},
                                                                   {"c3", ".", "o", "*", "o"},
                                                                   {"c4", ".", ".", "o", "*"}}));
  EXPECT_EQ(table_after(page.out, "1. Sum", 1, 1), (Rows{{"s1", "9", "25", "25", "16"}}));
  EXPECT_EQ(table_after(page.out, "2. base", 1, 1),
            (Rows{{"s1", "10.0000", "26.0000", "26.0000", "17.0000"}}));
  // 3 / sqrt(26) = 0.588348, 4 / sqrt(26) = 0.784465
  EXPECT_EQ(table_after(page.out, "3. y", 1, 1),
            (Rows{{"s1", "0.0000", "0.5883", "0.7845", "0.0000"}}));
}

// The same numbers under every convention: the window of an even size, and alpha divided or not.
TEST(Explain, LrnConventionsDiffer) {
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"paper", "2 channels behind, 2 ahead, alpha 1 "},
      {"torch", "2 channels behind, 1 ahead, alpha 0.25 "},
      {"onnx", "1 channels behind, 2 ahead, alpha 0.25 "},
      {"cudnn", "1 channels behind, 2 ahead, alpha 0.25 "},
      {"tensorflow", "4 channels behind, 4 ahead, alpha 1 "},
  };
  for (const auto& [convention, translated] : expected) {
    const Outcome page =
        run({"explain", "lrn", "--convention", convention, "--size", "4", "--alpha", "1"});
    EXPECT_EQ(page.code, 0);
    EXPECT_NE(page.out.find("'" + convention + "': " + translated), std::string::npos) << page.out;
  }
}

TEST(Explain, IsTheSameEveryTimeAndPlainWhenPiped) {
  for (const std::string layer :
       {"batch-norm", "layer-norm", "group-norm", "instance-norm", "rms-norm", "lrn"}) {
    const Outcome first = run({"explain", layer});
    EXPECT_EQ(first.code, 0);
    EXPECT_EQ(first.out, run({"explain", layer}).out);
    EXPECT_NE(first.out, run({"explain", layer, "--seed", "9"}).out);
    EXPECT_EQ(first.out.find('\033'), std::string::npos);
  }
}

TEST(Explain, TheLargestPageFits) {
  const Outcome page = run({"explain", "batch-norm", "--samples", "16", "--features", "16"});
  ASSERT_EQ(page.code, 0) << page.err;
  const Rows letters = table_after(page.out, "Who is averaged", 1, 16);
  ASSERT_EQ(letters.size(), 16U);
  EXPECT_EQ(letters[15].front(), "s16");
  EXPECT_EQ(letters[15].back(), "P");
  // A long sum is cut: the first three and the last.
  EXPECT_NE(page.out.find(" + ... + "), std::string::npos);
}

// 16 samples of 16 channels, each a group of its own: 256 groups.
TEST(Explain, ManyGroupsHaveNamesOfTwoLetters) {
  const Outcome page =
      run({"explain", "group-norm", "--samples", "16", "--channels", "16", "--groups", "16"});
  ASSERT_EQ(page.code, 0) << page.err;
  const Rows letters = table_after(page.out, "Who is averaged", 1, 16);
  ASSERT_EQ(letters.size(), 16U);
  EXPECT_EQ(letters[1][10], "Z");  // the group of number 16 + 9
  EXPECT_EQ(letters[1][11], "AA");
  EXPECT_EQ(letters[15].back(), "IV");  // that of number 255 = 9 * 26 + 21
}

// At two samples x^ is d / sqrt(d^2 + eps) for values 2d apart: 0.156 for a d of 0.0005, the first
// feature here, and 0 for equal values.
TEST(Explain, OnlyPairsThatBecameMinusAndPlusOneAreSaidToHave) {
  const auto says_so = [](const std::string& input) {
    const Outcome page = run({"explain", "batch-norm", "--input", input});
    EXPECT_EQ(page.code, 0);
    return page.out.find("became -1 and +1") != std::string::npos;
  };
  EXPECT_TRUE(says_so("1,2;1000,3"));
  EXPECT_FALSE(says_so("1,2;1.001,3"));
  EXPECT_FALSE(says_so("1,2;1,3"));
  EXPECT_FALSE(says_so("1;-1;1;-1"));
}

}  // namespace
}  // namespace evenkeel::cli
