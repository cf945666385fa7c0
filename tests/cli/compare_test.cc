// `evenkeel compare` end to end, on a small slice of the real Fashion-MNIST.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/cli/fashion_mnist.h"
#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace {

namespace fs = std::filesystem;

class Compare : public testing::Test {
 protected:
  void SetUp() override { write_small_fashion_mnist(data_); }
  std::vector<std::string> command(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"compare", "--quick", "--data",       data_,
                                      "--out",   out_,      "--batch-size", "50"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  nlohmann::json results() const {
    return nlohmann::json::parse(read_file(fs::path(out_) / "results.json"));
  }
  // It fails before any training.
  void expect_refused(const Outcome& outcome, int code, const std::string& message) const {
    EXPECT_EQ(outcome.code, code);
    EXPECT_TRUE(outcome.err.starts_with("evenkeel: error: ")) << outcome.err;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_FALSE(fs::exists(fs::path(out_) / "report.html"));
  }

  TemporaryDirectory folder_;
  std::string data_ = folder_ / "data";
  std::string out_ = folder_ / "out";
};

TEST_F(Compare, TrainsAndWritesTheReport) {
  const Outcome outcome =
      run(command({"--network", "mlp,cnn", "--norms", "none,batch,layer,group,instance,rms,lrn",
                   "--steps", "20"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with(
      "evenkeel: mlp has no convolution, so instance is the same there as none\n"))
      << outcome.err;
  const auto json = results();
  EXPECT_EQ(json.at("data").at("classes"), 10);
  EXPECT_EQ(json.at("data").at("train").get<int>() + json.at("data").at("held_out").get<int>(),
            600);
  EXPECT_EQ(json.at("data").at("test"), 100);
  EXPECT_EQ(json.at("interrupted"), false);
  ASSERT_EQ(json.at("arms").size(), 14U);
  for (const auto& arm : json.at("arms")) {
    SCOPED_TRACE(arm.at("network").get<std::string>() + " " + arm.at("norm").get<std::string>());
    EXPECT_EQ(arm.at("status"), "done");
    EXPECT_EQ(arm.at("steps"), 20);
    EXPECT_GE(arm.at("test").at("accuracy"), 0);
    EXPECT_LE(arm.at("test").at("accuracy"), 1);
    EXPECT_EQ(arm.at("batch_norm_eval").is_null(), arm.at("norm") != "batch");
  }
  EXPECT_GT(fs::file_size(fs::path(out_) / "log.csv"), 100U);
  const std::string report = read_file(fs::path(out_) / "report.html");
  EXPECT_NE(report.find("</html>"), std::string::npos);
  EXPECT_NE(report.find("evenkeel compare --quick"), std::string::npos) << "the exact command";
  // The table and the path of the report for the person, plain progress on the other stream.
  EXPECT_NE(outcome.out.find("test accuracy"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find(out_ + "/report.html"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.err.find("20/20 steps"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("all 14 arms"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("280/280 steps"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find('\033'), std::string::npos) << "no control codes in a pipe";
}

TEST_F(Compare, WrongUsageIsFoundFirst) {
  expect_refused(run(command({"--norms", "none,bach"})), 2, "bach");
  expect_refused(run(command({"--network", "rnn"})), 2, "rnn");
  expect_refused(run(command({"--steps", "0"})), 2, "steps");
  expect_refused(run(command({"--steps", "5", "--epochs", "1"})), 2, "--epochs");
  expect_refused(run(command({"--lr", "nan"})), 2, "nan");
  expect_refused(run(command({"--jobs", "0"})), 2, "jobs");
  expect_refused(run(command({"--norm", "batch"})), 2, "'--norm'");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(Compare, MissingAndDamagedDataIsRefused) {
  expect_refused(run({"compare", "--data", folder_ / "none", "--out", out_}), 1, folder_ / "none");
  const fs::path images = fs::path(data_) / "train-images-idx3-ubyte";
  const fs::path labels = fs::path(data_) / "train-labels-idx1-ubyte";
  const std::string good_images = read_file(images);
  const std::string good_labels = read_file(labels);

  write_file(images, good_images.substr(0, 5000));
  expect_refused(run(command({})), 1, "train-images-idx3-ubyte");
  write_file(images, good_labels);
  expect_refused(run(command({})), 1, "train-images-idx3-ubyte");
  write_file(images, good_images);

  std::string bad_label = good_labels;
  bad_label[8 + 17] = 10;
  write_file(labels, bad_label);
  expect_refused(run(command({})), 1, "label 17 is 10");
  write_slice("train-labels-idx1-ubyte", 500, data_);
  expect_refused(run(command({})), 1, "has 500 labels, expected 600");
  fs::remove(labels);
  expect_refused(run(command({})), 1, "train-labels-idx1-ubyte");
}

TEST_F(Compare, AFolderThatCannotBeWrittenIsFoundBeforeTraining) {
  write_file(folder_ / "file", "");
  out_ = folder_ / "file/below";
  // The steps would take hours.
  expect_refused(run(command({"--steps", "100000000"})), 1, out_);
}

TEST_F(Compare, AnArmThatDivergesIsReportedAndTheOthersGoOn) {
  const Outcome outcome =
      run(command({"--network", "cnn", "--norms", "none,batch", "--steps", "10", "--lr", "1e25"}));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto json = results();
  ASSERT_EQ(json.at("arms").size(), 2U);
  for (const auto& arm : json.at("arms")) {
    EXPECT_EQ(arm.at("status"), "diverged");
    EXPECT_GT(arm.at("diverged_at_step"), 0);
    EXPECT_TRUE(arm.at("test").is_null());
  }
  EXPECT_NE(outcome.out.find("diverged"), std::string::npos) << outcome.out;
  EXPECT_TRUE(fs::exists(fs::path(out_) / "report.html"));
}

// 2 points of BatchNorm's statistics in a quick run: with 2 steps or fewer, one at every step.
TEST_F(Compare, DivergenceIsNoFailureWhateverIsMeasuredAtThatStep) {
  for (const char* steps : {"1", "2"}) {
    const Outcome outcome = run(command({"--network", "mlp,cnn", "--norms", "none,batch,layer,lrn",
                                         "--steps", steps, "--lr", "1e25"}));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    for (const auto& arm : results().at("arms")) {
      SCOPED_TRACE(arm.at("network").get<std::string>() + " " + arm.at("norm").get<std::string>());
      const bool diverged = arm.at("status") == "diverged";
      EXPECT_TRUE(diverged || arm.at("status") == "done") << arm.at("status");
      EXPECT_EQ(arm.at("test").is_null(), diverged);
    }
  }
}

// In the shell, as a person would lose it. The words need no quotes.
TEST_F(Compare, OutputThatNobodyTakesCostsNoFiles) {
  std::string line = EVENKEEL_PROGRAM;
  for (const auto& word : command({"--norms", "none,batch", "--steps", "5"})) line += " " + word;
  for (const char* redirection : {" 2>&1 | true", " >/dev/full 2>/dev/full", " >&- 2>&-"}) {
    SCOPED_TRACE(redirection);
    fs::remove_all(out_);
    [[maybe_unused]] const int code = std::system((line + redirection).c_str());
    const auto json = results();
    EXPECT_EQ(json.at("interrupted"), false);
    for (const auto& arm : json.at("arms")) EXPECT_EQ(arm.at("status"), "done");
    EXPECT_TRUE(fs::exists(fs::path(out_) / "report.html"));
    EXPECT_TRUE(fs::exists(fs::path(out_) / "log.csv"));
  }
}

TEST_F(Compare, KillingItCostsOnlyTheArmsUnderWay) {
  Process process(command({"--norms", "none", "--seeds", "200", "--steps", "50", "--jobs", "1"}));
  // The last line of an arm comes after its results are in the files.
  while (process.err().find("test accuracy") == std::string::npos && process.running()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_TRUE(process.running()) << process.err();
  process.send(SIGKILL);
  process.wait();
  const auto json = results();
  EXPECT_EQ(json.at("interrupted"), true);
  EXPECT_EQ(json.at("arms").front().at("status"), "done");
  EXPECT_EQ(json.at("arms").front().at("steps"), 50);
  EXPECT_EQ(json.at("arms").back().at("status"), "not started");
  EXPECT_NE(read_file(fs::path(out_) / "report.html").find("</html>"), std::string::npos);
}

TEST_F(Compare, StoppedBeforeTheFirstStepItKeepsTheOlderReport) {
  const auto stopped = [&] {
    // All images, so that reading them takes long. As soon as the program catches SIGTERM (bit 14
    // of the mask) it gets it.
    const std::string line = "'" EVENKEEL_PROGRAM "' compare --out '" + out_ + "' >/dev/null 2>'" +
                             (folder_ / "err") +
                             "' & until grep -q '^SigCgt:.*[4567cdef]...$' /proc/$!/status; do :; "
                             "done; kill -TERM $!; wait $!";
    EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 1);
    return read_file(folder_ / "err");
  };
  const fs::path report = fs::path(out_) / "report.html";
  EXPECT_NE(stopped().find("stopped before the end"), std::string::npos);
  EXPECT_NE(read_file(report).find("</html>"), std::string::npos) << "there was no older one";
  for (const auto& entry : fs::directory_iterator(out_)) write_file(entry.path(), "old");
  const std::string message = stopped();
  EXPECT_NE(message.find("stopped before the first step"), std::string::npos) << message;
  for (const auto& entry : fs::directory_iterator(out_)) {
    EXPECT_EQ(read_file(entry.path()), "old") << entry.path();
  }
}

TEST_F(Compare, HelpShowsDefaultsAsTheyAreTyped) {
  const std::string help = run({"compare", "--help"}).out;
  EXPECT_NE(help.find("--norms LIST=none,batch,layer,lrn"), std::string::npos) << help;
  EXPECT_NE(help.find("--seeds INT=1 "), std::string::npos) << help;
}

// Stands for a full disk: write(2) fails halfway with EFBIG.
TEST_F(Compare, AFullDiskKeepsTheOldReport) {
  fs::create_directory(out_);
  for (const char* name : {"report.html", "results.json", "log.csv"}) {
    write_file(fs::path(out_) / name, "old");
  }
  const Outcome outcome =
      run(command({"--norms", "none", "--steps", "5"}), {.environment = {}, .largest_file = 512});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("File too large"), std::string::npos) << outcome.err;
  EXPECT_EQ(read_file(fs::path(out_) / "report.html"), "old");
  EXPECT_EQ(read_file(fs::path(out_) / "results.json"), "old");
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(out_)) files += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(files, 3U) << "no temporary file is left";
}

TEST_F(Compare, CtrlCKeepsWhatThereIs) {
  Process process(command({"--norms", "none,batch", "--steps", "100000000", "--jobs", "1"}));
  // The first plain line of progress says that training is under way.
  while (process.err().find(" steps") == std::string::npos && process.running()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ASSERT_TRUE(process.running()) << process.err();
  process.send(SIGINT);
  const Outcome outcome = process.wait();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("evenkeel: error: stopped"), std::string::npos) << outcome.err;
  const auto json = results();
  EXPECT_EQ(json.at("interrupted"), true);
  EXPECT_EQ(json.at("arms").at(0).at("status"), "interrupted");
  EXPECT_GT(json.at("arms").at(0).at("steps"), 0);
  EXPECT_EQ(json.at("arms").at(1).at("status"), "not started");
  EXPECT_NE(read_file(fs::path(out_) / "report.html").find("</html>"), std::string::npos);
}

}  // namespace
}  // namespace evenkeel::cli
