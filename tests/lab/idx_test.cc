#include "lab/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/lab/idx_files.h"

namespace evenkeel::lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const Bytes six_pixels = {1, 2, 3, 4, 5, 255};

// Every case with a plain and with a gzipped file.
class Idx : public testing::TestWithParam<bool> {
 protected:
  std::filesystem::path write(const Bytes& bytes) {
    const auto path = directory_ / "file";
    GetParam() ? write_gzipped(path, bytes) : write_plain(path, bytes);
    return path;
  }
  std::string images_error(const Bytes& bytes) {
    return error_of([path = write(bytes)] { read_idx_images(path); });
  }
  std::string labels_error(const Bytes& bytes) {
    return error_of([path = write(bytes)] { read_idx_labels(path); });
  }

  TemporaryDirectory directory_;
};

TEST_P(Idx, ReadsImages) {
  const IdxImages images = read_idx_images(write(idx_bytes({2, 1, 3}, six_pixels)));
  EXPECT_EQ(images.count, 2);
  EXPECT_EQ(images.rows, 1);
  EXPECT_EQ(images.cols, 3);
  EXPECT_EQ(images.pixels, six_pixels);
}

TEST_P(Idx, ReadsLabels) {
  EXPECT_EQ(read_idx_labels(write(idx_bytes({6}, six_pixels))), six_pixels);
}

TEST_P(Idx, ReadsMoreThanOneChunk) {
  const Bytes content((9 << 20) + 1, 7);
  EXPECT_EQ(read_idx_labels(write(idx_bytes({(9 << 20) + 1}, content))), content);
}

TEST_P(Idx, RefusesWrongMagic) {
  EXPECT_THAT(images_error(idx_bytes({6}, six_pixels)),
              AllOf(HasSubstr((directory_ / "file").string()), HasSubstr("0x00000803"),
                    HasSubstr("0x00000801")));
  EXPECT_THAT(labels_error(idx_bytes({2, 1, 3}, six_pixels)),
              AllOf(HasSubstr("expected"), HasSubstr("0x00000801"), HasSubstr("0x00000803")));
}

TEST_P(Idx, RefusesTruncatedContent) {
  EXPECT_THAT(images_error(idx_bytes({3, 1, 3}, six_pixels)),
              AllOf(HasSubstr("expected 9 bytes"), HasSubstr("got 6"), HasSubstr("truncated")));
}

TEST_P(Idx, RefusesTruncatedHeader) {
  EXPECT_THAT(images_error({0, 0, 8, 3, 0, 0}), HasSubstr("within its header"));
  EXPECT_THAT(labels_error({}), HasSubstr("within its header"));
}

TEST_P(Idx, RefusesTrailingBytes) {
  EXPECT_THAT(labels_error(idx_bytes({5}, six_pixels)),
              AllOf(HasSubstr("expected 5 bytes"), HasSubstr("got more")));
}

TEST_P(Idx, RefusesEmptyAndAbsurdSizes) {
  EXPECT_THAT(images_error(idx_bytes({0, 1, 3}, {})), HasSubstr("got 0 of 1 x 3"));
  // The product of these would overflow 64 bits.
  EXPECT_THAT(images_error(idx_bytes({4294967295, 4294967295, 4294967295}, six_pixels)),
              HasSubstr("4294967295"));
  // 64 GB that are not there are not asked for either.
  EXPECT_THAT(images_error(idx_bytes({4096, 4096, 4096}, six_pixels)), HasSubstr("truncated"));
}

INSTANTIATE_TEST_SUITE_P(PlainAndGzipped, Idx, testing::Bool(),
                         [](const auto& test) { return test.param ? "gzipped" : "plain"; });

TEST(IdxFile, RefusesMissingFilesAndDirectories) {
  const TemporaryDirectory directory;
  EXPECT_THAT(error_of([&] { read_idx_images(directory / "absent"); }),
              AllOf(HasSubstr("absent"), HasSubstr("no such file")));
  EXPECT_THAT(error_of([&] { read_idx_images(directory.path()); }), HasSubstr("not a file"));
}

TEST(IdxFile, RefusesDamagedGzip) {
  const TemporaryDirectory directory;
  const auto path = directory / "labels.gz";
  write_gzipped(path, idx_bytes({600}, Bytes(600, 3)));

  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EXPECT_THAT(error_of([&] { read_idx_labels(path); }),
              testing::AnyOf(HasSubstr("truncated"), HasSubstr("header")));

  write_gzipped(path, idx_bytes({600}, Bytes(600, 3)));
  // The stored checksum, just before the 4 bytes of length.
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-8, std::ios::end);
  file.write("\xAA\xBB\xCC\xDD", 4);
  file.close();
  EXPECT_THAT(error_of([&] { read_idx_labels(path); }), HasSubstr("cannot be unpacked"));
}

}  // namespace
}  // namespace evenkeel::lab
