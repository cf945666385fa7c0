#include "lab/dataset.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "evenkeel/error.h"
#include "lab/idx.h"

namespace evenkeel::lab {
namespace {

namespace fs = std::filesystem;

constexpr const char* fashion_mnist = "fashion-mnist";
constexpr const char* fashion_mnist_directory = "/usr/share/datasets/fashion-mnist";

// The file itself, or its gzipped form.
fs::path find_file(const fs::path& directory, const std::string& name) {
  for (const auto& candidate : {directory / name, directory / (name + ".gz")}) {
    if (fs::exists(candidate)) return candidate;
  }
  throw Error(fmt::format("{}: expected a file {} or {}.gz in it, got neither", directory.string(),
                          name, name));
}

// Images as bytes, labels as int64.
Split read_split(const fs::path& directory, const std::string& prefix, std::int64_t limit) {
  const fs::path images_path = find_file(directory, prefix + "-images-idx3-ubyte");
  const fs::path labels_path = find_file(directory, prefix + "-labels-idx1-ubyte");
  auto images = read_idx_images(images_path);
  const auto labels = read_idx_labels(labels_path);
  if (static_cast<std::int64_t>(labels.size()) != images.count) {
    throw Error(fmt::format("{}: has {} labels, expected {} (the images of {})",
                            labels_path.string(), labels.size(), images.count,
                            images_path.filename().string()));
  }
  const auto bad = std::find_if(labels.begin(), labels.end(), [](int l) { return l >= classes; });
  if (bad != labels.end()) {
    throw Error(fmt::format("{}: label {} is {}, expected 0 to {}", labels_path.string(),
                            bad - labels.begin(), *bad, classes - 1));
  }
  const std::int64_t kept = limit > 0 ? std::min(limit, images.count) : images.count;
  const auto bytes = torch::from_blob(images.pixels.data(),
                                      {images.count, 1, images.rows, images.cols}, torch::kUInt8);
  std::vector<std::int64_t> wide(labels.begin(), labels.end());
  return Split{bytes.clone(), torch::tensor(wide, torch::kInt64)}.narrow(0, kept);
}

// All pixels as one channel.
template <class T>
TensorView<T> as_one_channel(const torch::Tensor& images) {
  const std::int64_t n = images.size(0);
  return {images.data_ptr<std::remove_const_t<T>>(), Shape{n, 1, images.numel() / n}};
}

torch::Tensor gray_values(const torch::Tensor& bytes) {
  return bytes.to(torch::kFloat).div_(255).contiguous();
}

}  // namespace

Dataset load_dataset(std::string_view source, std::int64_t limit) {
  const bool packaged = source == fashion_mnist;
  const fs::path directory = packaged ? fs::path(fashion_mnist_directory) : fs::path(source);
  if (!fs::is_directory(directory)) {
    if (packaged) {
      throw Error(
          fmt::format("{}: there is no such directory; install the package "
                      "dataset-fashion-mnist, or name a directory of IDX files",
                      directory.string()));
    }
    throw Error(
        fmt::format("{}: there is no such directory; expected {} or a directory of IDX files",
                    source, fashion_mnist));
  }

  // Fashion-MNIST has 6 training images for each test image.
  Split train = read_split(directory, "train", limit);
  Split test = read_split(directory, "t10k", limit > 0 ? std::max<std::int64_t>(limit / 6, 2) : 0);
  if (train.images.size(2) != test.images.size(2) || train.images.size(3) != test.images.size(3)) {
    throw Error(fmt::format("{}: test images are {} x {}, expected {} x {} as the training images",
                            directory.string(), test.images.size(2), test.images.size(3),
                            train.images.size(2), train.images.size(3)));
  }
  // Batch statistics need two images in every split.
  if (train.size() < 20 || test.size() < 2) {
    throw Error(fmt::format("{}: has {} training and {} test images, expected at least 20 and 2",
                            directory.string(), train.size(), test.size()));
  }
  const std::int64_t held_out = std::min<std::int64_t>(5000, train.size() / 10);

  train.images = gray_values(train.images);
  test.images = gray_values(test.images);
  Dataset data;
  data.name = source;
  data.train = train.narrow(0, train.size() - held_out);
  data.held_out = train.narrow(train.size() - held_out, held_out);
  data.test = test;
  ChannelMoments moments(1);
  moments.add(as_one_channel<const float>(data.train.images));
  data.standardization = Standardization::from(moments);
  for (const auto& images : {train.images, test.images}) {
    data.standardization.apply(as_one_channel<const float>(images), as_one_channel<float>(images));
  }
  return data;
}

}  // namespace evenkeel::lab
