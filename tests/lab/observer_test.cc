// What an observer hears, can stop, and cannot break.
#include <gtest/gtest.h>

#include <set>
#include <stdexcept>

#include "lab/compare.h"
#include "tests/lab/compare_fixture.h"

namespace evenkeel::lab {
namespace {

using Observing = Compare;

class StopAfter : public Silent {
 public:
  StopAfter(std::atomic<bool>& stop, std::int64_t steps) : stop_(stop), limit_(steps) {}
  void stepped(std::size_t arm, std::int64_t step, double loss) override {
    Silent::stepped(arm, step, loss);
    if (steps_ == limit_) stop_ = true;
  }

 private:
  std::atomic<bool>& stop_;
  std::int64_t limit_;
};

TEST_F(Observing, StopsAndKeepsWhatThereIs) {
  CompareConfig config = small();
  config.jobs = 1;
  StopAfter observer(stop_, 30 + 12);
  const Results results = compare(config, *data_, observer, stop_);
  EXPECT_TRUE(results.interrupted);
  EXPECT_EQ(results.arms[0].status, Status::done);
  EXPECT_EQ(results.arms[1].status, Status::interrupted);
  EXPECT_EQ(results.arms[1].steps, 12);
  // Points at 5 and 10, and what came after them.
  ASSERT_EQ(results.arms[1].train.size(), 3U);
  EXPECT_EQ(results.arms[1].train.back().step, 12);
  EXPECT_FALSE(results.arms[1].test.has_value());
  for (std::size_t i = 2; i < 8; ++i) EXPECT_EQ(results.arms[i].status, Status::not_started);
}

// Throws in the n-th call, of whatever kind.
class Faulty : public Silent {
 public:
  explicit Faulty(int last) : left_(last) {}
  void planned(const std::vector<ArmConfig>&) override { call(); }
  void stepped(std::size_t, std::int64_t, double) override { call(); }
  void ended(std::size_t, const Results&) override { call(); }

  int calls_ = 0;

 private:
  void call() {
    ++calls_;
    if (--left_ == 0) throw std::runtime_error("the observer broke");
  }
  int left_;
};

TEST_F(Observing, AnObserversExceptionCostsNothingButItself) {
  CompareConfig config = small();
  config.networks = {"mlp"};
  config.jobs = 1;
  // planned, 30 steps of the first arm, its end, a step of the second.
  for (const int call : {1, 2, 32, 33}) {
    SCOPED_TRACE(call);
    Faulty observer(call);
    const Results results = compare(config, *data_, observer, stop_);
    EXPECT_EQ(observer.calls_, call) << "it is not called again";
    ASSERT_EQ(results.arms.size(), 4U);
    for (const auto& arm : results.arms) EXPECT_EQ(arm.status, Status::done);
    EXPECT_FALSE(results.interrupted);
  }
}

// Keeps what it heard when each arm ended.
class Keeper : public Silent {
 public:
  void ended(std::size_t arm, const Results& results) override {
    order_.push_back(arm);
    heard_.push_back(results);
  }

  std::vector<std::size_t> order_;
  std::vector<Results> heard_;
};

TEST_F(Observing, GivesTheResultsSoFarAfterEachArm) {
  CompareConfig config = small();
  config.networks = {"mlp"};
  config.jobs = 2;
  Keeper observer;
  const Results results = compare(config, *data_, observer, stop_);
  ASSERT_EQ(observer.heard_.size(), 4U);
  for (std::size_t n = 0; n < 4; ++n) {
    const Results& heard = observer.heard_[n];
    const std::set<std::size_t> ended(observer.order_.begin(), observer.order_.begin() + n + 1);
    EXPECT_EQ(heard.interrupted, n < 3);
    EXPECT_FALSE(heard.finished.empty());
    for (std::size_t arm = 0; arm < 4; ++arm) {
      EXPECT_EQ(heard.arms[arm].norm, results.arms[arm].norm);
      if (ended.contains(arm)) {
        EXPECT_EQ(heard.arms[arm].status, Status::done);
        expect_same(heard.arms[arm], results.arms[arm]);
      } else {
        EXPECT_EQ(heard.arms[arm].status, Status::not_started);
        EXPECT_TRUE(heard.arms[arm].train.empty());
      }
    }
  }
}

}  // namespace
}  // namespace evenkeel::lab
