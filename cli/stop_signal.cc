#include "cli/stop_signal.h"

#include <cstddef>

namespace evenkeel::cli {
namespace {

std::atomic<bool> requested_flag = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may set only such a flag");

void request_stop(int) { requested_flag = true; }

}  // namespace

StopSignal::StopSignal() {
  requested_flag = false;
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  for (std::size_t i = 0; i < signals.size(); ++i) {
    ::sigaction(signals[i], nullptr, &old_[i]);
    if (old_[i].sa_handler != SIG_IGN) ::sigaction(signals[i], &action, nullptr);
  }
}

StopSignal::~StopSignal() {
  for (std::size_t i = 0; i < signals.size(); ++i) {
    ::sigaction(signals[i], &old_[i], nullptr);
  }
}

const std::atomic<bool>& StopSignal::flag() { return requested_flag; }

}  // namespace evenkeel::cli
