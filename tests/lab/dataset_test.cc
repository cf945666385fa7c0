#include "lab/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "lab/idx.h"
#include "tests/lab/idx_files.h"

namespace evenkeel::lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Dataset, SplitsAndStandardizes) {
  const TemporaryDirectory directory;
  write_dataset(directory.path());
  const Dataset data = load_dataset(directory.path().string());
  EXPECT_EQ(data.train.size(), 540);
  EXPECT_EQ(data.held_out.size(), 60);
  EXPECT_EQ(data.test.size(), 100);
  EXPECT_EQ(data.rows(), 8);
  EXPECT_EQ(data.held_out.labels[0].item<int>(), 0);
  EXPECT_EQ(data.held_out.labels[59].item<int>(), 9);

  // 34560 values rounded to float once each: their mean is off by less than one rounding of a value
  // of size 2, 2^-23, and so is their standard deviation; 1e-6 leaves room for a few.
  const auto values = data.train.images.to(torch::kDouble);
  EXPECT_NEAR(values.mean().item<double>(), 0, 1e-6);
  EXPECT_NEAR(values.std(/*unbiased=*/false).item<double>(), 1, 1e-6);

  // The test images go through the transform of the training images.
  const auto raw = read_idx_images(directory / "t10k-images-idx3-ubyte.gz");
  const double expected =
      (raw.pixels[5] / 255.0 - data.standardization.mean[0]) / data.standardization.scale[0];
  EXPECT_NEAR(data.test.images.flatten()[5].item<double>(), expected, 1e-6);
}

TEST(Dataset, LimitKeepsTheFirstImages) {
  const TemporaryDirectory directory;
  write_dataset(directory.path());
  const Dataset data = load_dataset(directory.path().string(), 120);
  EXPECT_EQ(data.train.size(), 108);
  EXPECT_EQ(data.held_out.size(), 12);
  EXPECT_EQ(data.test.size(), 20);
}

TEST(Dataset, RefusesMissingDirectoryAndFiles) {
  EXPECT_THAT(error_of([] { load_dataset("/nowhere/at/all"); }),
              AllOf(HasSubstr("/nowhere/at/all"), HasSubstr("fashion-mnist")));
  const TemporaryDirectory directory;
  write_dataset(directory.path());
  std::filesystem::remove(directory / "t10k-labels-idx1-ubyte");
  EXPECT_THAT(error_of([&] { load_dataset(directory.path().string()); }),
              HasSubstr("t10k-labels-idx1-ubyte"));
}

TEST(Dataset, RefusesLabelsOutOfRange) {
  const TemporaryDirectory directory;
  write_dataset(directory.path());
  Bytes labels(600, 9);
  labels[17] = 10;
  write_plain(directory / "train-labels-idx1-ubyte", idx_bytes({600}, labels));
  EXPECT_THAT(error_of([&] { load_dataset(directory.path().string()); }),
              HasSubstr("label 17 is 10, expected 0 to 9"));
}

TEST(Dataset, RefusesCountsThatDiffer) {
  const TemporaryDirectory directory;
  write_dataset(directory.path());
  write_plain(directory / "train-labels-idx1-ubyte", idx_bytes({599}, Bytes(599, 1)));
  EXPECT_THAT(error_of([&] { load_dataset(directory.path().string()); }),
              HasSubstr("has 599 labels, expected 600"));
}

TEST(Dataset, RefusesSizesThatDiffer) {
  const TemporaryDirectory directory;
  write_split(directory.path(), "train", 100, 8, 1);
  write_split(directory.path(), "t10k", 20, 6, 2);
  EXPECT_THAT(error_of([&] { load_dataset(directory.path().string()); }),
              HasSubstr("test images are 6 x 6, expected 8 x 8"));
}

TEST(Dataset, RefusesTooFewImages) {
  const TemporaryDirectory directory;
  write_dataset(directory.path(), 19, 5);
  EXPECT_THAT(error_of([&] { load_dataset(directory.path().string()); }),
              HasSubstr("19 training and 5 test images"));
}

}  // namespace
}  // namespace evenkeel::lab
