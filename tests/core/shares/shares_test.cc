// What each thread is given, for up to 64 threads and the layers of networks that people train.
//
// The operations run on kernels that count (kernels.h) instead of computing, so that this takes no
// time and needs no cores. For each kind of pass the balance is the whole work over that of as many
// threads that all had the largest share: 1 is perfect.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "evenkeel/evenkeel.h"
#include "tests/core/shares/kernels.h"

namespace evenkeel::testing {
namespace {

constexpr std::int64_t kKilobyte = 1024;

// Memory that nothing reads or writes, so that no page of it is ever made.
class Untouched {
 public:
  explicit Untouched(std::int64_t values) : memory_(new float[static_cast<std::size_t>(values)]) {}
  TensorView<float> view(const Shape& shape) const { return {memory_.get(), shape}; }
  TensorView<const float> input(const Shape& shape) const { return {memory_.get(), shape}; }

 private:
  std::unique_ptr<float[]> memory_;
};

struct Tensors {
  explicit Tensors(const Shape& of)
      : shape(of),
        x(of.size()),
        dy(of.size()),
        out(of.size()),
        weight(static_cast<std::size_t>(of.c * of.s), 1),
        dweight(weight),
        dbias(weight),
        mean(static_cast<std::size_t>(of.n * of.c)),
        rstd(mean.size(), 1) {}

  std::span<const float> channels() const { return std::span(weight).first(size(shape.c)); }
  std::span<const float> features() const { return weight; }
  static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

