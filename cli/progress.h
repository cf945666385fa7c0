// Progress of long work: one line per item, redrawn in place on a terminal, plain lines otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <string_view>

namespace evenkeel::cli {

// What one line of progress says, as text of at most `width` columns: label, bar, done/total, rate,
// time left and status. A narrow line drops the bar first and is then cut at its end. Without a
// unit there is only a share to tell, no numbers and no rate.
struct ProgressLine {
  std::string label;
  std::string unit;  // of done and total, e.g. "steps"
  std::int64_t done = 0;
  std::int64_t skipped = 0;  // of them, done without spending time
  std::int64_t total = 0;
  double seconds = 0;  // spent so far
  bool finished = false;
  std::string status;  // e.g. "loss 0.42"
};
constexpr int unlimited = std::numeric_limits<int>::max();
std::string format_progress(const ProgressLine& line, int width);
// "1:05" or "2:00:00", of a part of a second too a whole one.
std::string format_duration(double seconds);

// Shows any number of items that advance at once. All functions may be called from any thread.
//
//   Progress progress;
//   Progress::Item& item = progress.add("mlp batch", 2000, "steps");
//   for (...) progress.update(item, step, "loss 0.42");
//   progress.finish(item, "accuracy 0.88");
//
// On a terminal the unfinished lines stay at the bottom and are redrawn at most 10 times a second;
// each finished one is left above them. Otherwise each item prints a line at most every
// `plain_interval` and one when it finishes. An item first shows when it is first updated. Nothing
// else should write to the same terminal meanwhile; use print. A stream that cannot be written is
// no error: the work goes on without its progress.
class Progress {
 public:
  using Clock = std::function<std::chrono::steady_clock::time_point()>;
  struct Options {
    bool terminal = false;  // redraw in place
    int width = 0;          // columns; 0: ask the terminal each time
    std::chrono::milliseconds redraw_interval{100};
    std::chrono::milliseconds plain_interval{5000};
    Clock clock;  // absent: std::chrono::steady_clock::now
  };

  class Item {
    friend class Progress;
    ProgressLine line_;
    bool started_ = false;
    std::chrono::steady_clock::time_point start_;
    std::chrono::steady_clock::time_point last_plain_;
  };

  // As `out` is: redraws if it is a terminal that can move the cursor.
  explicit Progress(std::FILE* out = stderr);
  Progress(std::FILE* out, Options options);
  // Leaves the unfinished lines as they last were.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // The item lives as long as this object. Its time starts with its first update; update it to 0
  // when its work begins.
  Item& add(std::string label, std::int64_t total, std::string unit);
  void update(Item& item, std::int64_t done, std::string_view status = {});
  // Of what is done, `skipped` took no time here, e.g. because an earlier run did it: it says
  // nothing about the time left.
  void skip(Item& item, std::int64_t skipped);
  // The item's last line; `done` stays what it was.
  void finish(Item& item, std::string_view status = {});
  // A line of its own, above the unfinished ones.
  void print(std::string_view line);

 private:
  void print_above(std::string_view line);
  void redraw();
  void erase();
  int width() const;

  std::FILE* out_;
  Options options_;
  std::mutex mutex_;
  std::deque<Item> items_;  // a deque, so that references last
  int drawn_ = 0;           // lines that redraw() put on the terminal
  std::chrono::steady_clock::time_point last_redraw_;
};

}  // namespace evenkeel::cli
