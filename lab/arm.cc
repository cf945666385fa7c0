#include "lab/arm.h"

#include <algorithm>
#include <cmath>

#include "lab/training.h"

namespace evenkeel::lab {
namespace {

// Everything that is recorded between steps, outside the clock.
class Recorder {
 public:
  Recorder(Network& network, const ArmConfig& config, const Dataset& data, ArmResult& result)
      : network_(network),
        config_(config),
        data_(data),
        result_(result),
        activation_(network_plan(config.network).activation),
        batch_norm_(config.norm == "batch"),
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
  Recorder recorder(network, config, data, result);
  // The status until one of the ends below is reached.
  result.status = Status::interrupted;
  result.parameters = network.parameter_count();
  recorder.record(0);
  const TrainingEnd end = train(network, data.train, config.training, config.seed, stop,
                                [&](std::int64_t step, double loss, double seconds) {
                                  result.steps = step;
                                  result.seconds = seconds;
                                  on_step(step, loss);
                                  recorder.add_loss(loss);
                                  recorder.record(step);
                                });
  if (end.status != Status::done) recorder.flush_loss();
  if (end.status == Status::diverged) diverge(result, *end.diverged_at_step);
  if (end.status != Status::done) return;
  recorder.record_test();
  // The last step's update is judged by no training loss.
  if (!std::isfinite(result.test->loss)) {
    diverge(result, result.steps);
  } else {
    result.status = Status::done;
  }
}

}  // namespace evenkeel::lab
