// `evenkeel standardize` against a computation of its own, in long double and two passes.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* dtype(float) { return "<f4"; }
constexpr const char* dtype(double) { return "<f8"; }

template <class T>
std::string npy(const std::vector<T>& values, const std::string& shape) {
  return npy_bytes(npy_dictionary(dtype(T()), shape), bytes_of(values));
}

// The elements of a file that the program wrote, which must be of type T.
template <class T>
std::vector<T> elements(const fs::path& path) {
  const std::string bytes = read_file(path);
  EXPECT_NE(bytes.find(std::string("'descr': '") + dtype(T()) + "'"), std::string::npos);
  const std::size_t start = 10 + static_cast<unsigned char>(bytes[8]) +
                            256 * static_cast<std::size_t>(static_cast<unsigned char>(bytes[9]));
  std::vector<T> values((bytes.size() - start) / sizeof(T));
  std::memcpy(values.data(), bytes.data() + start, values.size() * sizeof(T));
  return values;
}

// Features with means 0 to 7000 and standard deviation 1; feature 2 is constant.
template <class T>
std::vector<T> random_values(std::int64_t samples, std::int64_t features, unsigned seed = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<T> values;
  for (std::int64_t n = 0; n < samples; ++n) {
    for (std::int64_t c = 0; c < features; ++c) {
      const double value = 1000.0 * static_cast<double>(c % 8) + normal(engine);
      values.push_back(c == 2 ? T{7} : static_cast<T>(value));
    }
  }
  return values;
}

class Standardize : public testing::Test {
 protected:
  TemporaryDirectory folder_;
  std::string in_ = folder_ / "x.npy";
  std::string out_ = folder_ / "y.npy";
  std::string stats_ = folder_ / "stats.json";

  Outcome fit() { return run({"standardize", in_, "-o", out_, "--stats", stats_}); }
  Outcome apply() { return run({"standardize", in_, "-o", out_, "--apply", stats_}); }

  // Fits and compares statistics and result with exact ones.
  template <class T>
  void expect_exact(std::int64_t samples, std::int64_t features, const std::string& shape) {
    const std::vector<T> x = random_values<T>(samples, features);
    write_file(in_, npy(x, shape));
    const Outcome outcome = fit();
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto stats = nlohmann::json::parse(read_file(stats_));
    EXPECT_EQ(stats.at("format"), "evenkeel-standardization");
    EXPECT_EQ(stats.at("format_version"), 1);
    EXPECT_EQ(stats.at("count"), samples);
    const std::vector<double> means = stats.at("mean");
    const std::vector<double> stds = stats.at("std");
    const std::vector<double> scales = stats.at("scale");
    const std::vector<T> y = elements<T>(out_);
    ASSERT_EQ(y.size(), x.size());

    // The library sums in T over blocks of at most 4096 values, shifted to about zero: at worst
    // 4096 roundings of u = epsilon / 2 each, relative to a spread of a few standard deviations.
    // It merges blocks in double, at most one a sample, which rounds a mean each time.
    const double u = std::numeric_limits<T>::epsilon() / 2;
    const double block_error = 4096 * 4 * u;
    const double merge_error =
        static_cast<double>(samples) * std::numeric_limits<double>::epsilon();
    for (std::int64_t c = 0; c < features; ++c) {
      const auto at = [&](std::int64_t n) { return static_cast<std::size_t>(n * features + c); };
      long double mean = 0;
      for (std::int64_t n = 0; n < samples; ++n) mean += x[at(n)];
      mean /= static_cast<long double>(samples);
      long double variance = 0;
      for (std::int64_t n = 0; n < samples; ++n) variance += (x[at(n)] - mean) * (x[at(n)] - mean);
      const auto std = static_cast<double>(sqrtl(variance / static_cast<long double>(samples)));

      const double got_mean = means.at(static_cast<std::size_t>(c));
      const double got_std = stds.at(static_cast<std::size_t>(c));
      const double got_scale = scales.at(static_cast<std::size_t>(c));
      if (c == 2) {
        EXPECT_EQ(got_mean, 7);
        EXPECT_EQ(got_std, 0);
        EXPECT_EQ(got_scale, 1);
      } else {
        const double tolerance = block_error * std + merge_error * static_cast<double>(fabsl(mean));
        ASSERT_NEAR(got_mean, static_cast<double>(mean), tolerance);
        ASSERT_NEAR(got_std, std, tolerance);
        ASSERT_EQ(got_scale, got_std);
      }
      // (x - mean) * (1 / scale) in T: the factor, the difference, the product and the correction
      // for the rounding of the mean are rounded once each.
      for (std::int64_t n = 0; n < samples; ++n) {
        const double expected = (static_cast<double>(x[at(n)]) - got_mean) / got_scale;
        ASSERT_NEAR(static_cast<double>(y[at(n)]), expected, 4 * u * (std::abs(expected) + 1));
      }
    }
  }
};

