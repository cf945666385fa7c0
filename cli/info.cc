#include "cli/info.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "evenkeel/runtime.h"
#include "lab/blas.h"
#include "lab/machine.h"

namespace evenkeel::cli {
namespace {

// Asked first, so that a wrong EVENKEEL_SIMD prints nothing but the error.
void print_text() {
  const std::string active = simd_target();
  fmt::print("evenkeel       {}\n", version());
  fmt::print("SIMD targets   compiled: {}\n", fmt::join(compiled_simd_targets(), " "));
  fmt::print("               runnable: {}\n", fmt::join(runnable_simd_targets(), " "));
  fmt::print("               active:   {}   (EVENKEEL_SIMD selects another)\n", active);
  fmt::print("threads        {} of {} cores   (OMP_NUM_THREADS selects another number)\n",
             num_threads(), std::thread::hardware_concurrency());
  fmt::print("libtorch       {}\n", TORCH_VERSION);
  fmt::print("BLAS           {}\n", lab::blas_name());
  fmt::print("compiler       {}\n", lab::compiler_name());
}

void print_json() {
  const nlohmann::ordered_json json = {{"version", version()},
                                       {"simd",
                                        {{"compiled", compiled_simd_targets()},
                                         {"runnable", runnable_simd_targets()},
                                         {"active", simd_target()}}},
                                       {"threads", num_threads()},
                                       {"cores", std::thread::hardware_concurrency()},
                                       {"libtorch", TORCH_VERSION},
                                       {"blas", lab::blas_name()},
                                       {"compiler", lab::compiler_name()}};
  fmt::print("{}\n", json.dump(2));
}

}  // namespace

void add_info(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("info", "Show versions, SIMD targets, threads and BLAS");
  command->add_flag("--json", *json, "Print one JSON object");
  command->footer(
      "Examples:\n"
      "  evenkeel info\n"
      "  evenkeel info --json\n"
      "  EVENKEEL_SIMD=SSE4 evenkeel info");
  command->callback([json] { *json ? print_json() : print_text(); });
}

}  // namespace evenkeel::cli
