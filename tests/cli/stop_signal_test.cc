// Signals, each in a process of its own: gtest's EXPECT_EXIT.
#include "cli/stop_signal.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

namespace evenkeel::cli {
namespace {

// The exit code is whether the flag was set.
[[noreturn]] void exit_with_flag() { std::exit(StopSignal::requested() ? 0 : 1); }

TEST(StopSignal, TheFirstSetsTheFlag) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    EXPECT_EXIT(
        {
          std::signal(signal, SIG_DFL);
          const StopSignal stop_signal;
          if (StopSignal::requested()) std::exit(2);
          std::raise(signal);
          exit_with_flag();
        },
        testing::ExitedWithCode(0), "");
  }
}

TEST(StopSignal, TheSecondEndsTheProgramWhicheverItIs) {
  for (const int second : {SIGINT, SIGTERM, SIGHUP}) {
    EXPECT_EXIT(
        {
          for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);
          const StopSignal stop_signal;
          std::raise(SIGINT);
          std::raise(second);
        },
        testing::KilledBySignal(second), "");
  }
}

TEST(StopSignal, WhatTheShellIgnoresStaysIgnored) {
  EXPECT_EXIT(
      {
        std::signal(SIGINT, SIG_DFL);
        std::signal(SIGHUP, SIG_IGN);
        const StopSignal stop_signal;
        std::raise(SIGHUP);
        if (StopSignal::requested()) std::exit(2);
        std::raise(SIGINT);
        std::raise(SIGHUP);
        exit_with_flag();
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace evenkeel::cli
