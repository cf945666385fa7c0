#include "cli/stop_signal.h"

#include <cstddef>

namespace evenkeel::cli {
namespace {

std::atomic<bool> requested_flag = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may set only such a flag");

}  // namespace

// Calls only what POSIX allows in a handler.
void StopSignal::request(int) {
  requested_flag = true;
  for (const int signal : signals) {
    struct sigaction current {};
    ::sigaction(signal, nullptr, &current);
    if (current.sa_handler == request) std::signal(signal, SIG_DFL);
  }
}

StopSignal::StopSignal() {
  requested_flag = false;
  struct sigaction action {};
  action.sa_handler = request;
  action.sa_flags = SA_RESTART;
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
