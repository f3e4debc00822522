#include "client/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>

namespace trilog::cli {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
std::atomic<int> signal_number{0};

std::string_view outcome_name(client::Error::Outcome outcome) {
  switch (outcome) {
    case client::Error::Outcome::kNotWritten: return "NOT_WRITTEN";
    case client::Error::Outcome::kUnknown: return "UNKNOWN";
    case client::Error::Outcome::kNotApplicable: return "NOT_APPLICABLE";
  }
  return "UNKNOWN";
}

// Characters, not bytes, so that columns stay straight with names that are not ASCII.
size_t width(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

ExitCode exit_code_of(const client::Error& error) {
  const std::string& code = error.code;
  if (code == "USAGE") return kUsage;
  if (code == "INTERRUPTED") return kInterrupted;
  if (error.outcome == client::Error::Outcome::kUnknown || code == "OUTCOME_UNKNOWN") return kUnknown;
  if (code.starts_with("UNKNOWN_") && code != "UNKNOWN_PRODUCER") return kNotFound;
  if (error.retriable || code == "NO_SERVER") return kNotNow;
  return kRefused;
}

Output::Output(const CommonOptions& common)
    : common_(common), out_is_terminal_(isatty(STDOUT_FILENO) == 1), err_is_terminal_(isatty(STDERR_FILENO) == 1) {}

bool Output::write_all(std::string_view text) {
  while (!text.empty() && !closed_) {
    ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      closed_ = true;
      break;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return !closed_;
}

bool Output::line(std::string_view text) {
  std::lock_guard lock(mutex_);
  buffer_ += text;
  buffer_ += '\n';
  if (progress_shown_) {
    std::fputs("\r\033[K", stderr);
    progress_shown_ = false;
  }
  bool good = write_all(buffer_);
  buffer_.clear();
  return good;
}

void Output::raw(std::string_view bytes) {
  std::lock_guard lock(mutex_);
  buffer_ += bytes;
  if (buffer_.size() < kBufferBytes) return;
  write_all(buffer_);
  buffer_.clear();
}

bool Output::flush() {
  std::lock_guard lock(mutex_);
  bool good = write_all(buffer_);
  buffer_.clear();
  return good;
}

void Output::hint(std::string_view text) {
  if (common_.json || common_.quiet) return;
  end_progress();
  std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

void Output::progress(std::string_view text) {
  if (!err_is_terminal_ || common_.json || common_.quiet) return;
  std::lock_guard lock(mutex_);
  std::fprintf(stderr, "\r\033[K%.*s", static_cast<int>(text.size()), text.data());
  std::fflush(stderr);
  progress_shown_ = true;
}

void Output::end_progress() {
  std::lock_guard lock(mutex_);
  if (!progress_shown_) return;
  std::fputs("\r\033[K", stderr);
  progress_shown_ = false;
}

int Output::fail(const client::Error& error, int64_t input_line, std::string_view topic) {
  end_progress();
  flush();
  if (common_.json) {
    JsonObject inner;
    inner.add("code", std::string_view(error.code)).add("message", std::string_view(error.message));
    inner.add("retriable", error.retriable).add("outcome", outcome_name(error.outcome));
    if (!topic.empty()) inner.add("topic", topic);
    auto partition = error.details.find("partition");
    if (partition != error.details.end() && !partition->second.empty()) {
      inner.add("partition", static_cast<int64_t>(std::strtoll(partition->second.c_str(), nullptr, 10)));
    }
    if (input_line > 0) inner.add("line", input_line);
    JsonObject outer;
    outer.add("error", std::move(inner));
    std::fprintf(stderr, "%s\n", outer.text().c_str());
  } else {
    std::string where = input_line > 0 ? "line " + std::to_string(input_line) + ": " : "";
    std::fprintf(stderr, "%s%s\n", where.c_str(), error.message.c_str());
    if (error.outcome == client::Error::Outcome::kUnknown) {
      std::fprintf(stderr, "  the outcome is unknown: it may have been written\n");
    }
  }
  return exit_code_of(error);
}

int Output::usage(std::string_view message) { return fail(usage_error(std::string(message))); }

void Output::table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  for (const auto& row : rows) {
    std::string text;
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text += std::string(widths[i] - width(row[i]) + 2, ' ');
    }
    line(text);
  }
}

std::string seconds_text(double seconds) {
  char text[64];
  if (seconds < 0.1) {
    std::snprintf(text, sizeof(text), "%.1f ms", seconds * 1000);
  } else {
    std::snprintf(text, sizeof(text), "%.1f s", seconds);
  }
  return text;
}

std::string counted(int64_t count, std::string_view what) {
  return std::to_string(count) + " " + std::string(what) + (count == 1 ? "" : "s");
}

client::Error usage_error(std::string message) {
  return {"USAGE", std::move(message), false, client::Error::Outcome::kNotWritten};
}

int pending_signal() { return signal_number.load(std::memory_order_relaxed); }

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int number) {
    // A second one ends at once, for those who do not want to wait for a clean end.
    if (signal_number.exchange(number, std::memory_order_relaxed) != 0) _exit(128 + number);
  };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
}

std::optional<int> confirm(Output& output, bool yes, const std::string& what) {
  if (yes) return std::nullopt;
  if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1 || output.json()) {
    return output.usage(what + "\nthis changes what is stored; say --yes to do it, or --dry-run to only see it");
  }
  std::fprintf(stderr, "%s\ngo on? [y/N] ", what.c_str());
  std::string answer;
  std::getline(std::cin, answer);
  if (answer == "y" || answer == "Y" || answer == "yes") return std::nullopt;
  output.hint("nothing was changed");
  return kRefused;
}

}  // namespace trilog::cli
