// The experiments themselves: that each is whole, and the identities of `invariance`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "lab/registry.h"
#include "tests/lab/idx_files.h"

namespace evenkeel::lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Experiments, AreAllThere) {
  std::set<std::string> ids;
  for (const auto& one : experiments()) EXPECT_TRUE(ids.insert(one.id).second) << one.id;
  for (const char* id : {"invariance", "moving-average", "identity-init", "batch-size", "lr-range",
                         "speed", "sigmoid", "shift", "landscape", "contrast", "lrn"}) {
    EXPECT_TRUE(ids.contains(id)) << id;
  }
}

TEST(Experiments, AreCheapestFirst) {
  double minutes = 0;
  for (const auto& one : experiments()) {
    EXPECT_GE(one.full_minutes, minutes) << one.id;
    minutes = one.full_minutes;
  }
}

TEST(Experiments, SayEverythingThatTheReportShows) {
  for (const auto& one : experiments()) {
    SCOPED_TRACE(one.id);
    for (const auto& text :
         {one.title, one.claim, one.source, one.protocol, one.rule, one.refutation}) {
      EXPECT_FALSE(text.empty());
      EXPECT_THAT(text, Not(HasSubstr("  "))) << "a string broken over lines";
    }
    EXPECT_GT(one.quick_minutes, 0);
    EXPECT_LE(one.quick_minutes, one.full_minutes);
    EXPECT_FALSE(one.columns.empty());
    EXPECT_EQ(one.design(Mode::full).seeds.size(), 5U);
    EXPECT_LE(one.design(Mode::quick).seeds.size(), 2U);
    // Seeds that choose rates do not decide.
    const Design design = one.design(Mode::full);
    for (const auto seed : design.tuning_seeds) {
      EXPECT_THAT(design.seeds, Not(testing::Contains(seed)));
    }
  }
}

// Nothing measured is nothing to draw, not an error: an interrupted run has a report too.
TEST(Experiments, DrawWithoutAnyTrial) {
  for (const auto& one : experiments()) {
    SCOPED_TRACE(one.id);
    const Outcomes outcomes(one.design(Mode::quick), Mode::quick);
    EXPECT_FALSE(one.draw(outcomes).empty());
  }
}

// The number of images that the lab asks for is the smallest with which no trial fails; stopped,
// they make their batches and train no step.
TEST(Experiments, NeedTheImagesThatTheySay) {
  const TemporaryDirectory directory;
  write_dataset(directory.path(), 600, 100, 16);
  const Dataset data = load_dataset(directory.path().string());
  const std::atomic<bool> stop = true;
  for (const auto& one : experiments()) {
    for (const Mode mode : {Mode::quick, Mode::full}) {
      SCOPED_TRACE(one.id + ", " + std::string(name_of(mode)));
      const Design design = one.design(mode);
      ASSERT_GE(design.batch_size, 2);
      const auto failures_of = [&](std::int64_t images) {
        Dataset few = data;
        few.train = data.train.narrow(0, images);
        const Context context = {few, stop, [](std::int64_t) {}};
        int failures = 0;
        for (const auto& arm : design.arms) {
          try {
            one.measure({arm, arm.rates[0], 1, false, mode}, context);
          } catch (const Error& error) {
            EXPECT_THAT(error.what(), HasSubstr("training images"));
            ++failures;
          }
        }
        return failures;
      };
      EXPECT_EQ(failures_of(design.batch_size), 0);
      EXPECT_GT(failures_of(design.batch_size - 1), 0);
    }
  }
}

TEST(Experiments, UnknownOnesAreNamedWithTheKnown) {
  EXPECT_THAT(error_of([] { experiment("momentum"); }),
              AllOf(HasSubstr("unknown experiment 'momentum'"), HasSubstr("invariance")));
}

// Sums of at most 144 products in float64 are off by some 1e-14 of their terms; training for 20
// steps amplifies that. 1e-9 leaves four digits for both. Without normalization nothing holds.
TEST(Invariance, HoldsInFloat64) {
  const TemporaryDirectory directory;
  write_dataset(directory.path());
  const Dataset data = load_dataset(directory.path().string());
  const Experiment& invariance = experiment("invariance");
  const Design design = invariance.design(Mode::full);
  const std::atomic<bool> stop = false;
  const Context context = {data, stop, [](std::int64_t) {}};
  int normalized = 0;
  int plain = 0;
  for (const auto& arm : design.arms) {
    const bool exact = arm.name == "BatchNorm, eps ≈ 0" || arm.name == "LayerNorm, eps ≈ 0";
    if (!exact && arm.norm != "none") continue;
    SCOPED_TRACE(arm.name);
    const Measured measured =
        invariance.measure({arm, arm.rates[0], 3, false, Mode::full}, context);
    ASSERT_EQ(measured.status, Status::done);
    for (const char* identity : {"output", "gradient", "cosine", "path"}) {
      SCOPED_TRACE(identity);
      if (exact) {
        EXPECT_LE(measured.value(identity), 1e-9);
      } else {
        EXPECT_GT(measured.value(identity), 1e-3);
      }
    }
    ++(exact ? normalized : plain);
  }
  EXPECT_EQ(normalized, 2);
  EXPECT_EQ(plain, 1);
}

}  // namespace
}  // namespace evenkeel::lab
