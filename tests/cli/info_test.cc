#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lab/blas.h"
#include "lab/machine.h"
#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace {

TEST(Info, FollowsTheEnvironment) {
  const auto info = nlohmann::json::parse(run({"info", "--json"}).out);
  const std::vector<std::string> runnable = info.at("simd").at("runnable");
  ASSERT_FALSE(runnable.empty());
  EXPECT_EQ(info.at("simd").at("active"), runnable.front());
  EXPECT_EQ(info.at("version"), EVENKEEL_VERSION);
  EXPECT_FALSE(info.at("libtorch").get<std::string>().empty());
  EXPECT_EQ(info.at("blas"), lab::blas_name());
  EXPECT_EQ(info.at("compiler"), lab::compiler_name());

  const Outcome forced =
      run({"info", "--json"},
          {.environment = {{"EVENKEEL_SIMD", runnable.back()}, {"OMP_NUM_THREADS", "3"}}});
  EXPECT_EQ(nlohmann::json::parse(forced.out).at("simd").at("active"), runnable.back());
  EXPECT_EQ(nlohmann::json::parse(forced.out).at("threads"), 3);

  const Outcome text = run({"info"}, {.environment = {{"EVENKEEL_SIMD", runnable.back()}}});
  EXPECT_EQ(text.code, 0);
  EXPECT_NE(text.out.find("active:   " + runnable.back()), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("\nBLAS           " + lab::blas_name() + "\n"), std::string::npos);
}

TEST(Info, RefusesATargetThatDoesNotExist) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"info"}, {"info", "--json"}, {"explain", "batch-norm"}}) {
    const Outcome outcome = run(command, {.environment = {{"EVENKEEL_SIMD", "nonsense"}}});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find("'nonsense'"), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace evenkeel::cli
