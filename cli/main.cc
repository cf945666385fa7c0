// The evenkeel program: one subcommand a file.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "cli/compare.h"
#include "cli/explain.h"
#include "cli/info.h"
#include "cli/standardize.h"
#include "evenkeel/runtime.h"

namespace {

constexpr int failed = 1;
constexpr int wrong_usage = 2;

// CLI11 names what is missing before it names what it does not know; of the two, an unknown word is
// the one that the user mistyped.
std::string describe(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(true);
  if (unknown.empty()) return error.what();
  return fmt::format("unknown argument '{}'", unknown.front());
}

// The command line up to its last subcommand, e.g. "evenkeel explain lrn".
std::string command_of(const CLI::App& app) {
  std::string command = app.get_name();
  for (const CLI::App* sub = &app; !sub->get_subcommands().empty();) {
    sub = sub->get_subcommands().front();
    command += " " + sub->get_name();
  }
  return command;
}

int run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) {
      fmt::print(stderr, "{}", app.help());
      return wrong_usage;
    }
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    fmt::print(stderr, "evenkeel: error: {}\nSee '{} --help'.\n", describe(app, error),
               command_of(app));
    return wrong_usage;
  }
}

}  // namespace

int main(int argc, char** argv) {
  // A file over the shell's size limit then is an error of write(2) as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    CLI::App app(
        "Normalization layers for training deep networks: what they compute and what they do.",
        "evenkeel");
    app.set_version_flag("--version", fmt::format("evenkeel {}", evenkeel::version()));
    app.footer(
        "Examples:\n"
        "  evenkeel compare --quick --out out/quick      train with and without normalization\n"
        "  evenkeel explain batch-norm                   see what batch normalization computes\n"
        "  evenkeel standardize x.npy -o y.npy --stats s.json\n"
        "\n"
        "'evenkeel COMMAND --help' describes a command.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage.");
    evenkeel::cli::add_compare(app);
    evenkeel::cli::add_explain(app);
    evenkeel::cli::add_standardize(app);
    evenkeel::cli::add_info(app);
    return run(app, argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "evenkeel: error: {}\n", error.what());
    return failed;
  }
}
