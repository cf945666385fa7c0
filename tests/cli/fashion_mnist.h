// A small slice of the real Fashion-MNIST, for `--data`.
#pragma once

#include <string>

namespace evenkeel::cli {

// The first `count` items of one of the four files, e.g. "train-images-idx3-ubyte", as an IDX file
// of that name in `folder`, not gzipped.
void write_slice(const std::string& name, unsigned count, const std::string& folder);

// 600 training and 100 test images in a new folder.
void write_small_fashion_mnist(const std::string& folder);

}  // namespace evenkeel::cli
