// A small network of all three layers learns.
#include "evenkeel/torch.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

TEST(TorchTraining, ASmallNetworkLearnsInBothLayouts) {
  for (const auto format : {torch::MemoryFormat::Contiguous, torch::MemoryFormat::ChannelsLast}) {
    torch::manual_seed(1);
    torch::nn::Sequential net(
        torch::nn::Conv2d(torch::nn::Conv2dOptions(2, 6, 3).bias(false)), BatchNorm2d(6),
        torch::nn::ReLU(), LocalResponseNorm(5), torch::nn::Flatten(), torch::nn::Linear(96, 16),
        LayerNorm(std::vector<std::int64_t>{16}), torch::nn::ReLU(), torch::nn::Linear(16, 2));
    // Two classes: which of the two input channels is larger on average.
    const auto x = random({64, 2, 6, 6}, torch::kFloat32).contiguous(format);
    const auto means = x.mean({2, 3});
    const auto labels = means.select(1, 0).gt(means.select(1, 1)).to(torch::kInt64);
    torch::optim::SGD sgd(net->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
    double first = 0, last = 0;
    for (int step = 0; step < 60; ++step) {
      sgd.zero_grad();
      const auto loss = torch::cross_entropy_loss(net->forward(x), labels);
      loss.backward();
      sgd.step();
      last = loss.item<double>();
      if (step == 0) first = last;
    }
    // Chance is ln 2 = 0.69; 64 samples are few enough to be learned almost by heart.
    EXPECT_GT(first, 0.3);
    EXPECT_LT(last, first / 4);
  }
}

}  // namespace
}  // namespace evenkeel::nn::testing
