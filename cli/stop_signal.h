// Ctrl-C and its relatives as a flag that long work looks at.
#pragma once

#include <array>
#include <atomic>
#include <csignal>

namespace evenkeel::cli {

// While one of these lives, the first SIGINT, SIGTERM or SIGHUP sets the flag; a second one, the
// same or another, ends the program at once. A signal that the caller's shell ignores (nohup) stays
// ignored. One at a time.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  static const std::atomic<bool>& flag();
  static bool requested() { return flag(); }

 private:
  static constexpr std::array signals = {SIGINT, SIGTERM, SIGHUP};
  static void request(int signal);

  std::array<struct sigaction, signals.size()> old_ = {};
};

}  // namespace evenkeel::cli
