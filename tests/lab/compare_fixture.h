// Small comparisons on a data set made up by the tests.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "lab/compare.h"
#include "tests/lab/idx_files.h"

namespace evenkeel::lab {

class Silent : public Observer {
 public:
  void planned(const std::vector<ArmConfig>& arms) override { planned_ = arms.size(); }
  void stepped(std::size_t, std::int64_t, double) override { ++steps_; }
  void ended(std::size_t, const Results&) override { ++ended_; }

  std::size_t planned_ = 0;
  std::int64_t steps_ = 0;
  std::size_t ended_ = 0;
};

class Compare : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const TemporaryDirectory directory;
    write_dataset(directory.path());
    data_ = new Dataset(load_dataset(directory.path().string()));
  }
  static void TearDownTestSuite() {
    delete data_;
    data_ = nullptr;
  }

  static CompareConfig small() {
    CompareConfig config;
    config.networks = {"mlp", "cnn"};
    config.steps = 30;
    config.batch_size = 20;
    config.points = {.train = 6, .eval = 3, .probe = 2, .batch_norm = 2};
    config.exact_images = 100;
    return config;
  }

  Results run(const CompareConfig& config) { return compare(config, *data_, observer_, stop_); }

  static inline Dataset* data_ = nullptr;
  Silent observer_;
  std::atomic<bool> stop_ = false;
};

inline void expect_same(const ArmResult& a, const ArmResult& b) {
  ASSERT_EQ(a.train.size(), b.train.size());
  for (std::size_t i = 0; i < a.train.size(); ++i) EXPECT_EQ(a.train[i].loss, b.train[i].loss);
  ASSERT_EQ(a.eval.size(), b.eval.size());
  for (std::size_t i = 0; i < a.eval.size(); ++i) {
    EXPECT_EQ(a.eval[i].score.loss, b.eval[i].score.loss);
  }
  ASSERT_EQ(a.test.has_value(), b.test.has_value());
  if (a.test) {
    EXPECT_EQ(a.test->loss, b.test->loss);
  }
}

}  // namespace evenkeel::lab
