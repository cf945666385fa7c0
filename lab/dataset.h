// A labelled set of images, standardized and split, as all arms see it.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "evenkeel/standardization.h"

namespace evenkeel::lab {

// Labels are 0 .. classes - 1.
constexpr std::int64_t classes = 10;
// The accuracy of guessing, which stands for that of a training that diverged.
constexpr double chance = 1.0 / classes;

struct Split {
  torch::Tensor images;  // (N, 1, rows, cols), float, standardized
  torch::Tensor labels;  // (N), int64

  std::int64_t size() const { return images.size(0); }
  // Rows [first, first + count).
  Split narrow(std::int64_t first, std::int64_t count) const {
    return {images.narrow(0, first, count), labels.narrow(0, first, count)};
  }
};

// The last 5,000 training images, or the last tenth of a set below 50,000, are held out: rates,
// defaults and progress are judged on them, and the test images are left for the end.
//
// One mean and one scale serve all pixels, taken over the training images alone. A scale per pixel
// would blow up the border pixels, which are almost always 0.
struct Dataset {
  std::string name;
  Split train;
  Split held_out;
  Split test;
  Standardization standardization;  // of one feature, the gray value / 255

  std::int64_t rows() const { return train.images.size(2); }
  std::int64_t cols() const { return train.images.size(3); }
};

// `source` is "fashion-mnist", Debian's package dataset-fashion-mnist, or a directory with
// {train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, each with or without ".gz".
// Only the first `limit` training images and the first limit / 6 test images are kept if limit > 0.
// Throws Error if a file is bad, if labels are outside the classes, or if counts or sizes differ.
Dataset load_dataset(std::string_view source, std::int64_t limit = 0);

}  // namespace evenkeel::lab
