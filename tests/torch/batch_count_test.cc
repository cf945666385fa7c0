// num_batches_tracked, which Module::to(dtype) converts as it does all tensors: a count beyond the
// numbers of its type, or none at all.
#include <limits>

#include "evenkeel/torch.h"
#include "tests/torch/testing.h"

namespace evenkeel::nn::testing {
namespace {

torch::Tensor input() { return random({4, 3, 5}, torch::kFloat32); }

torch::nn::BatchNormOptions options(bool cumulative) {
  auto options = torch::nn::BatchNormOptions(3);
  return cumulative ? options.momentum(torch::nullopt) : options;
}

void expect_same_buffers(const torch::nn::Module& ours, const torch::nn::Module& theirs) {
  const auto b_ours = ours.named_buffers(), b_theirs = theirs.named_buffers();
  ASSERT_EQ(b_ours.keys(), b_theirs.keys());
  for (const auto& buffer : b_theirs) {
    const auto &actual = b_ours[buffer.key()], &expected = buffer.value();
    EXPECT_EQ(actual.scalar_type(), expected.scalar_type()) << buffer.key();
    EXPECT_TRUE(torch::allclose(actual.to(torch::kFloat64), expected.to(torch::kFloat64),
                                tolerance(torch::kFloat32), 0, /*equal_nan=*/true))
        << buffer.key() << ": " << actual << ", expected " << expected;
  }
}

// The recipe for 16 bits makes an infinite count of 65520 batches; a moving average goes on.
TEST(TorchBatchCount, AMovingAverageGoesOnWhateverTheCount) {
  for (const double count : {0.0, 3001.0, 65519.0, 65520.0, 1e6, 16777216.0, -1.0}) {
    for (const auto dtype : {torch::kFloat16, torch::kBFloat16, torch::kFloat32, torch::kInt64}) {
      SCOPED_TRACE(c10::str(count, " in ", dtype));
      BatchNorm1d ours(3);
      torch::nn::BatchNorm1d theirs(3);
      for (torch::nn::Module* layer : {static_cast<torch::nn::Module*>(ours.get()),
                                       static_cast<torch::nn::Module*>(theirs.get())}) {
        layer->named_buffers()["num_batches_tracked"].fill_(count);
        if (dtype == torch::kInt64) continue;  // as it was
        layer->to(dtype);
        layer->to(torch::kFloat32);
      }
      ours->forward(input());
      theirs->forward(input());
      expect_same_buffers(*ours, *theirs);
    }
  }
}

TEST(TorchBatchCount, AnInfiniteCountStaysSo) {
  BatchNorm1d layer(3);
  layer->num_batches_tracked.fill_(65520);
  layer->to(torch::kFloat16);
  layer->to(torch::kFloat32);
  layer->forward(input());
  EXPECT_EQ(layer->num_batches_tracked.item<double>(), std::numeric_limits<double>::infinity());
  EXPECT_GT(layer->running_mean.abs().sum().item<double>(), 0);
}

TEST(TorchBatchCount, ACumulativeAverageCountsOn) {
  for (const auto dtype : {torch::kInt64, torch::kFloat32, torch::kFloat64, torch::kFloat16}) {
    SCOPED_TRACE(dtype);
    BatchNorm1d ours(options(true));
    torch::nn::BatchNorm1d theirs(options(true));
    ours->num_batches_tracked.set_data(torch::full({}, 4, dtype));
    theirs->num_batches_tracked.set_data(torch::full({}, 4, dtype));
    ours->forward(input());
    theirs->forward(input());
    EXPECT_EQ(ours->num_batches_tracked.item<double>(), 5);
    expect_same_buffers(*ours, *theirs);
  }
}

TEST(TorchBatchCount, ACumulativeAverageOfNoCountIsRefused) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto refused = [](const torch::Tensor& count, const std::string& value) {
    BatchNorm1d layer(options(true));
    layer->num_batches_tracked.set_data(count);
    expect_error([&] { layer->forward(input()); },
                 {"batch_norm: the number of batches is " + value, "expected a count",
                  "num_batches_tracked.fill_(count)", "reset_running_stats()"});
    EXPECT_TRUE(torch::equal(layer->running_mean, torch::zeros({3})));
    layer->reset_running_stats();
    EXPECT_NO_THROW(layer->forward(input()));
  };
  refused(torch::full({}, infinity, torch::kFloat32), "inf");
  refused(torch::full({}, infinity, torch::kFloat16), "inf");
  refused(torch::full({}, NAN, torch::kFloat64), "nan");
  refused(torch::full({}, -1, torch::kInt64), "-1");
  refused(torch::full({}, -0.5, torch::kFloat32), "-0.5");
  refused(torch::full({}, 1e30, torch::kFloat64), "1e+30");
  refused(torch::full({}, std::numeric_limits<std::int64_t>::max(), torch::kInt64), "9.22337e+18");

  // Without one there is nothing to refuse but the average itself.
  const RunningTensors running{torch::zeros({3}), torch::ones({3}), {}};
  expect_error(
      [&] {
        batch_norm(input(), {}, {}, running, Statistics::batch,
                   {.update = RunningUpdate::cumulative()});
      },
      {"batch_norm: the average of all batches needs their number", "undefined"});
  EXPECT_NO_THROW(batch_norm(input(), {}, {}, running, Statistics::batch,
                             {.update = RunningUpdate::moving_average(0.1)}));
}

TEST(TorchBatchCount, OfInstanceNormsAndGivenStatisticsToo) {
  RunningTensors running{torch::zeros({3}), torch::ones({3}), torch::full({}, -2)};
  const auto cumulative = RunningUpdate::cumulative(), moving = RunningUpdate::moving_average(0.1);
  expect_error(
      [&] {
        nn::instance_norm(input(), {}, {}, running, Statistics::batch, {.update = cumulative});
      },
      {"instance_norm: the number of batches is -2"});
  expect_error(
      [&] { batch_norm(input(), {}, {}, running, Statistics::given, {.update = cumulative}); },
      {"batch_norm: the number of batches is -2"});
  nn::instance_norm(input(), {}, {}, running, Statistics::batch, {.update = moving});
  EXPECT_EQ(running.batches.item<double>(), -1);
  batch_norm(input(), {}, {}, running, Statistics::given, {.update = moving});
  EXPECT_EQ(running.batches.item<double>(), 0);
}

TEST(TorchBatchCount, ABatchThatIsSkippedIsNotCounted) {
  BatchNorm1d layer(3);
  auto x = input();
  x[0][0][0] = NAN;
  layer->forward(x);
  EXPECT_EQ(layer->num_batches_tracked.item<std::int64_t>(), 0);
  EXPECT_EQ(layer->skipped_batches, 1);
}

}  // namespace
}  // namespace evenkeel::nn::testing
