// Version, SIMD target and threads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace evenkeel {

// "MAJOR.MINOR.PATCH".
std::string_view version();

// Names of the SIMD targets that were compiled in and that this processor can run, best first,
// e.g. {"AVX3", "AVX2", "SSE4", "SCALAR"} (Highway's names; AVX3 is AVX-512).
std::vector<std::string> runnable_simd_targets();
// Names of all targets that were compiled in, best first.
std::vector<std::string> compiled_simd_targets();

// The target that runs. The best one, unless the environment variable EVENKEEL_SIMD names another
// when the library is first used. Throws Error if EVENKEEL_SIMD names a target that is not
// runnable. The choice is this library's own: other users of Highway in the process keep theirs.
std::string simd_target();
// Selects a target by name; an empty name restores the default. Throws Error if the name is not one
// of runnable_simd_targets(). Not to be called while an operation runs in another thread.
void set_simd_target(std::string_view name);

// Threads used by operations that the calling thread starts: OpenMP's own setting, by default one a
// core (or OMP_NUM_THREADS). Results do not depend on it. Throws Error if threads < 1.
//
// In a process that a process with several threads made by fork(), without exec, it is always 1:
// OpenMP's threads are missing there, and its runtime would wait for them for ever. So it is in the
// workers of Python's multiprocessing by its start method "fork"; one by "spawn" or "forkserver"
// has all threads. The library must have been loaded before the fork for it to know of it.
int num_threads();
void set_num_threads(int threads);

}  // namespace evenkeel
