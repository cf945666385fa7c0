// The progress of the lab, with a clock that the test moves.
#include "cli/lab_progress.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace evenkeel::cli {
namespace {

using namespace std::chrono_literals;

// A lab of two experiments, the second estimated at three times the first.
class LabProgressOfTwo : public testing::Test {
 protected:
  LabProgressOfTwo() : out_(std::tmpfile()) {
    first_.id = "first";
    first_.quick_minutes = 1;
    second_.id = "second";
    second_.quick_minutes = 3;
    options_.plain_interval = 1s;
    options_.clock = [this] { return now_; };
  }
  ~LabProgressOfTwo() override { std::fclose(out_); }

  static lab::LabConfig lab_of(std::vector<const lab::Experiment*> experiments) {
    lab::LabConfig config;
    config.experiments = std::move(experiments);
    return config;
  }
  static lab::Conclusion conclusion_of(const lab::Experiment& experiment) {
    return {&experiment, lab::Outcomes({}, lab::Mode::quick), 12, 12, 0, 0, 0, {}, {}, {}};
  }

  // What was written since the last call.
  std::string written() {
    std::string text;
    std::array<char, 4096> buffer;
    std::fflush(out_);
    std::fseek(out_, read_, SEEK_SET);
    while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), out_)) {
      text.append(buffer.data(), got);
    }
    read_ = std::ftell(out_);
    return text;
  }

  std::FILE* out_;
  long read_ = 0;
  std::chrono::steady_clock::time_point now_{1h};
  Progress::Options options_;
  lab::Experiment first_;
  lab::Experiment second_;
};

TEST_F(LabProgressOfTwo, TimeLeftIsThatOfStepsMadeNow) {
  Progress progress(out_, options_);
  LabProgress observer(lab_of({&first_, &second_}), progress);
  observer.began(first_, 100);
  observer.advanced(first_, 80, 80);
  now_ += 10s;
  observer.advanced(first_, 90, 80);
  const std::string lines = written();
  // 10 steps in 10 s, and 10 are left.
  EXPECT_NE(lines.find("90/100 steps  1.0 steps/s  0:10 left"), std::string::npos) << lines;
  // In minutes of estimate: 0.1 made in 10 s, 0.1 + 3 left.
  EXPECT_NE(lines.find("all 2 experiments  [####................]  22%  5:10 left"),
            std::string::npos)
      << lines;
}

TEST_F(LabProgressOfTwo, TheLastLineHasTheVerdictAndWhatWasReused) {
  Progress progress(out_, options_);
  LabProgress observer(lab_of({&first_, &second_}), progress);
  lab::Conclusion first = conclusion_of(first_);
  first.reused = 5;
  first.verdict.emplace().answer = lab::Answer::depends;
  first.verdict->depends_on = "the batch size";
  observer.began(first_, 100);
  observer.ended(first);
  EXPECT_TRUE(
      written().ends_with("depends on the batch size (5 of 12 trials are an earlier run's)\n"));

  lab::Conclusion second = conclusion_of(second_);
  second.measured = 7;
  observer.began(second_, 100);
  observer.ended(second);
  EXPECT_TRUE(written().ends_with("stopped, 7 of 12 trials\n"));
}

TEST_F(LabProgressOfTwo, TheLineForAllEndsWithTheLastExperiment) {
  Progress progress(out_, options_);
  LabProgress observer(lab_of({&first_, &second_}), progress);
  observer.began(first_, 100);
  now_ += 4s;
  observer.ended(conclusion_of(first_));
  EXPECT_EQ(written().find("100%  took"), std::string::npos);
  observer.began(second_, 100);
  now_ += 8s;
  observer.ended(conclusion_of(second_));
  EXPECT_TRUE(written().ends_with("all 2 experiments  [####################] 100%  took 0:12\n"));
}

TEST_F(LabProgressOfTwo, OneExperimentHasNoLineForAll) {
  Progress progress(out_, options_);
  LabProgress observer(lab_of({&first_}), progress);
  observer.began(first_, 100);
  now_ += 10s;
  observer.advanced(first_, 50, 0);
  const std::string lines = written();
  EXPECT_NE(lines.find("50/100 steps"), std::string::npos) << lines;
  EXPECT_EQ(lines.find("all"), std::string::npos) << lines;
}

}  // namespace
}  // namespace evenkeel::cli
