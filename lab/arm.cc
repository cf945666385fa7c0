#include "lab/arm.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace evenkeel::lab {
namespace {

// The batches of all epochs.
class Batches {
 public:
  // The weights are drawn from a generator with the seed itself; this one must not repeat them.
  Batches(const Split& data, std::int64_t batch_size, std::uint64_t seed)
      : data_(data),
        batch_size_(batch_size),
        generator_(at::make_generator<at::CPUGeneratorImpl>(~seed)) {}

  Split next() {
    if (!order_.defined() || next_ + batch_size_ > data_.size()) {
      order_ = torch::randperm(data_.size(), generator_, torch::kInt64);
      next_ = 0;
    }
    const auto rows = order_.narrow(0, next_, batch_size_);
    next_ += batch_size_;
    return {data_.images.index_select(0, rows), data_.labels.index_select(0, rows)};
  }

 private:
  const Split& data_;
  std::int64_t batch_size_;
  at::Generator generator_;
  torch::Tensor order_;
  std::int64_t next_ = 0;
};

// Whether one of `points` equal parts of the training ends with this step.
bool due(std::int64_t step, std::int64_t points, std::int64_t steps) {
  return step == 0 ? points > 0 : step * points / steps != (step - 1) * points / steps;
}

// Everything that is recorded between steps, outside the clock.
class Recorder {
 public:
  Recorder(Network& network, const ArmConfig& config, const Dataset& data, ArmResult& result)
      : network_(network),
        config_(config),
        data_(data),
        result_(result),
        activation_(network_plan(config.network).activation),
        batch_norm_(norm_of(config.norm) == Norm::batch),
        population_(
            data.train.images.narrow(0, 0, std::min(config.exact_images, data.train.size()))),
        probe_batch_(data.held_out.narrow(0, std::min(probe_images, data.held_out.size()))) {}

  void add_loss(double loss) {
    loss_sum_ += loss;
    ++loss_count_;
  }

  void record(std::int64_t step) {
    const auto now = [&](std::int64_t points) { return due(step, points, config_.training.steps); };
    const Points& points = config_.points;
    if (step > 0 && now(points.train)) flush_loss();
    if (now(points.eval)) {
      result_.eval.push_back({step, result_.seconds, score(network_, data_.held_out)});
    }
    if (now(points.probe)) {
      result_.probe.push_back({step, probe(network_, activation_, probe_batch_)});
    }
    if (batch_norm_ && now(points.batch_norm)) {
      result_.batch_norm_eval.push_back({step, batch_norm_scores(data_.held_out)});
    }
  }

  // The mean loss of the steps since the last one recorded, if there are any.
  void flush_loss() {
    if (loss_count_ == 0) return;
    result_.train.push_back(
        {result_.steps, result_.seconds, loss_sum_ / static_cast<double>(loss_count_)});
    loss_sum_ = 0;
    loss_count_ = 0;
  }

  void record_test() {
    result_.test = score(network_, data_.test);
    if (batch_norm_) result_.batch_norm_test = batch_norm_scores(data_.test);
  }

 private:
  // Enough for percentiles of a layer of 100 units to be smooth, few enough for 25 of them.
  static constexpr std::int64_t probe_images = 100;

  BatchNormAccuracy batch_norm_scores(const Split& split) {
    return batch_norm_accuracy(network_, split, population_, config_.training.batch_size);
  }

  Network& network_;
  const ArmConfig& config_;
  const Dataset& data_;
  ArmResult& result_;
  Activation activation_;
  bool batch_norm_;
  torch::Tensor population_;
  Split probe_batch_;
  double loss_sum_ = 0;
  std::int64_t loss_count_ = 0;
};

void diverge(ArmResult& result, std::int64_t step) {
  result.status = Status::diverged;
  result.diverged_at_step = step;
  result.test.reset();
  result.batch_norm_test.reset();
}

}  // namespace

void train_arm(Network& network, const ArmConfig& config, const Dataset& data,
               const std::atomic<bool>& stop, const OnStep& on_step, ArmResult& result) {
  using Clock = std::chrono::steady_clock;
  Batches batches(data.train, config.training.batch_size, config.seed);
  Recorder recorder(network, config, data, result);
  torch::optim::SGD optimizer(network.parameters(), torch::optim::SGDOptions(config.training.lr));

  // The status until one of the ends below is reached.
  result.status = Status::interrupted;
  result.parameters = network.parameter_count();
  network.train();
  recorder.record(0);
  for (std::int64_t step = 1; step <= config.training.steps; ++step) {
    if (stop) {
      recorder.flush_loss();
      return;
    }
    const auto start = Clock::now();
    const Split batch = batches.next();
    optimizer.zero_grad();
    auto loss = torch::cross_entropy_loss(network.forward(batch.images), batch.labels);
    const double value = loss.item<double>();
    if (!std::isfinite(value)) {
      recorder.flush_loss();
      diverge(result, step);
      return;
    }
    loss.backward();
    optimizer.step();
    result.seconds += std::chrono::duration<double>(Clock::now() - start).count();
    result.steps = step;
    on_step(step, value);
    recorder.add_loss(value);
    recorder.record(step);
  }
  recorder.record_test();
  // The last step's update is judged by no training loss.
  if (!std::isfinite(result.test->loss)) {
    diverge(result, result.steps);
  } else {
    result.status = Status::done;
  }
}

}  // namespace evenkeel::lab
