// `evenkeel lab` end to end, on a small slice of the real Fashion-MNIST: what the experiments find
// on it means nothing.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "lab/registry.h"
#include "tests/cli/fashion_mnist.h"
#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Lab : public testing::Test {
 protected:
  void SetUp() override { write_small_fashion_mnist(data_); }
  std::vector<std::string> command(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"lab", "--data", data_, "--out", out_};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  json results() const { return json::parse(read_file(fs::path(out_) / "results.json")); }
  void expect_refused(const std::vector<std::string>& words, int code,
                      const std::string& message) const {
    const Outcome outcome = run(words);
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

TEST_F(Lab, ListsEveryExperiment) {
  const Outcome outcome = run({"lab", "--list"});
  EXPECT_EQ(outcome.code, 0);
  ASSERT_FALSE(lab::experiments().empty());
  for (const auto& experiment : lab::experiments()) {
    EXPECT_NE(outcome.out.find(experiment.id + ": " + experiment.title), std::string::npos)
        << outcome.out;
  }
}

TEST_F(Lab, WrongUsageIsFoundFirst) {
  expect_refused(command({}), 2, "--list");
  expect_refused(command({"invariance", "sped"}), 2, "'sped', expected one of invariance, ");
  expect_refused(command({"invariance", "--all"}), 2, "--all");
  expect_refused(command({"invariance", "--quick", "--full"}), 2, "--quick");
  expect_refused(command({"--report", out_, "--all"}), 2, "--all");
  expect_refused(command({"invariance", "--jobs", "0"}), 2, "--jobs");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(Lab, AReportOfNothingOrOfSomethingElseIsRefused) {
  expect_refused({"lab", "--report", out_}, 1, out_);
  fs::create_directory(out_);
  write_file(fs::path(out_) / "results.json",
             R"({"format": "evenkeel-compare", "format_version": 1})");
  expect_refused({"lab", "--report", out_}, 1, "expected results of evenkeel lab");
}

TEST_F(Lab, DataThatFillsNoBatchIsRefusedBeforeAnyTrial) {
  for (const char* name : {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}) {
    write_slice(name, 36, data_);
  }
  expect_refused(command({"invariance"}), 1,
                 "has 33 training images beside the 3 that are held out, expected at least 60, a "
                 "batch of the experiment invariance");
  // One whose batches are small enough is not, but the others are looked at first.
  expect_refused(command({"batch-size", "lrn"}), 1, "a batch of the experiment lrn");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(Lab, RunsAndReportsAndReusesWhatWasMeasured) {
  const Outcome first = run(command({"identity-init", "invariance"}));
  ASSERT_EQ(first.code, 0) << first.err;
  const json made = results();
  EXPECT_EQ(made.at("mode"), "quick");
  EXPECT_EQ(made.at("interrupted"), false);
  const auto& experiments = made.at("experiments");
  ASSERT_EQ(experiments.size(), 2U);
  EXPECT_EQ(experiments[0].at("id"), "invariance") << "the cheapest first";
  for (const auto& experiment : experiments) {
    const auto answer = experiment.at("verdict").at("answer").get<std::string>();
    EXPECT_TRUE(answer == "confirmed" || answer == "refuted" || answer == "depends") << answer;
    EXPECT_NE(first.out.find(answer), std::string::npos) << first.out;
    EXPECT_NE(first.err.find(answer), std::string::npos) << first.err;
    EXPECT_EQ(experiment.at("measured"), experiment.at("trials"));
    EXPECT_EQ(experiment.at("reused"), 0);
  }
  EXPECT_NE(first.err.find("a quick run"), std::string::npos) << first.err;
  EXPECT_NE(first.err.find("all 2 experiments"), std::string::npos) << first.err;
  EXPECT_NE(first.out.find(out_ + "/report.html"), std::string::npos) << first.out;
  const fs::path report = fs::path(out_) / "report.html";
  const std::string page = read_file(report);
  EXPECT_NE(page.find("</html>"), std::string::npos);

  fs::remove(report);
  const Outcome redrawn = run({"lab", "--report", out_});
  EXPECT_EQ(redrawn.code, 0) << redrawn.err;
  EXPECT_EQ("\n" + redrawn.out, first.out);
  EXPECT_EQ(read_file(report), page);

  const Outcome again = run(command({"identity-init", "invariance", "--quick"}));
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.err.find("a quick run"), std::string::npos) << "it was asked for";
  const auto reused = results();
  for (std::size_t i = 0; i < experiments.size(); ++i) {
    const auto& experiment = reused.at("experiments").at(i);
    EXPECT_EQ(experiment.at("reused"), experiment.at("trials"));
    EXPECT_EQ(experiment.at("verdict"), experiments[i].at("verdict"));
    EXPECT_EQ(experiment.at("runs"), experiments[i].at("runs"));
  }
}

TEST_F(Lab, CtrlCKeepsWhatThereIsAndTheSameCommandContinues) {
  const auto words = command({"invariance", "--jobs", "1"});
  const auto trials = [&] {
    std::ptrdiff_t files = 0;
    std::error_code missing;
    for (const auto& entry :
         fs::directory_iterator(fs::path(out_) / "trials/invariance", missing)) {
      files += entry.path().extension() == ".json" ? 1 : 0;
    }
    return files;
  };
  Process process(words);
  while (trials() == 0 && process.running()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_TRUE(process.running()) << process.err();
  process.send(SIGINT);
  const Outcome stopped = process.wait();
  EXPECT_EQ(stopped.code, 1);
  EXPECT_NE(stopped.err.find("evenkeel: error: stopped"), std::string::npos) << stopped.err;
  EXPECT_NE(stopped.err.find("the same command continues"), std::string::npos) << stopped.err;
  EXPECT_NE(stopped.out.find(" trials "), std::string::npos) << stopped.out;
  EXPECT_EQ(results().at("interrupted"), true);
  const auto kept = trials();
  EXPECT_EQ(results().at("experiments").at(0).at("measured"), kept);
  EXPECT_TRUE(results().at("experiments").at(0).at("verdict").is_null());

  const Outcome continued = run(words);
  EXPECT_EQ(continued.code, 0) << continued.err;
  EXPECT_EQ(results().at("interrupted"), false);
  const json experiment = results().at("experiments").at(0);
  EXPECT_EQ(experiment.at("reused"), kept);
  EXPECT_EQ(experiment.at("measured"), experiment.at("trials"));
  EXPECT_FALSE(experiment.at("verdict").is_null());
}

// In the shell, as a person would lose it. The words need no quotes.
TEST_F(Lab, OutputThatNobodyTakesCostsNoFiles) {
  std::string line = EVENKEEL_PROGRAM;
  for (const auto& word : command({"invariance"})) line += " " + word;
  for (const char* redirection : {" 2>&1 | true", " >/dev/full 2>/dev/full"}) {
    SCOPED_TRACE(redirection);
    fs::remove_all(out_);
    [[maybe_unused]] const int code = std::system((line + redirection).c_str());
    EXPECT_FALSE(results().at("experiments").at(0).at("verdict").is_null());
    EXPECT_TRUE(fs::exists(fs::path(out_) / "report.html"));
  }
}

}  // namespace
}  // namespace evenkeel::cli
