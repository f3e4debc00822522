#include "broker/node_command.h"

#include <poll.h>
#include <signal.h>
#include <time.h>

#include <cstdio>
#include <utility>

#include "broker/cluster_folder.h"
#include "broker/process_output.h"

namespace trilog {
namespace {

constexpr int kLookEveryMs = 20;

int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000 + now.tv_nsec / 1'000'000;
}

// Another process acts; there is nothing to wait on but its files.
template <typename Holds>
bool wait_until(Holds holds, int64_t timeout_ms) {
  int64_t end = now_ms() + timeout_ms;
  while (!holds()) {
    if (now_ms() >= end) return false;
    ::poll(nullptr, 0, kLookEveryMs);
  }
  return true;
}

class NodeCommand {
 public:
  NodeCommand(const cli::NodeOptions& options, const ProcessOutput& output)
      : options_(options), output_(output), folder_(options.data) {}

  int run() {
    Result<std::optional<int>> nodes = folder_.nodes();
    if (!nodes.ok()) return output_.fail(nodes.status());
    if (!nodes->has_value()) {
      return output_.fail(kExitNotFound, "NOT_FOUND", "no cluster in " + options_.data + "; trilog up makes one");
    }
    nodes_ = **nodes;
    using Action = cli::NodeOptions::Action;
    if (options_.action == Action::kList) return list();
    if (options_.node < 1 || options_.node > nodes_) {
      return output_.fail(kExitNotFound, "NOT_FOUND",
                          "no node " + std::to_string(options_.node) + " in " + options_.data + "; it has " +
                              (nodes_ == 1 ? "node 1" : "nodes 1 to " + std::to_string(nodes_)));
    }
    switch (options_.action) {
      case Action::kKill: return end("kill", SIGKILL);
      case Action::kStop: return end("stop", SIGTERM);
      case Action::kStart: return start();
      case Action::kPause: return hold("pause", SIGSTOP, true);
      case Action::kResume: return hold("resume", SIGCONT, false);
      case Action::kList: break;
    }
    return kExitUsage;
  }

 private:
  std::string name() const { return "node " + std::to_string(options_.node); }
  std::string start_hint() const {
    return "trilog node start " + std::to_string(options_.node) + " --data " + options_.data;
  }

  int done(const char* action, const char* did, bool changed, const std::string& next = "") {
    if (output_.json()) {
      cli::JsonObject object;
      object.add("action", action).add("name", name()).add("changed", changed);
      output_.line(object.text());
    } else {
      output_.line(name() + " " + (changed ? "" : "already ") + did + (next.empty() ? "" : " · " + next));
    }
    return kExitDone;
  }
  int fail_down() { return output_.fail(kExitNotNow, "NODE_DOWN", name() + " is down; start it: " + start_hint()); }

  int list() {
    for (int node = 1; node <= nodes_; ++node) {
      std::optional<RunningProcess> process = folder_.running_node(node);
      const char* state = !process ? "down" : process->paused ? "paused" : process->ready ? "up" : "starting";
      std::string address = process && !process->addresses.empty() ? process->addresses.front() : "";
      if (output_.json()) {
        cli::JsonObject object;
        object.add("node_id", node);
        object.add("address", address.empty() ? std::nullopt : std::optional<std::string>(address));
        object.add("state", state);
        object.add("pid", process ? std::optional<int64_t>(process->pid) : std::nullopt);
        output_.line(object.text());
      } else if (options_.quiet) {
        std::printf("%d\n", node);
      } else if (process) {
        output_.line(std::to_string(node) + "  " + state + "  pid " + std::to_string(process->pid) + "  " + address);
      } else {
        output_.line(std::to_string(node) + "  down" +
                     (folder_.running() ? "  trilog node start " + std::to_string(node) : ""));
      }
    }
    return kExitDone;
  }

  int end(const char* action, int number) {
    std::optional<RunningProcess> process = folder_.running_node(options_.node);
    if (!process) return done(action, "down", false, start_hint());
    Status sent = signal_process(*process, number);
    // One that is paused hears nothing but SIGKILL until it goes on.
    if (sent.ok() && process->paused && number != SIGKILL) sent = signal_process(*process, SIGCONT);
    if (!sent.ok()) return output_.fail(sent);
    if (!wait_for_end(*process, options_.timeout_ms)) {
      return output_.fail(
          kExitNotNow, "BUSY",
          name() + " has not ended after " + std::to_string(options_.timeout_ms / 1000) + " s; it goes on stopping");
    }
    return done(action, number == SIGKILL ? "killed" : "stopped", true, "start it again: " + start_hint());
  }

  int hold(const char* action, int number, bool paused) {
    std::optional<RunningProcess> process = folder_.running_node(options_.node);
    if (!process) return fail_down();
    const char* did = paused ? "paused" : "running";
    if (process->paused == paused) return done(action, did, false);
    Status sent = signal_process(*process, number);
    if (!sent.ok()) return output_.fail(sent);
    auto is_so = [&] {
      std::optional<RunningProcess> now = folder_.running_node(options_.node);
      return !now || now->paused == paused;
    };
    if (!wait_until(is_so, options_.timeout_ms)) return fail_down();
    return done(action, did, true, paused ? "go on: trilog node resume " + std::to_string(options_.node) : "");
  }

  int start() {
    if (folder_.running_node(options_.node)) return done("start", "up", false);
    std::optional<RunningProcess> up = folder_.running();
    if (!up || nodes_ == 1) {
      return output_.fail(kExitNotNow, "NODE_DOWN",
                          "nothing runs in " + options_.data + "; trilog up --data " + options_.data +
                              (nodes_ == 1 ? " starts it" : " starts all its nodes"));
    }
    Status asked = folder_.ask_to_start(options_.node);
    if (asked.ok()) asked = signal_process(*up, SIGUSR1);
    if (!asked.ok()) return output_.fail(asked);
    auto decided = [&] {
      if (folder_.is_asked_to_start(options_.node)) return false;
      std::optional<RunningProcess> now = folder_.running_node(options_.node);
      return now ? now->ready : !folder_.has_node_run(options_.node);
    };
    bool in_time = wait_until(decided, options_.timeout_ms);
    if (in_time && folder_.running_node(options_.node)) return done("start", "up", true);
    return output_.fail(kExitRefused, "NODE_ENDED",
                        name() + (in_time ? " ended before it was ready" : " is not ready in time") +
                            "; it says why in " + folder_.node_log_path(options_.node));
  }

  const cli::NodeOptions& options_;
  const ProcessOutput& output_;
  const ClusterFolder folder_;
  int nodes_ = 0;
};

}  // namespace

int run_node_command(const cli::NodeOptions& options) {
  ProcessOutput output(options.json, options.quiet);
  return NodeCommand(options, output).run();
}

}  // namespace trilog
