#include "lab/networks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "lab/dataset.h"
#include "lab/measure.h"
#include "tests/lab/idx_files.h"

namespace evenkeel::lab {
namespace {

std::shared_ptr<Network> make(const std::string& network, const std::string& norm,
                              std::uint64_t seed = 1) {
  return std::make_shared<Network>(network_plan(network), norm_of(norm), 12, 12, seed);
}

class EveryNetwork : public testing::TestWithParam<std::string> {};

TEST_P(EveryNetwork, StartsWithTheSameWeightsWhateverItsNorm) {
  const auto plain = make(GetParam(), "none");
  for (const auto& norm : norm_names()) {
    const auto other = make(GetParam(), norm);
    for (const auto& parameter : plain->named_parameters()) {
      EXPECT_TRUE(parameter.value().equal(other->named_parameters()[parameter.key()]))
          << norm << " " << parameter.key();
    }
  }
}

TEST_P(EveryNetwork, StartsWithOtherWeightsFromAnotherSeed) {
  const auto a = make(GetParam(), "none", 1)->hidden_weights();
  const auto b = make(GetParam(), "none", 2)->hidden_weights();
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_FALSE(a[i].equal(b[i]));
}

TEST_P(EveryNetwork, GivesLogitsAndEachActivationsInputs) {
  const auto& plan = network_plan(GetParam());
  for (const auto& norm : norm_names()) {
    const auto network = make(GetParam(), norm);
    std::vector<torch::Tensor> inputs;
    const auto logits = network->forward(torch::ones({3, 1, 12, 12}), &inputs);
    EXPECT_EQ(logits.sizes(), torch::IntArrayRef({3, classes}));
    ASSERT_EQ(inputs.size(), plan.layers.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_EQ(inputs[i].size(0), 3);
      EXPECT_EQ(inputs[i].size(1), plan.layers[i].width);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryNetwork, testing::ValuesIn(network_names()),
                         [](const auto& test) { return test.param; });

TEST(Networks, InitialWeightsHaveTheirStandardDeviation) {
  // 100 x 784 draws: the standard error of their standard deviation is 1 / sqrt(2 * 78400) of it;
  // 4 standard errors are 1%.
  const Network mlp(network_plan("mlp"), no_norm(), 28, 28, 1);
  EXPECT_NEAR(mlp.hidden_weights()[0].std().item<double>(), 0.01, 0.01 * 0.01);
  // 64 x 1568 draws, fan in 1568.
  const Network cnn(network_plan("cnn"), no_norm(), 28, 28, 1);
  const double he = std::sqrt(2.0 / 1568);
  EXPECT_NEAR(cnn.hidden_weights()[2].std().item<double>(), he, he * 0.01);
}

// 784-100-100-100-10 and the parameters that each norm adds to it.
TEST(Networks, CountsParameters) {
  const auto count = [](const Normalization& norm) {
    return Network(network_plan("mlp"), norm, 28, 28, 1).parameter_count();
  };
  constexpr std::int64_t plain = 784 * 100 + 100 + 2 * (100 * 100 + 100) + 100 * 10 + 10;
  EXPECT_EQ(count(no_norm()), plain);
  EXPECT_EQ(count(batch_norm()), plain + 3 * 200);
  EXPECT_EQ(count(layer_norm()), plain + 3 * 200);
  EXPECT_EQ(count(group_norm()), plain + 3 * 200);
  EXPECT_EQ(count(rms_norm()), plain + 3 * 100);  // no bias
  EXPECT_EQ(count(instance_norm()), plain);       // no convolution
  EXPECT_EQ(count(norm_of("lrn")), plain);
}

TEST(Networks, NormsNormalizeTheActivationsInputs) {
  const auto images = torch::randn({50, 1, 12, 12}, at::make_generator<at::CPUGeneratorImpl>(3));
  std::vector<torch::Tensor> inputs;
  make("cnn", "batch")->forward(images, &inputs);
  // eps = 1e-5 beside variances of about 2, and rounding, stay far below 1e-3.
  EXPECT_LT(inputs[0].mean({0, 2, 3}).abs().max().item<double>(), 1e-3);
  EXPECT_LT((inputs[0].var({0, 2, 3}, false) - 1).abs().max().item<double>(), 1e-3);
  // One row for each group of the values of `x` that belong together.
  const auto expect_normalized = [](const torch::Tensor& rows) {
    EXPECT_LT(rows.mean(1).abs().max().item<double>(), 1e-3);
    EXPECT_LT((rows.var(1, false) - 1).abs().max().item<double>(), 1e-3);
  };
  const auto inputs_with = [&](const std::string& norm) {
    inputs.clear();
    make("cnn", norm)->forward(images, &inputs);
    return inputs;
  };
  expect_normalized(inputs_with("layer")[1].flatten(1));
  const auto grouped = inputs_with("group");
  expect_normalized(grouped[0].reshape({50 * 4, -1}));
  expect_normalized(grouped[2].reshape({50 * 4, -1}));  // of the dense layer, 16 units each
  expect_normalized(inputs_with("instance")[1].flatten(0, 1).flatten(1));
  const auto mean_square = inputs_with("rms")[1].flatten(1).square().mean(1);
  EXPECT_LT((mean_square - 1).abs().max().item<double>(), 1e-3);
}

TEST(Networks, InstanceNormStandsOnConvolutionsAlone) {
  const auto images = torch::randn({5, 1, 12, 12}, at::make_generator<at::CPUGeneratorImpl>(3));
  EXPECT_TRUE(make("mlp", "instance")->forward(images).equal(make("mlp", "none")->forward(images)));
  EXPECT_FALSE(
      make("cnn", "instance")->forward(images).equal(make("cnn", "none")->forward(images)));
}

TEST(Networks, RefusesUnknownNamesAndSmallImages) {
  EXPECT_THAT(error_of([] { norm_of("spectral"); }),
              testing::HasSubstr("none, batch, layer, group, instance, rms, lrn"));
  EXPECT_THAT(error_of([] { network_plan("resnet"); }), testing::HasSubstr("mlp, cnn"));
  EXPECT_THAT(
      error_of([] { Network(network_plan("cnn"), no_norm(), 3, 28, 1); }),
      testing::HasSubstr("images of 3 x 28 are too small for its pooling, expected at least 4"));
}

// By hand: an untrained network whose output weights are 0 gives every class 1/10.
TEST(Measure, ScoresByLossAndAccuracy) {
  const auto network = make("mlp", "none");
  torch::NoGradGuard no_grad;
  network->named_parameters()["output_weight"].zero_();
  Split split{torch::zeros({250, 1, 12, 12}), torch::zeros({250}, torch::kInt64)};
  split.labels.narrow(0, 0, 60).fill_(3);
  EXPECT_NEAR(score(*network, split).loss, std::log(10), 1e-6);
  network->named_parameters()["output_bias"][3] = 1;
  EXPECT_EQ(score(*network, split).accuracy, 60.0 / 250);
}

// With zero weights the bias alone is every activation's input.
TEST(Measure, ProbesWhatTheActivationGets) {
  const auto network = make("mlp", "none");
  {
    torch::NoGradGuard no_grad;
    auto parameters = network->named_parameters();
    parameters["hidden1_weight"].zero_();
    // Of 100 units 10 at -4, 30 at -1, 40 at 0, 20 at 3: sigmoid(-4) = 0.018 and sigmoid(3) = 0.953
    // are saturated; the values of rank 15, 50 and 85 are -1, 0 and 3.
    auto& bias = parameters["hidden1_bias"];
    bias.narrow(0, 0, 10).fill_(-4);
    bias.narrow(0, 10, 30).fill_(-1);
    bias.narrow(0, 80, 20).fill_(3);
  }
  const Split batch{torch::ones({8, 1, 12, 12}), torch::zeros({8}, torch::kInt64)};
  const Probe result = probe(*network, Activation::sigmoid, batch);
  EXPECT_EQ(result.bands[0], (std::array<double, 3>{-1, 0, 3}));
  EXPECT_DOUBLE_EQ(result.saturated[0], 0.3);

  const auto loss = torch::cross_entropy_loss(network->forward(batch.images), batch.labels);
  loss.backward();
  const auto weights = network->hidden_weights();
  for (std::size_t l = 0; l < weights.size(); ++l) {
    EXPECT_FLOAT_EQ(static_cast<float>(result.gradient_norm[l]),
                    weights[l].grad().norm().item<float>());
  }
}

}  // namespace
}  // namespace evenkeel::lab
