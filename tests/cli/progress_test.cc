// Progress with a clock that the test moves and a terminal that it reads.
#include "cli/progress.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace evenkeel::cli {
namespace {

using namespace std::chrono_literals;

class Screen : public testing::Test {
 protected:
  Screen() : out_(std::tmpfile()) {}
  ~Screen() override { std::fclose(out_); }

  Progress::Options options(bool terminal, int width = 100) {
    Progress::Options options;
    options.terminal = terminal;
    options.width = width;
    options.clock = [this] { return now_; };
    return options;
  }

  // All that was written, control codes and all.
  std::string written() {
    std::fflush(out_);
    std::rewind(out_);
    std::string text;
    std::array<char, 4096> buffer;
    while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), out_)) {
      text.append(buffer.data(), got);
    }
    return text;
  }

  // What a terminal then shows: understands CR, LF, cursor up, clear line and clear below.
  std::vector<std::string> shown() {
    std::vector<std::string> lines(1);
    std::size_t row = 0;
    std::size_t column = 0;
    const std::string text = written();
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') {
        column = 0;
        if (++row == lines.size()) lines.emplace_back();
      } else if (text[i] == '\r') {
        column = 0;
      } else if (text[i] == '\033') {
        std::size_t end = text.find_first_of("AJK", i);
        const std::string argument = text.substr(i + 2, end - i - 2);
        if (text[end] == 'A') row -= std::stoul(argument);
        if (text[end] == 'J') lines.resize(row + 1), lines[row].resize(column);
        if (text[end] == 'K') lines[row].clear();
        i = end;
      } else {
        lines[row].resize(std::max(lines[row].size(), column + 1), ' ');
        lines[row][column++] = text[i];
      }
    }
    if (lines.back().empty()) lines.pop_back();
    return lines;
  }

  std::FILE* out_;
  std::chrono::steady_clock::time_point now_{1h};
};

TEST(FormatProgress, SaysWhatIsDoneTheRateAndTheTimeLeft) {
  const ProgressLine line{.label = "mlp batch",
                          .unit = "steps",
                          .done = 500,
                          .total = 2000,
                          .seconds = 10,
                          .finished = false,
                          .status = "loss 0.42"};
  // 500 steps in 10 s: 50 a second, so the 1500 that are left take 30 s.
  EXPECT_EQ(format_progress(line, 200),
            "mlp batch  [#####...............]  25%  500/2000 steps  50 steps/s  0:30 left  "
            "loss 0.42");
}

TEST(FormatProgress, WhatWasSkippedSaysNothingAboutTheTimeLeft) {
  ProgressLine line{.label = "x",
                    .unit = "steps",
                    .done = 60,
                    .skipped = 50,
                    .total = 100,
                    .seconds = 10,
                    .status = ""};
  // 10 steps in 10 s: the 40 that are left take 40 s.
  EXPECT_EQ(format_progress(line, 200),
            "x  [############........]  60%  60/100 steps  1.0 steps/s  0:40 left");
  line.unit = "";
  EXPECT_EQ(format_progress(line, 200), "x  [############........]  60%  0:40 left");
  line.skipped = 60;
  EXPECT_EQ(format_progress(line, 200), "x  [############........]  60%");
}

TEST(FormatProgress, DropsTheBarAndThenItsEndWhenItIsNarrow) {
  const ProgressLine line{.label = "mlp batch",
                          .unit = "steps",
                          .done = 500,
                          .total = 2000,
                          .seconds = 10,
                          .finished = false,
                          .status = "loss 0.42"};
  EXPECT_EQ(format_progress(line, 80),
            "mlp batch  25%  500/2000 steps  50 steps/s  0:30 left  loss 0.42");
  EXPECT_EQ(format_progress(line, 30), "mlp batch  25%  500/2000 steps");
  EXPECT_EQ(format_progress(line, 4), "mlp ");
}

TEST(FormatProgress, IsNotCutInsideACharacter) {
  const ProgressLine line{.label = "\u03bc\u03bc\u03bc", .unit = "", .status = ""};
  EXPECT_EQ(format_progress(line, 2), "\u03bc\u03bc");
}

TEST(FormatProgress, PercentAreExact) {
  for (std::int64_t done = 0; done <= 100; ++done) {
    const ProgressLine line{.label = "x", .unit = "u", .done = done, .total = 100, .status = ""};
    EXPECT_EQ(format_progress(line, 6), fmt::format("x {:3}%", done));
  }
}

TEST(FormatProgress, LongTimesHaveHours) {
  // 1 of 7323 in 1 s: 7322 s are left.
  const ProgressLine line{
      .label = "x", .unit = "u", .done = 1, .total = 7323, .seconds = 1, .status = ""};
  EXPECT_NE(format_progress(line, 200).find("  2:02:02 left"), std::string::npos);
}

