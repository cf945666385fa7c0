#include "lab/parallel.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#include "evenkeel/error.h"
#include "evenkeel/runtime.h"
#include "lab/blas.h"

namespace evenkeel::lab {

int default_jobs() {
  if (!blas_is_thread_safe()) return 1;
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

void require_jobs(std::string_view who, int jobs) {
  if (jobs <= 1 || blas_is_thread_safe()) return;
  throw Error(fmt::format(
      "{}: jobs is {}, expected 1: the loaded BLAS, {}, gives wrong results when several threads "
      "call it; use one job, or install libopenblas0-openmp",
      who, jobs, blas_name()));
}

void run_side_by_side(std::size_t count, int jobs, const std::atomic<bool>& stop,
                      const std::function<void(std::size_t)>& work) {
  use_one_blas_thread();
  std::atomic<std::size_t> next = 0;
  const auto worker = [&] {
    // OpenMP's setting is per thread.
    torch::set_num_threads(1);
    set_num_threads(1);
    for (std::size_t i = next++; i < count && !stop; i = next++) work(i);
  };
  std::vector<std::jthread> workers;
  for (int j = 0; j < jobs; ++j) workers.emplace_back(worker);
}

std::optional<std::string> failure_of(const std::function<void()>& work) {
  try {
    work();
    return std::nullopt;
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "unknown error";
  }
}

}  // namespace evenkeel::lab
