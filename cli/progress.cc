// No C++ progress bar library is packaged for Debian 12 (python3-tqdm has no C++ equivalent there),
// hence this one.
#include "cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "cli/write_text.h"

namespace evenkeel::cli {
namespace {

using std::chrono::steady_clock;

std::string format_rate(double rate) {
  return rate < 10 ? fmt::format("{:.1f}", rate) : fmt::format("{:.0f}", rate);
}

// Cuts at a column, never inside a UTF-8 sequence.
std::string cut(std::string text, int width) {
  int columns = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool starts_character = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (starts_character && ++columns > width) {
      text.resize(i);
      break;
    }
  }
  return text;
}

double seconds_between(steady_clock::time_point from, steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

Progress::Options options_for(std::FILE* out) {
  const char* term = std::getenv("TERM");
  Progress::Options options;
  options.terminal =
      ::isatty(::fileno(out)) != 0 && term != nullptr && std::strcmp(term, "dumb") != 0;
  return options;
}

}  // namespace

std::string format_duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::ceil(seconds));
  if (whole >= 3600) {
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  }
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string format_progress(const ProgressLine& line, int width) {
  // In whole numbers: 57 of 100 is 57%, but 0.57 * 100 is a little less than 57.
  const auto of_total = [&](std::int64_t scale) {
    return line.total > 0 ? std::clamp<std::int64_t>(scale * line.done / line.total, 0, scale)
                          : scale;
  };
  std::string facts = fmt::format("{:3}%", of_total(100));
  if (!line.unit.empty()) facts += fmt::format("  {}/{} {}", line.done, line.total, line.unit);
  if (line.done > line.skipped && line.seconds > 0) {
    const double rate = static_cast<double>(line.done - line.skipped) / line.seconds;
    if (!line.unit.empty()) facts += fmt::format("  {} {}/s", format_rate(rate), line.unit);
    if (line.finished) {
      facts += line.seconds < 10 ? fmt::format("  took {:.1f} s", line.seconds)
                                 : fmt::format("  took {}", format_duration(line.seconds));
    } else {
      const double left = static_cast<double>(line.total - line.done) / rate;
      facts += fmt::format("  {} left", format_duration(std::max(left, 0.0)));
    }
  }
  if (!line.status.empty()) facts += "  " + line.status;

  constexpr int bar_width = 20;
  const auto filled = static_cast<std::size_t>(of_total(bar_width));
  const std::string bar = std::string(filled, '#') + std::string(bar_width - filled, '.');
  std::string full = fmt::format("{}  [{}] {}", line.label, bar, facts);
  if (static_cast<int>(full.size()) <= width) return full;
  return cut(fmt::format("{} {}", line.label, facts), width);
}

Progress::Progress(std::FILE* out) : Progress(out, options_for(out)) {}

Progress::Progress(std::FILE* out, Options options) : out_(out), options_(std::move(options)) {
  if (!options_.clock) options_.clock = steady_clock::now;
}

Progress::~Progress() {
  const std::scoped_lock lock(mutex_);
  if (options_.terminal) redraw();
}

Progress::Item& Progress::add(std::string label, std::int64_t total, std::string unit) {
  const std::scoped_lock lock(mutex_);
  Item& item = items_.emplace_back();
  item.line_.label = std::move(label);
  item.line_.total = total;
  item.line_.unit = std::move(unit);
  return item;
}

void Progress::update(Item& item, std::int64_t done, std::string_view status) {
  const std::scoped_lock lock(mutex_);
  const auto now = options_.clock();
  if (!item.started_) {
    item.started_ = true;
    item.start_ = item.last_plain_ = now;
  }
  item.line_.done = done;
  item.line_.status = status;
  item.line_.seconds = seconds_between(item.start_, now);
  if (options_.terminal) {
    if (drawn_ > 0 && now - last_redraw_ < options_.redraw_interval) return;
    last_redraw_ = now;
    redraw();
  } else if (now - item.last_plain_ >= options_.plain_interval) {
    item.last_plain_ = now;
    write_text(out_, format_progress(item.line_, unlimited) + "\n");
    std::fflush(out_);
  }
}

void Progress::skip(Item& item, std::int64_t skipped) {
  const std::scoped_lock lock(mutex_);
  item.line_.skipped = skipped;
}

void Progress::finish(Item& item, std::string_view status) {
  const std::scoped_lock lock(mutex_);
  const auto now = options_.clock();
  if (!item.started_) item.start_ = now;
  item.started_ = true;
  item.line_.finished = true;
  item.line_.status = status;
  item.line_.seconds = seconds_between(item.start_, now);
  print_above(format_progress(item.line_, options_.terminal ? width() : unlimited));
}

void Progress::print(std::string_view line) {
  const std::scoped_lock lock(mutex_);
  print_above(line);
}

void Progress::print_above(std::string_view line) {
  erase();
  write_text(out_, fmt::format("{}\n", line));
  redraw();
}

// One write for the whole picture, so that the terminal shows no half-drawn one.
void Progress::redraw() {
  if (options_.terminal) {
    std::string picture = drawn_ > 0 ? fmt::format("\033[{}A", drawn_) : std::string();
    drawn_ = 0;
    for (const Item& item : items_) {
      if (!item.started_ || item.line_.finished) continue;
      picture += fmt::format("\r\033[2K{}\n", format_progress(item.line_, width()));
      ++drawn_;
    }
    write_text(out_, picture);
  }
  std::fflush(out_);
}

void Progress::erase() {
  if (drawn_ > 0) write_text(out_, fmt::format("\033[{}A\r\033[J", drawn_));
  drawn_ = 0;
}

int Progress::width() const {
  if (options_.width > 0) return options_.width;
  struct winsize size {};
  const bool known = ::ioctl(::fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  // The last column stays free: some terminals wrap when it is written.
  return known ? size.ws_col - 1 : 79;
}

}  // namespace evenkeel::cli
