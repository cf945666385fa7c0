// evenkeel_bench: every operation beside oneDNN, PyTorch and the streaming limit.
#include <fmt/format.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <dnnl.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "bench/result.h"

namespace evenkeel::bench {
namespace {

volatile std::sig_atomic_t stop = 0;

// The first Ctrl-C ends after the round that runs, a second one at once.
void stop_on_interrupt() {
  std::signal(SIGINT, [](int) {
    stop = 1;
    std::signal(SIGINT, SIG_DFL);
  });
}

// Freed memory stays with the process, so that outputs that PyTorch allocates anew in every call
// cost it no page faults.
void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
}

void warn_if_busy() {
  double load = 0;
  if (getloadavg(&load, 1) == 1 && load > 0.5)
    fmt::print(
        stderr,
        "The machine is busy (load {:.1f}): with all threads, medians are those of the other "
        "work.\n",
        load);
}

// |a - b| / |b|
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

// That a contestant computes the same as ours: far above rounding, which is that of the type and of
// a few thousand float additions; far below leaving something out. Behind ReLU, peers whose
// statistics are off by 1e-4 of a standard deviation, as plain float sums are, mask some 1e-4 of
// the gradients differently, which is sqrt(1e-4) of their norm.
void check(const Contestant& contestant, const std::vector<std::vector<float>>& ours,
           const Case& c) {
  const bool masks = c.has_relu() && c.direction == Direction::backward;
  const double tolerance = c.dtype == Dtype::f32 && !masks ? 1e-3 : 0.02;
  const auto theirs = contestant.outputs();
  if (theirs.size() != ours.size()) throw std::logic_error(contestant.name + " has other outputs");
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const double error = distance(theirs[i], ours[i]);
    const bool parameter = c.direction == Direction::backward && (i == 1 || i == 2);
    const bool rough = parameter && contestant.parameter_gradients_in_16_bits;
    if (!(error < (rough ? 1 : tolerance)))
      throw std::logic_error(fmt::format("{} computes something else: output {} differs by {:.2g}",
                                         contestant.name, i, error));
  }
}

Result run(const Case& c, const Caches& caches, const Effort& effort) {
  Problem problem(c);
  Result result{c, caches, {}, {}, 0};
  std::vector<Contestant> contestants = streaming_contestants(problem, c.streams(caches));
  std::ranges::move(two_pass_contestants(problem), std::back_inserter(contestants));
  contestants.push_back(evenkeel_contestant(problem));
  contestants.back().run();
  const auto ours = contestants.back().outputs();

  using Make = Contestant (*)(Problem&);
  const auto peer = [&](const std::string& name, Make make) {
    try {
      Contestant contestant = make(problem);
      contestant.run();
      check(contestant, ours, c);
      contestants.push_back(std::move(contestant));
    } catch (const std::logic_error&) {
      throw;
    } catch (const std::exception& e) {  // it refuses the case; c10's messages go on with a trace
      const std::string message = e.what();
      result.missing[name] = message.substr(0, message.find('\n'));
    }
  };
  if (c.fused()) peer("unfused", unfused_contestant);
  peer("onednn", onednn_contestant);
  if (c.is_of_rows()) {
    result.missing["onednn_blocked"] = "rows have no blocked layout";
  } else {
    peer("onednn_blocked", onednn_blocked_contestant);
  }
  peer("torch", torch_contestant);
  result.timings = measure(contestants, effort, stop);
  return result;
}

void write(const std::string& path, const nlohmann::json& json) {
  const std::string beside = path + ".new";
  {
    std::ofstream file(beside);
    file << json.dump(1) << '\n';
    file.flush();
    if (!file) throw std::runtime_error("cannot write " + beside);
  }
  std::filesystem::rename(beside, path);
}

// json: the head of the file to write, without cases.
int run_all(const std::vector<Case>& cases, const Effort& effort, const std::string& out,
            nlohmann::json json) {
  stop_on_interrupt();
  keep_freed_memory();
  prepare_measuring();
  const Caches cache_sizes = caches();
  std::map<std::string, double> seconds;  // by name
  int failures = 0;
  fmt::print("{}\n", table_header());
  for (std::size_t i = 0; i < cases.size() && !stop; ++i) {
    fmt::print(stderr, "[{}/{}] {}\n", i + 1, cases.size(), cases[i].name());
    try {
      Result result = run(cases[i], cache_sizes, effort);
      if (stop) break;
      // What PyTorch freed stays in pieces, and would fill the machine case by case.
      malloc_trim(0);
      seconds[cases[i].name()] = result.seconds();
      if (cases[i].dtype != Dtype::f32)
        result.f32_seconds = seconds[cases[i].in(Dtype::f32).name()];
      fmt::print("{}\n", table_row(result));
      std::fflush(stdout);
      json["cases"].push_back(to_json(result));
      if (!out.empty()) write(out, json);
    } catch (const std::logic_error& e) {
      ++failures;
      fmt::print(stderr, "{}: {}\n", cases[i].name(), e.what());
    }
  }
  return stop || failures ? 1 : 0;
}

int main_(int argc, char** argv) {
  CLI::App app("Times evenkeel beside oneDNN, PyTorch and the streaming limit of the memory.");
  app.footer(
      "Columns: data: cold if the operands exceed the last-level cache; limit: fraction of the\n"
      "streaming limit; onednn, blocked, torch: their time over ours (above 1: evenkeel is\n"
      "faster); unfused: that of our own separate passes; f32: that of our own case in float.\n"
      "\n"
      "Examples:\n"
      "  evenkeel_bench --quick\n"
      "  evenkeel_bench --filter '^batch_norm/forward/.*/nchw/f32/' --threads 1,2\n"
      "  evenkeel_bench --out bench/results.json");
  std::string filter, out;
  std::vector<int> threads;
  bool quick = false, best = false, list = false;
  app.add_option("--filter", filter, "Only cases whose name matches this regular expression");
  app.add_option("--threads", threads, "Numbers of threads (default: 1 and all cores)")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_flag("--quick", quick, "A selection of cases and fewer rounds: under two minutes");
  app.add_flag("--best", best,
               "Compare the fastest rounds instead of the medians, on a machine that is not idle");
  app.add_option("--out", out, "Also write the results to this file, as JSON");
  app.add_flag("--list", list, "Print the names of the cases and end");
  CLI11_PARSE(app, argc, argv);

  if (threads.empty()) {
    threads = {1};
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    if (cores > 1) threads.push_back(cores);
  }
  std::vector<Case> cases = all_cases(threads);
  const std::regex wanted(filter);
  std::erase_if(cases, [&](const Case& c) {
    return (quick && !c.quick) || !std::regex_search(c.name(), wanted);
  });
  if (cases.empty())
    throw std::runtime_error(
        fmt::format("--filter '{}' matches no case; --list shows their names", filter));
  if (list) {
    for (const Case& c : cases) fmt::print("{}\n", c.name());
    return 0;
  }
  Effort effort = quick ? Effort{0.5, 3, 15} : Effort{};
  effort.best = best;
  warn_if_busy();
  return run_all(cases, effort, out,
                 {{"machine", describe_machine()},
                  {"quick", quick},
                  {"best", best},
                  {"cases", nlohmann::json::array()}});
}

}  // namespace
}  // namespace evenkeel::bench

int main(int argc, char** argv) {
  try {
    return evenkeel::bench::main_(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "evenkeel_bench: %s\n", e.what());
    return 2;
  }
}
