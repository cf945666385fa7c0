// Times several contestants against each other.
#pragma once

#include <csignal>
#include <map>
#include <string>
#include <vector>

#include "bench/contestant.h"

namespace evenkeel::bench {

struct Timing {
  double seconds = 0;  // of one run: the median of the rounds, or their least if Effort::best
  double median = 0, min = 0, max = 0;
};

struct Effort {
  double case_seconds =
      0.7;  // for all contestants of a case together; exceeded if few_rounds ask it
  int few_rounds = 5;
  int many_rounds = 15;
  bool best = false;  // for a machine that others use too, whose medians are theirs
};

// Once, before any measure().
void prepare_measuring();

// In a round a contestant runs for at least a millisecond after one run outside the clock. The
// rounds of all contestants are in random order, so that a slow spell of the machine meets all of
// them. Returns what was timed: nothing once `stop` is set.
std::map<std::string, Timing> measure(const std::vector<Contestant>& contestants,
                                      const Effort& effort, const volatile std::sig_atomic_t& stop);

}  // namespace evenkeel::bench