TEST_F(Standardize, Float32IsExact) { expect_exact<float>(5003, 7, "(5003, 7)"); }
TEST_F(Standardize, Float64IsExact) { expect_exact<double>(5003, 7, "(5003, 7)"); }
TEST_F(Standardize, DimensionsAfterTheFirstAreFeatures) {
  expect_exact<float>(501, 24, "(501, 2, 3, 4)");
}
TEST_F(Standardize, OneDimensionIsOneFeature) { expect_exact<double>(1001, 1, "(1001,)"); }
// 12 MB: read in several pieces.
TEST_F(Standardize, ALargeFileIsExact) { expect_exact<float>(300007, 10, "(300007, 10)"); }
// One sample is larger than a piece of 4 MiB.
TEST_F(Standardize, LargeSamplesAreExact) { expect_exact<double>(3, 530000, "(3, 530000)"); }

TEST_F(Standardize, ConstantFeaturesAreSaid) {
  write_file(in_, npy(random_values<float>(100, 5), "(100, 5)"));
  const Outcome few = fit();
  EXPECT_NE(few.err.find("1 of 5 features are constant; their scale is 1 (features 2)"),
            std::string::npos)
      << few.err;
  const std::vector<float> all(3 * 20, 4.0F);
  write_file(in_, npy(all, "(3, 20)"));
  const Outcome many = fit();
  EXPECT_NE(many.err.find("20 of 20 features are constant; their scale is 1 "
                          "(features 0, 1, 2, 3, 4, 5, 6, 7, ...)"),
            std::string::npos)
      << many.err;
  EXPECT_EQ(elements<float>(out_), std::vector<float>(60, 0.0F));
}

TEST_F(Standardize, ApplyRepeatsFitBitByBit) {
  write_file(in_, npy(random_values<double>(1000, 5), "(1000, 5)"));
  ASSERT_EQ(fit().code, 0);
  const std::string fitted = read_file(out_);
  fs::remove(out_);
  const Outcome outcome = apply();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(read_file(out_), fitted);
}

TEST_F(Standardize, InAndOutMayBeTheSameFile) {
  write_file(in_, npy(random_values<float>(1000, 5), "(1000, 5)"));
  ASSERT_EQ(fit().code, 0);
  out_ = in_;
  ASSERT_EQ(apply().code, 0);
  EXPECT_EQ(read_file(in_), read_file(folder_ / "y.npy"));
}

TEST_F(Standardize, ProgressIsPlainWhenPiped) {
  write_file(in_, npy(random_values<float>(1000, 5), "(1000, 5)"));
  const Outcome outcome = fit();
  EXPECT_NE(outcome.err.find("statistics  [####################] 100%  1000/1000 samples"),
            std::string::npos)
      << outcome.err;
  EXPECT_EQ(outcome.err.find('\033'), std::string::npos);
  EXPECT_NE(outcome.out.find("1000 samples x 5 features"), std::string::npos) << outcome.out;
}

