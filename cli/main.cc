// The evenkeel program: one subcommand a file.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "cli/compare.h"
#include "cli/explain.h"
#include "cli/info.h"
#include "cli/lab.h"
#include "cli/standardize.h"
#include "cli/write_text.h"
#include "evenkeel/runtime.h"

namespace {

using evenkeel::cli::write_text;

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
      write_text(stderr, app.help());
      return wrong_usage;
    }
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    write_text(stderr, fmt::format("evenkeel: error: {}\nSee '{} --help'.\n", describe(app, error),
                                   command_of(app)));
    return wrong_usage;
  }
}

int run(int argc, char** argv) {
  try {
    CLI::App app(
        "Normalization layers for training deep networks: what they compute and what they do.",
        "evenkeel");
    app.set_version_flag("--version", fmt::format("evenkeel {}", evenkeel::version()));
    app.footer(
        "Examples:\n"
        "  evenkeel compare --quick --out out/quick      train with and without normalization\n"
        "  evenkeel lab --all                            test what is said about normalization\n"
        "  evenkeel explain batch-norm                   see what batch normalization computes\n"
        "  evenkeel standardize x.npy -o y.npy --stats s.json\n"
        "\n"
        "'evenkeel COMMAND --help' describes a command.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage.");
    evenkeel::cli::add_compare(app);
    evenkeel::cli::add_lab(app);
    evenkeel::cli::add_explain(app);
    evenkeel::cli::add_standardize(app);
    evenkeel::cli::add_info(app);
    return run(app, argc, argv);
  } catch (const std::exception& error) {
    write_text(stderr, fmt::format("evenkeel: error: {}\n", error.what()));
    return failed;
  }
}

// The exit code, once all of standard output is out.
int flush_output(int code) {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  write_text(stderr, fmt::format("evenkeel: error: standard output cannot be written: {}\n",
                                 errno != 0 ? std::strerror(errno) : "an earlier write failed"));
  return code == 0 ? failed : code;
}

}  // namespace

int main(int argc, char** argv) {
  // A file over the shell's size limit, and a pipe that nobody reads any more, then are errors of
  // write(2) as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  return flush_output(run(argc, argv));
}
