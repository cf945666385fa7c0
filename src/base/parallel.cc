// How many threads there may be.
//
// fork() gives the child only the thread that called it. GNU's OpenMP does not notice: it keeps the
// list of its threads and waits at the end of a parallel region for some that are not there, so the
// first region of the child never ends. It has no call to ask whether it has threads, and they may
// have been started by anybody else in the process. But a process that never had a second thread
// has none of OpenMP's either, and its child may start its own.
#include "src/base/parallel.h"

#include <pthread.h>

#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#endif

namespace evenkeel {
namespace {

bool had_threads = false;   // at the last fork() of this process
bool lost_threads = false;  // in this process, by the fork() that made it

// May say yes where the threads have ended since, or where nobody knows.
bool may_have_threads() {
#if __has_include(<sys/single_threaded.h>)
  return __libc_single_threaded == 0;
#else
  return true;
#endif
}

void before_fork() { had_threads = may_have_threads(); }
void in_child() { lost_threads = lost_threads || had_threads; }

// When the library is loaded, not when it is first used: until then others may have used OpenMP.
[[maybe_unused]] const int registered = pthread_atfork(before_fork, nullptr, in_child);

}  // namespace

int max_threads() { return lost_threads ? 1 : omp_get_max_threads(); }

}  // namespace evenkeel
