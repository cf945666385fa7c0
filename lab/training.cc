#include "lab/training.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "evenkeel/error.h"

namespace evenkeel::lab {
namespace {

constexpr std::array<std::string_view, 5> status_names = {"not started", "done", "diverged",
                                                          "interrupted", "failed"};

}  // namespace

std::string_view name_of(Status status) {
  return status_names.at(static_cast<std::size_t>(status));
}

Status status_of(std::string_view name) {
  const auto* const found = std::ranges::find(status_names, name);
  if (found == status_names.end()) throw Error(fmt::format("unknown status '{}'", name));
  return static_cast<Status>(found - status_names.begin());
}

// The weights are drawn from a generator with the seed itself; this one must not repeat them.
Batches::Batches(const Split& data, std::int64_t batch_size, std::uint64_t seed)
    : data_(data),
      batch_size_(batch_size),
      generator_(at::make_generator<at::CPUGeneratorImpl>(~seed)) {
  if (batch_size < 1 || batch_size > data.size()) {
    throw Error(fmt::format("a batch has {} images, expected 1 to {}, all training images",
                            batch_size, data.size()));
  }
}

Split Batches::next() {
  if (!order_.defined() || next_ + batch_size_ > data_.size()) {
    order_ = torch::randperm(data_.size(), generator_, torch::kInt64);
    next_ = 0;
  }
  const auto rows = order_.narrow(0, next_, batch_size_);
  next_ += batch_size_;
  return {data_.images.index_select(0, rows), data_.labels.index_select(0, rows)};
}

TrainingEnd train(Network& network, const Split& data, const Training& training, std::uint64_t seed,
                  const std::atomic<bool>& stop, const OnTrained& on_step) {
  using Clock = std::chrono::steady_clock;
  Batches batches(data, training.batch_size, seed);
  torch::optim::SGD optimizer(network.parameters(), torch::optim::SGDOptions(training.lr));
  network.train();
  TrainingEnd end;
  for (std::int64_t step = 1; step <= training.steps; ++step) {
    if (stop) return end;
    const auto start = Clock::now();
    const Split batch = batches.next();
    optimizer.zero_grad();
    auto loss = torch::cross_entropy_loss(network.forward(batch.images), batch.labels);
    const double value = loss.item<double>();
    if (!std::isfinite(value)) {
      end.status = Status::diverged;
      end.diverged_at_step = step;
      return end;
    }
    loss.backward();
    optimizer.step();
    end.seconds += std::chrono::duration<double>(Clock::now() - start).count();
    end.steps = step;
    on_step(step, value, end.seconds);
  }
  end.status = Status::done;
  return end;
}

bool due(std::int64_t step, std::int64_t points, std::int64_t steps) {
  return step == 0 ? points > 0 : step * points / steps != (step - 1) * points / steps;
}

}  // namespace evenkeel::lab
