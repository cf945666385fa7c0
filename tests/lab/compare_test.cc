#include "lab/compare.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <thread>

#include "lab/blas.h"
#include "tests/lab/compare_fixture.h"
#include "tests/lab/idx_files.h"

namespace evenkeel::lab {
namespace {

using testing::HasSubstr;

TEST_F(Compare, TrainsEveryArmAndRecordsEverySeries) {
  const Results results = run(small());
  ASSERT_EQ(results.arms.size(), 8U);
  EXPECT_EQ(observer_.planned_, 8U);
  EXPECT_EQ(observer_.ended_, 8U);
  EXPECT_EQ(observer_.steps_, 8 * 30);
  EXPECT_FALSE(results.interrupted);
  for (const auto& arm : results.arms) {
    SCOPED_TRACE(arm.network + " " + arm.norm);
    EXPECT_EQ(arm.status, Status::done) << arm.error.value_or("");
    EXPECT_EQ(arm.steps, 30);
    EXPECT_GT(arm.seconds, 0);
    ASSERT_EQ(arm.train.size(), 6U);
    EXPECT_EQ(arm.train.front().step, 5);
    EXPECT_EQ(arm.train.back().step, 30);
    ASSERT_EQ(arm.eval.size(), 4U);
    EXPECT_EQ(arm.eval.front().step, 0);
    EXPECT_EQ(arm.eval.back().step, 30);
    EXPECT_EQ(arm.probe.size(), 3U);
    EXPECT_EQ(arm.batch_norm_eval.size(), arm.norm == "batch" ? 3U : 0U);
    ASSERT_TRUE(arm.test.has_value());
    EXPECT_EQ(arm.batch_norm_test.has_value(), arm.norm == "batch");
  }
}

TEST_F(Compare, LearnsWithBatchNorm) {
  CompareConfig config = small();
  config.networks = {"cnn"};
  config.norms = {"batch"};
  config.steps = 120;
  const Results results = run(config);
  // Chance is 0.1. The classes are told apart by their bright lines.
  EXPECT_GT(results.arms[0].test->accuracy, 0.8);
  EXPECT_LT(results.arms[0].train.back().loss, results.arms[0].train.front().loss / 2);
}

TEST_F(Compare, IsTheSameForAnyNumberOfJobs) {
  CompareConfig config = small();
  config.seeds = {1, 2};
  config.jobs = 1;
  const Results one = run(config);
  config.jobs = 3;
  const Results three = run(config);
  for (std::size_t i = 0; i < one.arms.size(); ++i) {
    SCOPED_TRACE(one.arms[i].network + " " + one.arms[i].norm);
    EXPECT_EQ(one.arms[i].seed, three.arms[i].seed);
    expect_same(one.arms[i], three.arms[i]);
  }
  EXPECT_NE(one.arms[0].train[0].loss, one.arms[1].train[0].loss) << "seeds 1 and 2";
}

TEST_F(Compare, DoesNotDependOnOrMoveTheGlobalGenerator) {
  CompareConfig config = small();
  config.networks = {"cnn"};
  torch::manual_seed(1);
  const Results first = run(config);
  const auto drawn = torch::rand({4});
  torch::manual_seed(1);
  EXPECT_TRUE(torch::rand({4}).equal(drawn));
  const Results second = run(config);
  for (std::size_t i = 0; i < first.arms.size(); ++i) expect_same(first.arms[i], second.arms[i]);
}

// What is measured between steps leaves no trace in the training.
TEST_F(Compare, MeasuringDoesNotChangeTheTraining) {
  for (const auto& network_name : network_names()) {
    for (const auto& norm : norm_names()) {
      SCOPED_TRACE(network_name + " " + norm);
      ArmConfig config{.network = network_name,
                       .norm = norm,
                       .seed = 5,
                       .training = {.steps = 20, .batch_size = 16, .lr = 0.1},
                       .points = {.train = 20, .eval = 20, .probe = 20, .batch_norm = 20},
                       .exact_images = 50};
      const auto final_state = [&] {
        const auto network = std::make_shared<Network>(network_plan(network_name), norm_of(norm),
                                                       data_->rows(), data_->cols(), config.seed);
        ArmResult result;
        result.network = network_name;
        result.norm = norm;
        train_arm(
            *network, config, *data_, stop_, [](std::int64_t, double) {}, result);
        EXPECT_EQ(result.status, Status::done);
        auto state = network->parameters();
        for (const auto& buffer : network->buffers()) state.push_back(buffer);
        return state;
      };
      const auto watched = final_state();
      config.points = {.train = 0, .eval = 0, .probe = 0, .batch_norm = 0};
      const auto unwatched = final_state();
      ASSERT_EQ(watched.size(), unwatched.size());
      for (std::size_t i = 0; i < watched.size(); ++i) {
        EXPECT_TRUE(watched[i].equal(unwatched[i])) << i;
      }
    }
  }
}

// At this rate the ReLU network's loss leaves the floats within a few steps without BatchNorm; with
// sigmoids it stays finite.
TEST_F(Compare, ReportsDivergenceAndGoesOn) {
  CompareConfig config = small();
  config.norms = {"none"};
  config.lr = 1e6;
  const Results results = run(config);
  const ArmResult& mlp = results.arms[0];
  const ArmResult& cnn = results.arms[1];
  EXPECT_EQ(mlp.status, Status::done);
  EXPECT_EQ(mlp.steps, 30);
  ASSERT_EQ(cnn.status, Status::diverged);
  ASSERT_TRUE(cnn.diverged_at_step.has_value());
  EXPECT_EQ(cnn.steps, *cnn.diverged_at_step - 1);
  EXPECT_LT(cnn.steps, 30);
  EXPECT_FALSE(cnn.test.has_value());
  EXPECT_FALSE(results.interrupted);
}

// Whatever the magnitude of what a network that diverges computes, its arm ends as done or
// diverged.
TEST_F(Compare, DivergenceIsNoFailureWhateverIsMeasuredAtThatStep) {
  for (const std::int64_t steps : {1, 2, 3, 5}) {
    CompareConfig config = small();
    config.steps = steps;
    config.lr = 1e25;
    config.points = {.train = steps, .eval = steps, .probe = steps, .batch_norm = steps};
    for (const auto& arm : run(config).arms) {
      SCOPED_TRACE(arm.network + " " + arm.norm + ", steps: " + std::to_string(steps));
      if (arm.status == Status::diverged) {
        EXPECT_FALSE(arm.test.has_value());
        EXPECT_TRUE(arm.diverged_at_step.has_value());
        continue;
      }
      ASSERT_EQ(arm.status, Status::done) << arm.error.value_or("");
      EXPECT_TRUE(std::isfinite(arm.test->loss));
      ASSERT_EQ(arm.batch_norm_test.has_value(), arm.norm == "batch");
      if (arm.norm == "batch") {
        const double exact = arm.batch_norm_test->exact;  // NaN where the statistics are not finite
        EXPECT_TRUE(std::isnan(exact) || (exact >= 0 && exact <= 1)) << exact;
      }
    }
  }
}

TEST_F(Compare, ReportsAFailedArmAndGoesOn) {
  // Too small for the cnn's two poolings, enough for the mlp.
  const TemporaryDirectory directory;
  write_dataset(directory.path(), 100, 20, 3);
  const Dataset tiny = load_dataset(directory.path().string());
  const Results results = compare(small(), tiny, observer_, stop_);
  EXPECT_EQ(results.arms[0].status, Status::done);
  EXPECT_EQ(results.arms[4].status, Status::failed);
  EXPECT_THAT(results.arms[4].error.value_or(""), HasSubstr("too small"));
  EXPECT_EQ(observer_.ended_, 8U);
}

// While true, the process says of its BLAS what OpenBLAS built without threads says.
bool pretend_serial_blas = false;

TEST_F(Compare, JobsAreOneByDefaultOnlyIfTheBlasIsSerial) {
  CompareConfig config = small();
  config.networks = {"mlp"};
  config.steps = 1;
  pretend_serial_blas = true;
  EXPECT_EQ(default_jobs(), 1);
  EXPECT_EQ(run(config).jobs, 1);
  config.jobs = 2;
  EXPECT_THAT(error_of([&] { run(config); }), HasSubstr("jobs is 2, expected 1"));
  config.norms = {"none"};
  EXPECT_EQ(run(config).jobs, 1) << "a single arm";
  pretend_serial_blas = false;
  if (!blas_is_thread_safe()) GTEST_SKIP() << "the BLAS is serial in fact";
  EXPECT_EQ(default_jobs(), static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
}

TEST_F(Compare, EpochsCountWholeBatches) {
  CompareConfig config = small();
  config.networks = {"mlp"};
  config.norms = {"none"};
  config.steps.reset();
  config.epochs = 2;
  config.batch_size = 100;
  // 540 training images: 5 batches an epoch, 40 images left out.
  EXPECT_EQ(run(config).arms[0].steps, 10);
}

// 20 images, of which 2 are held out, of 4 x 4 pixels, which the cnn pools to 1 x 1.
TEST_F(Compare, TakesTheSmallestData) {
  const TemporaryDirectory directory;
  write_dataset(directory.path(), 20, 2, 4);
  const Dataset tiny = load_dataset(directory.path().string());
  CompareConfig config = small();
  config.norms = norm_names();
  config.batch_size = 18;
  config.steps = 3;
  const Results results = compare(config, tiny, observer_, stop_);
  EXPECT_EQ(results.arms.size(), 2 * norm_names().size());
  for (const ArmResult& arm : results.arms) {
    EXPECT_EQ(arm.status, Status::done)
        << arm.network << " " << arm.norm << ": " << arm.error.value_or("");
  }
  config.batch_size.reset();
  EXPECT_THAT(error_of([&] { compare(config, tiny, observer_, stop_); }),
              HasSubstr("batch size is 60, expected at most 18 (training images beside the 2"));
}

TEST_F(Compare, RefusesBadConfigurations) {
  const auto error = [&](auto change) {
    CompareConfig config = small();
    change(config);
    return error_of([&] { run(config); });
  };
  EXPECT_THAT(error([](auto& c) {
                c.norms = {"batch", "spectral"};
              }),
              HasSubstr("unknown norm 'spectral', expected one of none, batch, layer, group, "
                        "instance, rms, lrn"));
  EXPECT_THAT(error([](auto& c) { c.networks = {"vgg"}; }), HasSubstr("unknown network 'vgg'"));
  EXPECT_THAT(error([](auto& c) { c.norms = {}; }), HasSubstr("no norm"));
  EXPECT_THAT(error([](auto& c) { c.norms = {"none", "none"}; }), HasSubstr("given twice"));
  EXPECT_THAT(error([](auto& c) { c.seeds = {3, 3}; }), HasSubstr("seed 3 is given twice"));
  EXPECT_THAT(error([](auto& c) { c.steps = 0; }), HasSubstr("steps is 0"));
  EXPECT_THAT(error([](auto& c) { c.epochs = 1; }), HasSubstr("steps and epochs"));
  EXPECT_THAT(error([](auto& c) { c.batch_size = 1; }), HasSubstr("batch size is 1"));
  EXPECT_THAT(error([](auto& c) { c.batch_size = 541; }), HasSubstr("at most 540"));
  EXPECT_THAT(error([](auto& c) {
                c.steps.reset();
                c.epochs = std::numeric_limits<std::int64_t>::max();
              }),
              HasSubstr("epochs is 9223372036854775807"));
  EXPECT_THAT(error([](auto& c) { c.jobs = 0; }), HasSubstr("jobs is 0"));
  EXPECT_THAT(error([](auto& c) { c.lr = 0; }), HasSubstr("lr is 0"));
  EXPECT_THAT(error([](auto& c) { c.lr = std::numeric_limits<double>::quiet_NaN(); }),
              HasSubstr("lr is nan"));
  EXPECT_EQ(observer_.steps_, 0);
}

}  // namespace
}  // namespace evenkeel::lab

// Found before OpenBLAS's own, as the program comes first; passes on to that, if it is there.
extern "C" int openblas_get_parallel() {
  constexpr int sequential = 0;
  constexpr int with_threads = 1;
  if (evenkeel::lab::pretend_serial_blas) return sequential;
  auto* own = reinterpret_cast<int (*)()>(::dlsym(RTLD_NEXT, "openblas_get_parallel"));
  return own ? own() : with_threads;
}
