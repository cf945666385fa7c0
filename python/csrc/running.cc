#include "python/csrc/running.h"

#include <array>

namespace evenkeel::python {
namespace {

// The address of a counter, nullptr if it is absent.
std::int64_t* counter(std::string_view op, std::string_view argument, const Optional& tensor) {
  if (!tensor) return nullptr;
  if (tensor->scalar_type() != ScalarType::Long || tensor->numel() != 1) {
    throw Error(std::string(op) + ": " + std::string(argument) + " has " +
                std::to_string(tensor->numel()) + " values of dtype " +
                torch::headeronly::toString(tensor->scalar_type()) + ", expected 1 of Long");
  }
  return static_cast<std::int64_t*>(tensor->data_ptr());
}

void copy_back(Optional& tensor, const Optional& moved) {
  if (tensor && tensor->data_ptr() != moved->data_ptr()) torch::stable::copy_(*tensor, *moved);
}

}  // namespace

Running::Running(std::string_view op, const Tensor& x, const Optional& mean, const Optional& var,
                 const Optional& batches, const Optional& skipped)
    : mean_(mean),
      var_(var),
      batches_(counter(op, "num_batches_tracked", batches)),
      skipped_(counter(op, "skipped_batches", skipped)) {
  const std::array<std::int64_t, 1> channels = {x.size(1)};
  check_parameter(op, "running_mean", mean, x, channels);
  check_parameter(op, "running_var", var, x, channels);
  moved_mean_ = converted(mean, wide_dtype(x));
  moved_var_ = converted(var, wide_dtype(x));
}

void Running::write_back() {
  copy_back(mean_, moved_mean_);
  copy_back(var_, moved_var_);
}

}  // namespace evenkeel::python
