// One way to compute a case.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/problem.h"

namespace evenkeel::bench {

struct Contestant {
  std::string name;
  // Computes the case once. Everything that can be prepared has been.
  std::function<void()> run;
  // What run computed, in the order of the layout of the case: y; or dx, dweight, dbias; then the
  // second output if the case has one. Empty for the streaming kernels.
  std::function<std::vector<std::vector<float>>()> outputs = {};
  // It sums dweight and dbias over the rows in 16 bits. Sums of many rows stop growing early, so
  // only their sign can be compared.
  bool parameter_gradients_in_16_bits = false;
};

// They use the problem's memory, so it must outlive them. A peer that cannot do the case throws,
// when it is made or when it first runs.
Contestant evenkeel_contestant(Problem& problem);
Contestant unfused_contestant(Problem& problem);         // evenkeel, each step in its own pass
Contestant onednn_contestant(Problem& problem);          // the layout of the case
Contestant onednn_blocked_contestant(Problem& problem);  // nChw16c, oneDNN's own
Contestant torch_contestant(Problem& problem);

// A copy, for operations of two streams, or the sum of two tensors, for those of more; with plain
// and with non-temporal stores. The limit is the better of the two.
std::vector<Contestant> streaming_contestants(Problem& problem, int streams);
// The least that a normalization with two passes can be, in its order, with and without
// prefetching. None for cases whose minimal loop is a copy, or whose runs are not whole lines.
std::vector<Contestant> two_pass_contestants(Problem& problem);
// Tensors that one run of a streaming contestant moves.
constexpr int streams_moved(int streams) { return streams == 2 ? 2 : 3; }

}  // namespace evenkeel::bench
