// Streams that cannot be written: what is asked for is still done, and what is lost is said.
#include <gtest/gtest.h>

#include "tests/cli/testing.h"

namespace evenkeel::cli {
namespace {

TEST(Output, LossOfStandardOutputIsAnError) {
  const Unwritable full = Unwritable::full_disk();
  // The largest page is more than a stream buffers, the others are less.
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"--help"},
        {"--version"},
        {"explain", "lrn"},
        {"explain", "batch-norm", "--samples", "16", "--features", "16"},
        {"info"},
        {"info", "--json"}}) {
    const Outcome outcome = run(command, {.out = full});
    EXPECT_EQ(outcome.code, 1) << command[0];
    EXPECT_TRUE(outcome.err.starts_with("evenkeel: error: standard output cannot be written"))
        << outcome.err;
  }
  const Outcome piped = run({"info"}, {.out = Unwritable::closed_pipe()});
  EXPECT_EQ(piped.code, 1);
  EXPECT_NE(piped.err.find("Broken pipe"), std::string::npos) << piped.err;
}

TEST(Output, ErrorsKeepTheirCodeWithoutAStreamToSayThem) {
  const Unwritable full = Unwritable::full_disk();
  const Unwritable piped = Unwritable::closed_pipe();
  for (const int err : {int{full}, int{piped}}) {
    EXPECT_EQ(run({}, {.err = err}).code, 2);
    EXPECT_EQ(run({"explain", "batch-norm", "--eps", "0"}, {.err = err}).code, 2);
    EXPECT_EQ(run({"standardize", "missing.npy", "-o", "y.npy", "--stats", "s"}, {.err = err}).code,
              1);
  }
}

TEST(Output, WorkGoesOnWithoutItsProgress) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const Unwritable full = Unwritable::full_disk();
  const Unwritable piped = Unwritable::closed_pipe();
  for (const int err : {int{full}, int{piped}}) {
    const TemporaryDirectory folder;
    write_file(folder / "x.npy", npy_bytes(npy_dictionary("<f4", "(3, 2)"), bytes_of(values)));
    const Outcome outcome =
        run({"standardize", folder / "x.npy", "-o", folder / "y.npy", "--stats", folder / "s"},
            {.err = err});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"s", "x.npy", "y.npy"}));
  }
}

}  // namespace
}  // namespace evenkeel::cli
