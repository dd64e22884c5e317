// A line that says how far a run is: rewritten in place on a terminal, a few plain lines elsewhere.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "moe/plan/statistics.hpp"

namespace example {

using moe::Index;

class Progress {
 public:
  explicit Progress(Index steps) : steps_(steps), terminal_(isatty(STDOUT_FILENO) != 0) {}

  /// Whether step `step` of [1, steps] wants a line: ten times a second, or at every quarter of the run.
  bool wants(Index step) {
    if (!terminal_) return step * 4 / steps_ != (step - 1) * 4 / steps_;
    const auto now = std::chrono::steady_clock::now();
    if (step < steps_ && now - last_ < std::chrono::milliseconds(100)) return false;
    last_ = now;
    return true;
  }

  void show(const std::string& line) {
    std::printf(terminal_ ? "\r\x1b[K%s" : "%s\n", line.c_str());
    std::fflush(stdout);
  }
  /// The next line is a new one.
  void finish() {
    if (terminal_) std::printf("\n");
  }

 private:
  Index steps_;
  bool terminal_;
  std::chrono::steady_clock::time_point last_{};
};

/// One small bar per expert: half height is the mean load, full height twice the mean or more.
inline std::string load_bars(const moe::RouteStats& stats) {
  static constexpr const char* kBars[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string bars;
  for (const Index load : stats.load) {
    const double of_mean =
        static_cast<double>(load * stats.experts()) / static_cast<double>(stats.pairs() + 1);
    const int height = static_cast<int>(4 * of_mean + 0.5);
    bars += kBars[height > 8 ? 8 : height];
  }
  return bars;
}

}  // namespace example