  Shape shape;
  Untouched x, dy, out;
  std::vector<float> weight, dweight, dbias;
  std::vector<double> mean, rstd;
};

// Kinds of pass whose work is so small a part of all that threads need not share it well.
constexpr double kNegligible = 0.02;

// LayerNorm's backward has 64 tasks, which a multiple of three threads does not divide.
enum class Tasks : std::uint8_t { many, of_64 };

// The least balance that is asked for where each thread has so many bytes, 0 if none is.
double least_balance(int threads, std::int64_t bytes, Tasks tasks) {
  if (bytes < 64 * kKilobyte) return 0;
  const bool much = bytes >= 256 * kKilobyte;
  if (threads % 3 != 0) return much ? 0.9 : 0.75;
  if (tasks == Tasks::of_64) return 0.6;
  return much ? 0.85 : 0.65;
}

void expect_shares(const std::string& name, const Shape& shape,
                   const std::function<void()>& operation, Tasks tasks = Tasks::many) {
  for (const int threads : {2, 3, 4, 8, 12, 16, 32, 48, 64}) {
    const double least = least_balance(threads, shape.size() * 4 / threads, tasks);
    if (least == 0) return;
    start_counting(threads);
    operation();
    std::int64_t work = 0, serial = 0;
    for (const Pass pass : {Pass::sum, Pass::merge, Pass::write}) {
      work += counted(pass).total();
      serial += counted(pass).serial;
    }
    const std::string where = name + ", " + std::to_string(shape.n) + " x " +
                              std::to_string(shape.c) + " x " + std::to_string(shape.s) + ", " +
                              std::to_string(threads) + " threads";
    ASSERT_GT(work, 0) << where;
    EXPECT_LE(static_cast<double>(serial), kNegligible * static_cast<double>(work)) << where;
    for (const Pass pass : {Pass::sum, Pass::merge, Pass::write}) {
      const Counts& counts = counted(pass);
      if (static_cast<double>(counts.total()) <= kNegligible * static_cast<double>(work)) continue;
      const double balance = static_cast<double>(counts.total()) /
                             (static_cast<double>(threads) * static_cast<double>(counts.largest()));
      if (pass == Pass::merge) {
        // Of so little work it is enough if it does not hold up the rest.
        EXPECT_TRUE(balance >= 0.5 || threads * counts.largest() <= work / 8)
            << where << ", merging: " << balance;
      } else {
        EXPECT_GE(balance, least) << where << (pass == Pass::sum ? ", summing" : ", writing");
      }
    }
  }
}

// Channels and height (which is the width) of the layers of torchvision's resnet50, mobilenet_v2,
// efficientnet_b0 and densenet121 for images of 224 x 224.
std::set<std::tuple<std::int64_t, std::int64_t>> layers() {
  std::set<std::tuple<std::int64_t, std::int64_t>> all = {// resnet50
                                                          {64, 112},
                                                          {64, 56},
                                                          {256, 56},
                                                          {128, 56},
                                                          {128, 28},
                                                          {512, 28},
                                                          {256, 28},
                                                          {256, 14},
                                                          {1024, 14},
                                                          {512, 14},
                                                          {512, 7},
                                                          {2048, 7},
                                                          // mobilenet_v2
                                                          {32, 112},
                                                          {16, 112},
                                                          {96, 112},
                                                          {96, 56},
                                                          {24, 56},
                                                          {144, 56},
                                                          {144, 28},
                                                          {32, 28},
                                                          {192, 28},
                                                          {192, 14},
                                                          {64, 14},
                                                          {384, 14},
                                                          {96, 14},
                                                          {576, 14},
                                                          {576, 7},
                                                          {160, 7},
                                                          {960, 7},
                                                          {320, 7},
                                                          {1280, 7},
                                                          // efficientnet_b0
                                                          {40, 28},
                                                          {240, 28},
                                                          {240, 14},
                                                          {80, 14},
                                                          {480, 14},
                                                          {112, 14},
                                                          {672, 14},
                                                          {672, 7},
                                                          {192, 7},
                                                          {1152, 7}};
  // densenet121: each layer has 32 more channels; some of them.
  for (const auto& [height, first, last] : std::vector<std::array<std::int64_t, 3>>{
           {56, 64, 256}, {28, 128, 512}, {14, 256, 1024}, {7, 512, 1024}}) {
    for (std::int64_t c = first; c <= last; c += 96) all.insert({c, height});
  }
  return all;
}

template <class F>
void for_each_layer(const F& f) {
  for (const auto& [channels, height] : layers()) {
    for (const std::int64_t samples : {8, 32}) {
      for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
        f(Shape{samples, channels, height * height, layout},
          layout == Layout::channels_last ? " channels-last" : " channels-first");
      }
    }
  }
}

TEST(Shares, BatchNorm) {
  for_each_layer([](const Shape& shape, const std::string& layout) {
    Tensors t(shape);
    const auto channels = Tensors::size(shape.c);
    const auto mean = std::span(t.mean).first(channels), rstd = std::span(t.rstd).first(channels);
    expect_shares("forward" + layout, shape, [&] {
      batch_norm_forward<float>({.x = t.x.input(shape),
                                 .weight = t.channels(),
                                 .mean = mean,
                                 .rstd = rstd,
                                 .y = t.out.view(shape)});
    });
    expect_shares("inference" + layout, shape, [&] {
      batch_norm_inference<float>({.x = t.x.input(shape),
                                   .mean = t.channels(),
                                   .var = t.channels(),
                                   .y = t.out.view(shape)});
    });
    std::ranges::fill(t.rstd, 1);
    const BatchNormBackward<float> backward = {.dy = t.dy.input(shape),
                                               .x = t.x.input(shape),
                                               .weight = t.channels(),
                                               .mean = mean,
                                               .rstd = rstd,
                                               .dx = t.out.view(shape),
                                               .dweight = std::span(t.dweight).first(channels),
                                               .dbias = std::span(t.dbias).first(channels)};
    expect_shares("backward" + layout, shape, [&] { batch_norm_backward<float>(backward); });
    std::vector<double> dy(channels), dy_x(channels);
    expect_shares("gradient sums" + layout, shape,
                  [&] { batch_norm_gradient_sums<float>(backward, {.dy = dy, .dy_x = dy_x}); });
    expect_shares("moments" + layout, shape, [&] {
      ChannelMoments moments(shape.c);
      moments.add(t.x.input(shape));
    });
  });
}

// GroupNorm of a Stable Diffusion U-Net (images of 64 x 64 in its latent space), and InstanceNorm
// of the layers above.
TEST(Shares, GroupAndInstanceNorm) {
  const auto check = [](const Shape& shape, std::int64_t groups, const std::string& name) {
    Tensors t(shape);
    const auto size = Tensors::size(shape.n * groups);
    const auto mean = std::span(t.mean).first(size), rstd = std::span(t.rstd).first(size);
    expect_shares(name + " forward", shape, [&] {
      group_norm_forward<float>({.x = t.x.input(shape),
                                 .weight = t.channels(),
                                 .mean = mean,
                                 .rstd = rstd,
                                 .y = t.out.view(shape)},
                                {.groups = groups});
    });
    std::ranges::fill(t.rstd, 1);
    expect_shares(name + " backward", shape, [&] {
      group_norm_backward<float>({.dy = t.dy.input(shape),
                                  .x = t.x.input(shape),
                                  .weight = t.channels(),
                                  .mean = mean,
                                  .rstd = rstd,
                                  .dx = t.out.view(shape),
                                  .dweight = std::span(t.dweight).first(Tensors::size(shape.c)),
                                  .dbias = std::span(t.dbias).first(Tensors::size(shape.c))},
                                 {.groups = groups});
    });
  };
  for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
    const std::string order = layout == Layout::channels_last ? " channels-last" : "";
    for (const auto& [c, height] : std::vector<std::array<std::int64_t, 2>>{
             {320, 64}, {640, 32}, {960, 32}, {1280, 16}, {1920, 16}, {2560, 16}, {1280, 8}}) {
      for (const std::int64_t n : {1, 2, 8}) {
        check({n, c, height * height, layout}, 32, "group norm" + order);
      }
    }
    for (const auto& [c, height] : layers()) {
      check({8, c, height * height, layout}, c, "instance norm" + order);
    }
  }
}