TEST(FormatProgress, SurvivesNothingToDoAndTooMuchDone) {
  const ProgressLine nothing{.label = "x", .unit = "u", .seconds = 1, .status = ""};
  EXPECT_NE(format_progress(nothing, 200).find("100%  0/0 u"), std::string::npos);
  const ProgressLine more{
      .label = "x", .unit = "u", .done = 12, .total = 10, .seconds = 1, .status = ""};
  EXPECT_NE(format_progress(more, 200).find("0:00 left"), std::string::npos);
}

TEST_F(Screen, TwoItemsAreRedrawnInPlace) {
  Progress progress(out_, options(true));
  auto& none = progress.add("none", 10, "steps");
  auto& batch = progress.add("batch", 10, "steps");
  auto& later = progress.add("later", 10, "steps");
  (void)later;
  progress.update(none, 0);
  for (int step = 1; step <= 4; ++step) {
    now_ += 1s;
    progress.update(none, step);
    now_ += 1s;
    progress.update(batch, step, "loss 2");
  }
  const auto lines = shown();
  ASSERT_EQ(lines.size(), 2U) << "an item that was not updated is not shown";
  EXPECT_EQ(lines[0], "none  [########............]  40%  4/10 steps  0.6 steps/s  0:11 left");
  EXPECT_TRUE(lines[1].starts_with("batch  [########............]  40%  4/10 steps"));
  EXPECT_TRUE(lines[1].ends_with("loss 2"));
}

TEST_F(Screen, FinishedLinesStayAboveTheOthers) {
  Progress progress(out_, options(true));
  auto& none = progress.add("none", 10, "steps");
  auto& batch = progress.add("batch", 10, "steps");
  progress.update(none, 0);
  progress.update(batch, 0);
  now_ += 1s;
  progress.update(none, 5);
  progress.update(batch, 10);
  progress.print("a remark");
  progress.finish(batch, "accuracy 0.9");
  now_ += 1s;
  progress.update(none, 6);
  const auto lines = shown();
  ASSERT_EQ(lines.size(), 3U) << written();
  EXPECT_EQ(lines[0], "a remark");
  EXPECT_TRUE(lines[1].starts_with("batch  [####################] 100%")) << lines[1];
  EXPECT_TRUE(lines[1].ends_with("took 1.0 s  accuracy 0.9")) << lines[1];
  EXPECT_TRUE(lines[2].starts_with("none  [############........]  60%")) << lines[2];
}

TEST_F(Screen, IsDrawnAtMostTenTimesASecond) {
  Progress progress(out_, options(true));
  auto& item = progress.add("x", 1000, "steps");
  for (int step = 0; step < 1000; ++step) {
    progress.update(item, step);
    now_ += 1ms;
  }
  const std::string text = written();
  int pictures = 0;
  for (std::size_t at = 0; (at = text.find("\033[2K", at)) != std::string::npos; ++at) ++pictures;
  EXPECT_EQ(pictures, 10);
}

TEST_F(Screen, NoLineIsWiderThanTheTerminal) {
  Progress progress(out_, options(true, 24));
  auto& item = progress.add("a long label for one item", 1000, "steps");
  progress.update(item, 1, "with a status");
  now_ += 1s;
  progress.update(item, 2, "with a status");
  progress.finish(item);
  for (const std::string& line : shown()) EXPECT_LE(line.size(), 24U) << line;
}

TEST_F(Screen, PlainLinesAreFewAndHaveNoControlCodes) {
  Progress progress(out_, options(false));
  auto& item = progress.add("none", 100, "steps");
  for (int step = 0; step <= 100; ++step) {
    progress.update(item, step, "loss 1");
    now_ += 110ms;
  }
  progress.finish(item, "done");
  // 11.1 seconds: a line after 5.06 s (the first update past 5 s) and one 5.06 s later.
  EXPECT_EQ(written().find('\033'), std::string::npos);
  const auto lines = shown();
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_NE(lines[0].find(" 46/100 steps"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find(" 92/100 steps"), std::string::npos) << lines[1];
  EXPECT_TRUE(lines[2].ends_with("done")) << lines[2];
}

TEST_F(Screen, ItemsAdvanceFromSeveralThreads) {
  Progress::Options real = options(true);
  real.clock = {};
  real.redraw_interval = 0ms;
  {
    Progress progress(out_, real);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        auto& item = progress.add("item " + std::to_string(t), 50, "steps");
        for (int step = 0; step <= 50; ++step) progress.update(item, step);
        progress.finish(item, "end");
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const auto lines = shown();
  ASSERT_EQ(lines.size(), 4U);
  for (const std::string& line : lines) {
    EXPECT_NE(line.find("50/50 steps"), std::string::npos) << line;
    EXPECT_TRUE(line.ends_with("end")) << line;
  }
}

}  // namespace
}  // namespace evenkeel::cli
