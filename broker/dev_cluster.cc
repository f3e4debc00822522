#include "broker/dev_cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <future>
#include <iostream>
#include <string>
#include <utility>

#include "broker/cluster_folder.h"
#include "broker/dev_plan.h"
#include "broker/node.h"
#include "broker/node_supervisor.h"
#include "broker/process_output.h"
#include "broker/runtime/stderr_log.h"

namespace trilog {
namespace {

int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

Status create_topics(Broker& broker, const std::vector<TopicWanted>& topics) {
  for (const TopicWanted& topic : topics) {
    std::promise<Status> created;
    api::CreateTopicRequest request{
        .name = topic.name, .partitions = topic.partitions, .configs = {}, .if_not_exists = true};
    broker.create_topic(std::move(request), [&](api::Answer<api::CreateTopicResult> answer) {
      created.set_value(answer.ok() ? Status() : Status(Errc::kInvalidArgument, "--topic " + answer.error().message));
    });
    TRY(created.get_future().get());
  }
  return {};
}

void print_ready(const cli::UpOptions& options, const ProcessOutput& output, const ClusterPlan& plan,
                 const Node& node) {
  int64_t ready_ms = (now_ns() - options.started_ns) / 1'000'000;
  if (output.json()) {
    std::vector<cli::JsonObject> nodes;
    nodes.emplace_back();
    nodes.back().add("node_id", plan.broker.node_id).add("address", node.client_address()).add("pid", ::getpid());
    cli::JsonObject ready;
    ready.add("event", "ready").add("addresses", node.addresses()).add("nodes", std::move(nodes));
    ready.add("data_dir", plan.folder.path()).add("ready_ms", ready_ms);
    return output.line(ready.text());
  }
  std::string server = node.port() == kDefaultClientPort ? "" : " --server " + node.client_address();
  std::string text = "ready in " + std::to_string(ready_ms) + " ms · node 1 of 1 · data " + plan.folder.path() +
                     (plan.is_new ? " (new)" : "") + " · synced before every ack\n";
  text += "  listening      " + node.client_address() + " (gRPC)\n";
  text += "  next           trilog produce orders '{\"id\":17}' --key 17" + server;
  output.line(text);
}

// The parent has its answer; from here on output goes to the folder's log.
void leave_terminal(const ClusterFolder& folder) {
  int log = ::open(folder.log_path().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (log >= 0) ::dup2(log, STDERR_FILENO);
  if (nothing >= 0) {
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(nothing, STDOUT_FILENO);
  }
  if (log >= 0) ::close(log);
  if (nothing >= 0) ::close(nothing);
}

int run_here(const cli::UpOptions& options, const ProcessOutput& output, bool detached) {
  Result<ClusterPlan> plan = make_cluster_plan(options);
  if (!plan.ok()) return output.fail(plan.status());
  block_end_signals();
  if (plan->nodes > 1) {
    auto on_ready = [&plan, detached] {
      if (detached) leave_terminal(plan->folder);
    };
    return run_nodes(*plan, options, output, on_ready);
  }
  if (plan->is_new) {
    Status created = plan->folder.create(1, false);
    if (!created.ok()) return output.fail(created);
  }
  Logger log = make_stderr_logger(LogLevel::kWarning);
  Result<std::unique_ptr<Node>> node = Node::start({.broker = plan->broker, .listen = plan->listen, .log = log});
  if (!node.ok()) return output.fail(node.status());
  Status ready = create_topics((*node)->broker(), plan->topics);
  if (ready.ok()) ready = plan->folder.write_run((*node)->addresses());
  if (!ready.ok()) return output.fail(ready);
  if (!plan->broker.insecure.empty()) {
    output.hint("warning: without TLS and passwords, anyone who reaches " + plan->listen.front() +
                " can read and write everything");
  }
  print_ready(options, output, *plan, **node);
  if (detached) leave_terminal(plan->folder);
  wait_for_end_signal();
  let_second_signal_end_us();
  if (output.json()) output.line(cli::JsonObject().add("event", "stopping").text());
  Status stopped = (*node)->stop();
  plan->folder.remove_run();
  if (!stopped.ok()) return output.fail(stopped);
  if (output.json()) output.line(cli::JsonObject().add("event", "stopped").text());
  return kExitDone;
}

// A child of its own session runs the node; this process waits until it is ready or gone. No thread exists yet, so that
// a plain fork is safe.
int run_detached(const cli::UpOptions& options, const ProcessOutput& output) {
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return output.fail(kExitRefused, "STORAGE_ERROR", "cannot make a pipe");
  pid_t child = ::fork();
  if (child < 0) return output.fail(kExitRefused, "STORAGE_ERROR", "cannot start another process");
  if (child == 0) {
    ::setsid();
    ::dup2(pipe[1], STDOUT_FILENO);
    ::close(pipe[0]);
    ::close(pipe[1]);
    ::_exit(run_here(options, output, true));
  }
  ::close(pipe[1]);
  std::string ready;
  char buffer[4096];
  for (;;) {
    ssize_t got = ::read(pipe[0], buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    ready.append(buffer, static_cast<size_t>(got));
  }
  if (!ready.empty() || options.quiet) {
    int status = 0;
    if (ready.empty() && ::waitpid(child, &status, WNOHANG) == child)
      return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (!ready.empty()) output.line(ready.substr(0, ready.size() - 1));
    return kExitDone;
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : kExitRefused;
}

// --- down ---

bool ask(const std::string& question) {
  std::cerr << question << " [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes";
}

Status end_process(const RunningProcess& process, int64_t timeout_ms) {
  TRY(signal_process(process, SIGTERM));
  if (wait_for_end(process, timeout_ms)) return {};
  return Status(Errc::kBusy, "process " + std::to_string(process.pid) + " has not ended after " +
                                 std::to_string(timeout_ms / 1000) + " s; it goes on stopping");
}

}  // namespace

int run_up(const cli::UpOptions& given) {
  cli::UpOptions options = given;
  if (options.started_ns == 0) options.started_ns = now_ns();
  ProcessOutput output(options.json, options.quiet);
  return options.detach ? run_detached(options, output) : run_here(options, output, false);
}

int run_down(const cli::DownOptions& options) {
  ProcessOutput output(options.json, options.quiet);
  ClusterFolder folder(options.data);
  Result<std::optional<int>> nodes = folder.nodes();
  if (!nodes.ok()) return output.fail(nodes.status());
  if (!nodes->has_value()) {
    return output.fail(kExitNotFound, "NOT_FOUND", "no cluster in " + options.data + "; trilog up makes one");
  }
  std::optional<RunningProcess> process = folder.running();
  std::string what = process ? "process " + std::to_string(process->pid) : "nothing runs";
  if (options.wipe) {
    std::string target = options.data + ": " + what + ", " + std::to_string(folder.bytes()) + " bytes";
    output.hint("removes " + target);
    if (!options.dry_run && !options.yes) {
      if (::isatty(STDIN_FILENO) == 0)
        return output.fail(kExitUsage, "USAGE", "--wipe needs --yes when nobody can be asked");
      if (!ask("remove everything in " + options.data + "?"))
        return output.fail(kExitRefused, "USAGE", "nothing was removed");
    }
  }
  bool changed = process.has_value() || options.wipe;
  if (!options.dry_run) {
    if (process) {
      Status ended = end_process(*process, options.timeout_ms);
      if (!ended.ok()) return output.fail(ended);
    }
    // Killed, `up` cannot wait for its nodes; they end by themselves.
    for (int node = 1; node <= **nodes; ++node) {
      std::optional<RunningProcess> left = folder.running_node(node);
      if (left && !wait_for_end(*left, options.timeout_ms)) {
        return output.fail(kExitNotNow, "BUSY",
                           "node " + std::to_string(node) + " still runs, process " + std::to_string(left->pid));
      }
    }
    if (options.wipe) {
      Status removed = folder.remove();
      if (!removed.ok()) return output.fail(removed);
    }
  }
  if (output.json()) {
    output.line(cli::JsonObject()
                    .add("action", "down")
                    .add("name", options.data)
                    .add("changed", changed && !options.dry_run)
                    .text());
    return kExitDone;
  }
  std::string done =
      process ? (options.dry_run ? "would stop " : "stopped ") + what : "nothing runs in " + options.data;
  output.line(done + " · data " + options.data +
              (options.wipe ? (options.dry_run ? " would be removed" : " removed") : " kept"));
  return kExitDone;
}

}  // namespace trilog
