#include "lab/train_trial.h"

#include <algorithm>
#include <cmath>

#include "lab/measure.h"

namespace evenkeel::lab {
namespace {

// Everything that a trial records on its way.
class TrialRecorder {
 public:
  TrialRecorder(const TrialPlan& plan, const Trial& trial, const Context& context, Network& network,
                Measured& measured)
      : plan_(plan), trial_(trial), context_(context), network_(network), measured_(measured) {}

  void record(std::int64_t step, double seconds) {
    const auto now = [&](std::int64_t points) { return due(step, points, trial_.arm.steps); };
    const auto at = static_cast<double>(step);
    if (now(plan_.eval_points)) {
      const Score held_out = score(network_, context_.data.held_out);
      measured_.curves["held_out_accuracy"].add(at, held_out.accuracy);
      measured_.curves["held_out_loss"].add(at, held_out.loss);
    }
    if (now(plan_.probe_points) && plan_.probe) plan_.probe(network_, step, seconds, measured_);
  }

  void add_loss(std::int64_t step, double loss) {
    loss_sum_ += loss;
    ++loss_count_;
    if (!due(step, plan_.loss_points, trial_.arm.steps)) return;
    measured_.curves["loss"].add(static_cast<double>(step),
                                 loss_sum_ / static_cast<double>(loss_count_));
    loss_sum_ = 0;
    loss_count_ = 0;
  }

 private:
  const TrialPlan& plan_;
  const Trial& trial_;
  const Context& context_;
  Network& network_;
  Measured& measured_;
  double loss_sum_ = 0;
  std::int64_t loss_count_ = 0;
};

}  // namespace

Measured train_trial(const TrialPlan& plan, const Trial& trial, const Context& context) {
  const Dataset& data = context.data;
  const auto network =
      std::make_shared<Network>(plan.network, plan.norm, data.rows(), data.cols(), trial.seed);
  if (plan.prepare) plan.prepare(*network);
  Measured measured;
  TrialRecorder recorder(plan, trial, context, *network, measured);
  recorder.record(0, 0);
  const TrainingEnd end = train(*network, data.train, trial.training(plan.batch_size), trial.seed,
                                context.stop, [&](std::int64_t step, double loss, double seconds) {
                                  context.on_step(step);
                                  recorder.add_loss(step, loss);
                                  recorder.record(step, seconds);
                                });
  measured.status = end.status;
  measured.diverged_at_step = end.diverged_at_step;
  measured.values["train_seconds"] = end.seconds;
  if (end.status != Status::done) return measured;

  const Score held_out = score(*network, data.held_out);
  // The last step's update is judged by no training loss.
  if (!std::isfinite(held_out.loss)) {
    measured.status = Status::diverged;
    measured.diverged_at_step = end.steps;
    return measured;
  }
  measured.values["held_out_accuracy"] = held_out.accuracy;
  measured.values["held_out_loss"] = held_out.loss;
  if (trial.tuning) return measured;
  if (plan.finish) plan.finish(*network, measured);
  if (!plan.test) return measured;
  const Score test = score(*network, data.test);
  measured.values["test_accuracy"] = test.accuracy;
  measured.values["test_loss"] = test.loss;
  return measured;
}

}  // namespace evenkeel::lab
