// Where answers, hints and errors go, for people and for scripts. Answers go to standard output; progress, hints and
// errors to standard error. A closed pipe is remembered, never a crash.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/exit_code.h"
#include "client/cli/json.h"
#include "client/client.h"

namespace trilog::cli {

struct CommonOptions {
  std::string server;         // --server, as given or from the environment
  std::string server_source;  // "--server", "TRILOG_SERVER", "default"
  bool json = false;
  bool quiet = false;
  int64_t timeout_ms = 5'000;
  bool timeout_given = false;
};

// Safe from several threads.
class Output {
 public:
  explicit Output(const CommonOptions& common);

  bool json() const { return common_.json; }
  bool quiet() const { return common_.quiet; }
  bool to_terminal() const { return out_is_terminal_; }

  // A whole line of the answer. False once standard output is closed.
  bool line(std::string_view text);
  bool json_line(const JsonObject& object) { return line(object.text()); }
  // Bytes as they are (consume). Buffered until flush().
  void raw(std::string_view bytes);
  bool flush();
  bool closed() const { return closed_; }

  // To standard error: for people only (nothing with --json or --quiet).
  void hint(std::string_view text);
  // A line that replaces itself, on a terminal only.
  void progress(std::string_view text);
  void end_progress();

  // Says the error in the form asked for and returns its exit code.
  int fail(const client::Error& error, int64_t input_line = 0, std::string_view topic = {});
  // Wrong usage.
  int usage(std::string_view message);

  // "name      : a   b" columns: pads every column to its widest cell.
  void table(const std::vector<std::vector<std::string>>& rows);

 private:
  bool write_all(std::string_view text);

  CommonOptions common_;
  bool out_is_terminal_;
  bool err_is_terminal_;
  bool progress_shown_ = false;
  std::mutex mutex_;
  std::string buffer_;
  bool closed_ = false;
};

// "18532", grouped for people: no; kept plain so that it can be copied. Seconds with one decimal below a minute.
std::string seconds_text(double seconds);
std::string counted(int64_t count, std::string_view what);  // "1 record", "7 records"
// The error a person reads; code names what a script matches.
client::Error usage_error(std::string message);
// SIGINT or SIGTERM arrived (0: none); commands look here between steps.
int pending_signal();
void watch_signals();

// On a terminal asks "… [y/N]"; elsewhere needs --yes. Nothing, or the exit code to end with.
std::optional<int> confirm(Output& output, bool yes, const std::string& what);

}  // namespace trilog::cli
