// Several trainings side by side, each in one thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace evenkeel::lab {

// One for each core; one in all if the loaded BLAS is not made for calls from several threads.
int default_jobs();

// Throws Error, which `who` opens, if more than one job is asked for and the BLAS is not made for
// it.
void require_jobs(std::string_view who, int jobs);

// Calls work(0), work(1), ... work(count - 1) from `jobs` threads, each with one intra-op thread (a
// setting of libtorch's that stays), until all are done or `stop` becomes true. Two trainings side
// by side beat one on two threads by far. `work` must not throw.
void run_side_by_side(std::size_t count, int jobs, const std::atomic<bool>& stop,
                      const std::function<void(std::size_t)>& work);

// What an exception says that `work` throws; nullopt if it throws none.
std::optional<std::string> failure_of(const std::function<void()>& work);

// Calls an observer until it throws: what only watches must harm nothing.
template <class Observer>
class Guarded {
 public:
  explicit Guarded(Observer& observer) : observer_(&observer) {}

  template <class Call>
  void tell(Call call) {
    if (!observer_) return;
    try {
      call(*observer_);
    } catch (...) {
      observer_ = nullptr;
    }
  }

 private:
  Observer* observer_;
};

}  // namespace evenkeel::lab