// Tokens and features of ViT-B, ConvNeXt-T and a Llama of a billion parameters, and rows that are
// few and long: LayerNorm over whole images.
TEST(Shares, LayerNormAndRMSNorm) {
  std::vector<std::array<std::int64_t, 2>> shapes = {
      {512, 2048}, {4096, 2048}, {16, 100352}, {8, 802816}, {1, 1600000}};
  for (const std::int64_t images : {8, 32}) {
    shapes.push_back({images * 197, 768});
    for (const auto& [height, features] :
         std::vector<std::array<std::int64_t, 2>>{{56, 96}, {28, 192}, {14, 384}, {7, 768}}) {
      shapes.push_back({images * height * height, features});
    }
  }
  for (const auto& [samples, features] : shapes) {
    const Shape shape{samples, features};
    Tensors t(shape);
    const auto size = Tensors::size(samples);
    const auto mean = std::span(t.mean).first(size), rstd = std::span(t.rstd).first(size);
    expect_shares("layer norm forward", shape, [&] {
      layer_norm_forward<float>({.x = t.x.input(shape),
                                 .weight = t.features(),
                                 .mean = mean,
                                 .rstd = rstd,
                                 .y = t.out.view(shape)});
    });
    expect_shares(
        "layer norm backward", shape,
        [&] {
          layer_norm_backward<float>({.dy = t.dy.input(shape),
                                      .x = t.x.input(shape),
                                      .weight = t.features(),
                                      .mean = mean,
                                      .rstd = rstd,
                                      .dx = t.out.view(shape),
                                      .dweight = t.dweight,
                                      .dbias = t.dbias});
        },
        Tasks::of_64);
    expect_shares("rms norm forward", shape, [&] {
      rms_norm_forward<float>({.x = t.x.input(shape), .y = t.out.view(shape)});
    });
    expect_shares(
        "rms norm backward", shape,
        [&] {
          rms_norm_backward<float>({.dy = t.dy.input(shape),
                                    .x = t.x.input(shape),
                                    .weight = t.features(),
                                    .rstd = rstd,
                                    .dx = t.out.view(shape),
                                    .dweight = t.dweight});
        },
        Tasks::of_64);
  }
}

// The layers of AlexNet and of GoogLeNet.
TEST(Shares, LocalResponseNorm) {
  for (const auto& [c, height] :
       std::vector<std::array<std::int64_t, 2>>{{96, 55}, {256, 27}, {64, 56}, {192, 56}}) {
    for (const Layout layout : {Layout::channels_first, Layout::channels_last}) {
      for (const std::int64_t n : {8, 32}) {
        const Shape shape{n, c, height * height, layout};
        const Tensors t(shape);
        const std::string order = layout == Layout::channels_last ? " channels-last" : "";
        expect_shares("lrn forward" + order, shape, [&] {
          local_response_norm_forward<float>({.x = t.x.input(shape), .y = t.out.view(shape)});
        });
        expect_shares("lrn backward" + order, shape, [&] {
          local_response_norm_backward<float>(
              {.dy = t.dy.input(shape), .x = t.x.input(shape), .dx = t.out.view(shape)});
        });
      }
    }
  }
}

}  // namespace
}  // namespace evenkeel::testing
