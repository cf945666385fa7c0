#include "bench/measure.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

namespace evenkeel::bench {
namespace {

class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& /*context*/) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      seconds[run.run_name.function_name].push_back(run.real_accumulated_time /
                                                    static_cast<double>(run.iterations));
    }
  }
  std::map<std::string, std::vector<double>> seconds;
};

double seconds_of(const Contestant& contestant) {
  const auto start = std::chrono::steady_clock::now();
  contestant.run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Timing summary(std::vector<double> seconds, bool best) {
  std::sort(seconds.begin(), seconds.end());
  const std::size_t half = seconds.size() / 2;
  const double median =
      seconds.size() % 2 ? seconds[half] : (seconds[half - 1] + seconds[half]) / 2;
  return {best ? seconds.front() : median, median, seconds.front(), seconds.back()};
}

}  // namespace

void prepare_measuring() {
  static std::string program = "evenkeel_bench";
  static std::string interleave = "--benchmark_enable_random_interleaving=true";
  static std::array arguments = {program.data(), interleave.data()};
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
}

std::map<std::string, Timing> measure(const std::vector<Contestant>& contestants,
                                      const Effort& effort,
                                      const volatile std::sig_atomic_t& stop) {
  constexpr double kBatchSeconds = 1e-3;
  constexpr int kRoundsOfSlow = 3;  // for what would take the time of a case by itself
  benchmark::ClearRegisteredBenchmarks();
  double round = 0;
  std::vector<benchmark::internal::Benchmark*> registered;
  for (const Contestant& contestant : contestants) {
    seconds_of(contestant);  // cold caches and first pages
    const double once = std::max(seconds_of(contestant), 1e-9);
    const double iterations = std::ceil(kBatchSeconds / once);
    auto* benchmark =
        benchmark::RegisterBenchmark(contestant.name.c_str(), [&](benchmark::State& state) {
          if (!stop) contestant.run();
          for (auto unused [[maybe_unused]] : state)
            if (!stop) contestant.run();
        });
    benchmark->Iterations(static_cast<benchmark::IterationCount>(iterations))->UseRealTime();
    if (2 * once * effort.few_rounds > effort.case_seconds) {
      benchmark->Repetitions(kRoundsOfSlow);
    } else {
      round += once * (1 + iterations);
      registered.push_back(benchmark);
    }
  }
  const int rounds = static_cast<int>(
      std::clamp<double>(effort.case_seconds / round, effort.few_rounds, effort.many_rounds));
  for (auto* benchmark : registered) benchmark->Repetitions(rounds);

  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);
  benchmark::ClearRegisteredBenchmarks();
  std::map<std::string, Timing> timings;
  if (stop) return timings;
  for (auto& [name, seconds] : collector.seconds)
    timings[name] = summary(std::move(seconds), effort.best);
  return timings;
}

}  // namespace evenkeel::bench