// Each of these fails, says `message`, and leaves the folder as it was.
class StandardizeRefuses : public Standardize {
 protected:
  void SetUp() override {
    write_file(in_, npy(random_values<float>(100, 5), "(100, 5)"));
    ASSERT_EQ(fit().code, 0);
    write_file(out_, "old");
  }
  void expect_refused(const Outcome& outcome, const std::string& message) {
    EXPECT_EQ(outcome.code, 1);
    EXPECT_TRUE(outcome.err.find("evenkeel: error: ") != std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(read_file(out_), "old");
    EXPECT_EQ(folder_.names(), (std::vector<std::string>{"stats.json", "x.npy", "y.npy"}));
  }
  // With a statistics file of this content.
  void expect_damaged(const std::string& content, const std::string& message) {
    write_file(stats_, content);
    expect_refused(apply(), message);
  }
};

TEST_F(StandardizeRefuses, FilesThatCannotBeRead) {
  const std::string missing = folder_ / "missing.npy";
  expect_refused(run({"standardize", missing, "-o", out_, "--apply", stats_}),
                 missing + ": no such file");
  expect_refused(run({"standardize", in_, "-o", out_, "--apply", folder_ / "missing.json"}),
                 "missing.json: cannot be read: No such file");
  write_file(in_, read_file(in_).substr(0, 1000));
  expect_refused(fit(), "truncated");
  write_file(in_, "1,2,3");
  expect_refused(fit(), "wrong magic");
}

TEST_F(StandardizeRefuses, ArraysWithoutSamplesOrFeatures) {
  write_file(in_, npy(std::vector<float>{1}, "()"));
  expect_refused(fit(), "single value");
  // No file bounds the other sizes; none of them is a reason to allocate.
  for (const std::string shape :
       {"(0,)", "(0, 5)", "(0, 1000000000000000)", "(0, 1000000000000000, 1000000000000000)"}) {
    write_file(in_, npy(std::vector<float>{}, shape));
    expect_refused(fit(), "no samples");
    expect_refused(apply(), "no samples");
  }
  for (const std::string shape : {"(5, 0)", "(1000000000000000, 0)"}) {
    write_file(in_, npy(std::vector<float>{}, shape));
    expect_refused(fit(), "its samples hold no values");
  }
}

TEST_F(StandardizeRefuses, ValuesThatAreNotFinite) {
  std::vector<float> x = random_values<float>(100, 5);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  write_file(in_, npy(x, "(100, 5)"));
  expect_refused(fit(), "feature 3");
}

TEST_F(StandardizeRefuses, StatisticsOfOtherFeatures) {
  write_file(in_, npy(random_values<float>(100, 6), "(100, 6)"));
  expect_refused(apply(), "6 features, expected 5");
}

TEST_F(StandardizeRefuses, DamagedStatistics) {
  const std::string good = read_file(stats_);
  const auto with = [&](const std::string& key, const nlohmann::json& value) {
    auto json = nlohmann::json::parse(good);
    json[key] = value;
    return json.dump();
  };
  expect_damaged("", "damaged");
  expect_damaged(good.substr(0, good.size() / 2), "damaged");
  expect_damaged("[1, 2]", "not a file of standardization statistics");
  expect_damaged(with("format", "something"), "not a file of standardization statistics");
  expect_damaged(with("format", 3), "not a file of standardization statistics");
  expect_damaged(with("format_version", 2), "format version 2");
  expect_damaged(with("count", "many"), "damaged");
  expect_damaged(with("count", 0), "contradict");
  expect_damaged(with("mean", {1, 2}), "contradict");
  expect_damaged(with("mean", {1, 2, 3, 4, nullptr}), "damaged");
  expect_damaged(with("scale", {1, 1, 1, 1, 0}), "contradict");
  expect_damaged(with("std", {1, 1, 1, 1, -1}), "contradict");
}

// Stands for a full disk: write(2) fails halfway with EFBIG. It needs neither root nor a file
// system of its own.
TEST_F(StandardizeRefuses, AFullDisk) {
  const RunOptions small{.environment = {}, .largest_file = 1024};
  expect_refused(run({"standardize", in_, "-o", out_, "--apply", stats_}, small),
                 out_ + ": writing failed, an old file is kept: File too large");
  const std::string stats = read_file(stats_);
  expect_refused(run({"standardize", in_, "-o", out_, "--stats", stats_}, small), "File too large");
  EXPECT_EQ(read_file(stats_), stats);
}

// Root ignores permissions, but nobody can make a file below a file.
TEST_F(StandardizeRefuses, PlacesThatCannotBeWritten) {
  expect_refused(run({"standardize", in_, "-o", in_ + "/y.npy", "--apply", stats_}),
                 "/y.npy: cannot be written: Not a directory");
  expect_refused(run({"standardize", in_, "-o", out_, "--stats", folder_ / "no/stats.json"}),
                 "no/stats.json: cannot be written: No such file or directory");
  expect_refused(run({"standardize", in_, "-o", "/dev/full", "--apply", stats_}),
                 "/dev/full: is not a regular file");
}

TEST_F(StandardizeRefuses, ToGoOnAfterCtrlC) {
  // A sparse file of 2 GB: a second of work, no space. The limit keeps a program that does not stop
  // from filling the disk with its result.
  write_file(in_, npy_bytes(npy_dictionary("<f4", "(500000, 1000)"), ""));
  fs::resize_file(in_, fs::file_size(in_) + 2000000000);
  Process process({"standardize", in_, "-o", out_, "--stats", stats_},
                  {.environment = {}, .largest_file = 1 << 20});
  while (folder_.names().size() < 5 && process.running()) {  // both results have been begun
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_TRUE(process.running());
  process.send(SIGINT);
  expect_refused(process.wait(), "stopped; no file was changed");
}

}  // namespace
}  // namespace evenkeel::cli
