#include "broker/node_supervisor.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "broker/data_folder.h"
#include "broker/node_process.h"
#include "broker/quorum/metadata_log.h"
#include "broker/runtime/shard_pool.h"
#include "broker/runtime/stderr_log.h"

namespace trilog {
namespace {

constexpr int64_t kStopLimitMs = 30'000;  // for clean stops, then SIGKILL
constexpr int64_t kStartLimitMs = 60'000;

int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000 + now.tv_nsec / 1'000'000;
}

std::string bracketed(const std::string& host) {
  return host.find(':') != std::string::npos && host.front() != '[' ? "[" + host + "]" : host;
}

// The last thing a node said, for whoever wonders why it ended: the message of an error, or the line as it is.
std::string last_words(const std::string& log_path) {
  std::ifstream file(log_path);
  std::string last;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) last = std::move(line);
  }
  constexpr std::string_view kMessage = "\"message\":\"";
  size_t begin = last.find(kMessage);
  size_t end = last.find("\",\"retriable\"");
  if (begin == std::string::npos || end == std::string::npos) return last;
  begin += kMessage.size();
  return last.substr(begin, end - begin);
}

class Supervisor {
 public:
  Supervisor(const ClusterPlan& plan, const cli::UpOptions& options, const ProcessOutput& output)
      : plan_(plan), options_(options), output_(output), nodes_(static_cast<size_t>(plan.nodes)) {}
  ~Supervisor() {
    if (signals_ >= 0) ::close(signals_);
  }
  int run(const std::function<void()>& on_ready);

 private:
  enum class State { kDown, kStarting, kUp, kPaused };
  struct Slot {
    NodeProcess process;
    State state = State::kDown;
    int exit_code = 0;
    int64_t started_ms = 0;
    bool asked_for = false;  // by `node start`, so its return is told
  };
  int number_of(const Slot& slot) const { return static_cast<int>(&slot - nodes_.data()) + 1; }
  std::string address_of(const Slot& slot) const {
    return bracketed(plan_.listen.front()) + ":" +
           std::to_string(plan_.client_ports[static_cast<size_t>(number_of(slot)) - 1]);
  }
  std::vector<std::string> arguments_of(const Slot& slot) const;

  Status take_signals();
  Status make_folders();
  Status start(Slot& slot);
  int wait_until_ready();
  int create_topics();
  void print_ready();
  // Waits for something to happen, at most so long; true if we are to end.
  bool step(int64_t limit_ms);
  bool on_signals();
  void on_output(Slot& slot);
  void on_children();
  void on_ended(Slot& slot, int status);
  void on_start_requests();
  void tell(const Slot& slot, const char* event, const std::string& text);
  int stop_all(int result);
  bool any(State state) const;
  size_t count(State state) const;

  const ClusterPlan& plan_;
  const cli::UpOptions& options_;
  const ProcessOutput& output_;
  std::vector<Slot> nodes_;
  int signals_ = -1;
  bool ready_ = false;
  bool stopping_ = false;
};

bool Supervisor::any(State state) const { return count(state) > 0; }
size_t Supervisor::count(State state) const {
  size_t count = 0;
  for (const Slot& slot : nodes_) count += slot.state == state ? 1 : 0;
  return count;
}

// --- start -----------------------------------------------------------------------------------------------------------

Status Supervisor::take_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGCHLD, SIGUSR1}) ::sigaddset(&set, number);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals_ < 0) return {Errc::kIo, "cannot wait for signals"};
  return {};
}

// Every node's folder knows the cluster and its own id before any of them starts, so that they form the same one.
Status Supervisor::make_folders() {
  TRY(plan_.folder.create(plan_.nodes, true));
  {
    // Its threads are gone when processes are started.
    ShardPool pool({.shards = 1, .io_threads_max = 1, .log = make_stderr_logger(LogLevel::kWarning)});
    Env& env = *pool.envs()[0];
    ClusterId cluster(env.random().next(), env.random().next());
    std::vector<Voter> voters;
    for (int node = 1; node <= plan_.nodes; ++node) {
      FolderIdentity identity = TRY(DataFolder::make(env, plan_.folder.node_path(node), BrokerId(node), cluster));
      cluster = identity.cluster;  // left halfway by an earlier start: it goes on with the same
      voters.push_back({identity.node, identity.directory});
    }
    for (int node = 1; node <= plan_.nodes; ++node) {
      TRY(MetadataLog::write_voters(env, plan_.folder.node_path(node) + "/metadata", cluster, voters));
    }
  }
  return plan_.folder.create(plan_.nodes, false);
}

std::vector<std::string> Supervisor::arguments_of(const Slot& slot) const {
  int node = number_of(slot);
  std::string peers;
  for (int peer = 1; peer <= plan_.nodes; ++peer) {
    peers += (peer == 1 ? "" : ",") + std::to_string(peer) +
             "@127.0.0.1:" + std::to_string(plan_.peer_ports[static_cast<size_t>(peer) - 1]);
  }
  std::vector<std::string> arguments = {"serve", "--json"};
  auto set = [&arguments](const std::string& name, const std::string& value) {
    arguments.insert(arguments.end(), {"--set", name + "=" + value});
  };
  set("auto_create_topics", plan_.broker.auto_create_topics ? "true" : "false");
  set("default_partitions", std::to_string(plan_.broker.default_partitions));
  for (const std::string& text : options_.set) arguments.insert(arguments.end(), {"--set", text});
  if (!plan_.broker.insecure.empty()) set("insecure", plan_.broker.insecure);
  set("node_id", std::to_string(node));
  set("data_dir", plan_.folder.node_path(node));
  set("listen", address_of(slot));
  set("advertise", "");
  set("peers", peers);
  set("peer_listen", "");
  return arguments;
}

Status Supervisor::start(Slot& slot) {
  int node = number_of(slot);
  slot.process = TRY(NodeProcess::start(arguments_of(slot), plan_.folder.node_log_path(node)));
  slot.state = State::kStarting;
  slot.started_ms = now_ms();
  return plan_.folder.write_node_run(node, slot.process.pid(), address_of(slot), false);
}

// Until each is ready or has ended. A majority must be ready.
int Supervisor::wait_until_ready() {
  int64_t end = now_ms() + kStartLimitMs;
  while (any(State::kStarting) && now_ms() < end) {
    if (step(end - now_ms())) return stop_all(128 + SIGTERM);
  }
  bool majority = 2 * count(State::kUp) > nodes_.size();
  for (const Slot& slot : nodes_) {
    // What the user can put right is said at once; a damaged node must not keep the others from working.
    bool user_can_help = slot.exit_code == kExitUsage || slot.exit_code == kExitNotNow;
    if (slot.state == State::kUp || (majority && !user_can_help)) continue;
    std::string why =
        (slot.state == State::kStarting ? "is not ready after " + std::to_string(kStartLimitMs / 1000) + " s: "
                                        : "ended: ") +
        last_words(plan_.folder.node_log_path(number_of(slot)));
    (void)output_.fail(slot.exit_code, slot.exit_code == kExitNotNow ? "BUSY" : "NODE_ENDED",
                       "node " + std::to_string(number_of(slot)) + " " + why);
    return stop_all(slot.exit_code > 0 ? slot.exit_code : kExitRefused);
  }
  return kExitDone;
}

int Supervisor::create_topics() {
  for (const TopicWanted& topic : plan_.topics) {
    std::vector<std::string> arguments = {"topic", "create", topic.name, "--if-not-exists", "--quiet"};
    if (topic.partitions > 0) arguments.insert(arguments.end(), {"--partitions", std::to_string(topic.partitions)});
    std::string servers;
    for (const Slot& slot : nodes_) {
      if (slot.state == State::kUp) servers += (servers.empty() ? "" : ",") + address_of(slot);
    }
    arguments.insert(arguments.end(), {"--server", servers});
    int code = run_program(arguments);
    if (code != 0) return code < 0 ? kExitRefused : code;
  }
  return kExitDone;
}

void Supervisor::print_ready() {
  int64_t ready_ms = now_ms() - options_.started_ns / 1'000'000;
  std::vector<std::string> addresses;
  std::vector<cli::JsonObject> nodes;
  std::string listening;
  std::string down;
  for (const Slot& slot : nodes_) {
    bool is_up = slot.state == State::kUp;
    if (!is_up)
      down += "\n  node " + std::to_string(number_of(slot)) + " is down    trilog node start " +
              std::to_string(number_of(slot)) + " --data " + plan_.folder.path();
    if (is_up) addresses.push_back(address_of(slot));
    if (is_up) listening += (listening.empty() ? "" : " ") + address_of(slot);
    nodes.emplace_back();
    nodes.back().add("node_id", number_of(slot)).add("address", address_of(slot));
    nodes.back().add("pid", is_up ? std::optional<int64_t>(slot.process.pid()) : std::nullopt);
  }
  if (output_.json()) {
    cli::JsonObject ready;
    ready.add("event", "ready").add("addresses", addresses).add("nodes", std::move(nodes));
    ready.add("data_dir", plan_.folder.path()).add("ready_ms", ready_ms);
    return output_.line(ready.text());
  }
  std::string server = plan_.client_ports.front() == kDefaultClientPort ? "" : " --server " + addresses.front();
  output_.line("ready in " + std::to_string(ready_ms) + " ms · " + std::to_string(addresses.size()) + " of " +
               std::to_string(nodes_.size()) + " nodes · data " + plan_.folder.path() + (plan_.is_new ? " (new)" : "") +
               " · synced on " + std::to_string(plan_.nodes / 2 + 1) + " nodes or more before every ack\n" +
               "  listening      " + listening + " (gRPC)" + down + "\n" +
               "  next           trilog produce orders '{\"id\":17}' --key 17" + server);
}

// --- events ----------------------------------------------------------------------------------------------------------

bool Supervisor::step(int64_t limit_ms) {
  std::vector<pollfd> polled = {{.fd = signals_, .events = POLLIN, .revents = 0}};
  for (const Slot& slot : nodes_) polled.push_back({.fd = slot.process.output(), .events = POLLIN, .revents = 0});
  int timeout = limit_ms < 0 ? -1 : static_cast<int>(std::min<int64_t>(limit_ms, kStartLimitMs));
  if (::poll(polled.data(), polled.size(), timeout) <= 0) return false;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (polled[i + 1].revents != 0) on_output(nodes_[i]);
  }
  return polled[0].revents != 0 && on_signals();
}

bool Supervisor::on_signals() {
  bool ends = false;
  signalfd_siginfo info{};
  while (::read(signals_, &info, sizeof info) == sizeof info) {
    ends |= info.ssi_signo == SIGINT || info.ssi_signo == SIGTERM;
  }
  // Whatever order they came in: who stops a node and starts it again has seen its end.
  on_children();
  on_start_requests();
  return ends;
}

// The first line of a node is that it is ready.
void Supervisor::on_output(Slot& slot) {
  std::vector<std::string> lines = slot.process.read_lines();
  if (slot.state != State::kStarting || lines.empty()) return;
  slot.state = State::kUp;
  Status written = plan_.folder.write_node_run(number_of(slot), slot.process.pid(), address_of(slot), true);
  if (!written.ok()) output_.hint(written.message());
  if (!std::exchange(slot.asked_for, false)) return;
  tell(slot, "node_up",
       "is up · pid " + std::to_string(slot.process.pid()) + " · ready in " +
           std::to_string(now_ms() - slot.started_ms) + " ms");
}

void Supervisor::on_children() {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0;) {
    for (Slot& slot : nodes_) {
      if (slot.process.pid() != pid) continue;
      if (WIFSTOPPED(status)) {
        if (slot.state == State::kUp) slot.state = State::kPaused;
        tell(slot, "node_paused", "is paused · go on: trilog node resume");
      } else if (WIFCONTINUED(status)) {
        if (slot.state == State::kPaused) slot.state = State::kUp;
        if (!stopping_) tell(slot, "node_resumed", "goes on");
      } else {
        on_ended(slot, status);
      }
    }
  }
}

void Supervisor::on_ended(Slot& slot, int status) {
  plan_.folder.remove_node_run(number_of(slot));
  bool was_starting = slot.state == State::kStarting;
  slot.state = State::kDown;
  slot.process = NodeProcess();
  slot.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (stopping_ || (was_starting && !ready_)) return;
  std::string how = WIFSIGNALED(status)   ? "was killed (signal " + std::to_string(WTERMSIG(status)) + ")"
                    : slot.exit_code == 0 ? "was stopped"
                                          : "ended with exit code " + std::to_string(slot.exit_code) + ": " +
                                                last_words(plan_.folder.node_log_path(number_of(slot)));
  slot.asked_for = false;
  tell(slot, "node_down", how + " · start it again: trilog node start");
}

void Supervisor::on_start_requests() {
  for (Slot& slot : nodes_) {
    int node = number_of(slot);
    if (!plan_.folder.is_asked_to_start(node)) continue;
    // Its process has let go of the folder and is about to end: that comes first.
    const bool runs = slot.state == State::kUp || slot.state == State::kPaused;
    if (runs && !stopping_ && !plan_.folder.running_node(node)) continue;
    if (slot.state == State::kDown && !stopping_) {
      slot.asked_for = true;
      Status started = start(slot);
      if (!started.ok()) output_.hint(started.message());
    }
    plan_.folder.take_start_request(node);
  }
}

void Supervisor::tell(const Slot& slot, const char* event, const std::string& text) {
  int node = number_of(slot);
  if (output_.json()) {
    cli::JsonObject object;
    object.add("event", event).add("node_id", node).add("address", address_of(slot));
    object.add("pid", slot.state == State::kDown ? std::nullopt : std::optional<int64_t>(slot.process.pid()));
    return output_.line(object.text());
  }
  bool names_command = text.find("trilog node") != std::string::npos;
  output_.line("node " + std::to_string(node) + " " + text +
               (names_command ? " " + std::to_string(node) + " --data " + plan_.folder.path() : ""));
}

// --- end -------------------------------------------------------------------------------------------------------------

int Supervisor::stop_all(int result) {
  stopping_ = true;
  auto signal_all = [this](int number) {
    for (const Slot& slot : nodes_) {
      if (slot.state != State::kDown) ::kill(slot.process.pid(), number);
    }
  };
  if (output_.json() && ready_) output_.line(cli::JsonObject().add("event", "stopping").text());
  // Our own children: their numbers mean nobody else until they are waited for.
  signal_all(SIGTERM);
  signal_all(SIGCONT);
  bool killed = false;
  int64_t end = now_ms() + kStopLimitMs;
  while (count(State::kDown) < nodes_.size()) {
    // A second signal means: at once.
    if (!step(std::max<int64_t>(end - now_ms(), 0)) && now_ms() < end) continue;
    if (std::exchange(killed, true)) continue;
    output_.hint("not all nodes have stopped cleanly; they are killed, and recover at the next start");
    signal_all(SIGKILL);
    end = now_ms() + kStopLimitMs;
  }
  plan_.folder.remove_run();
  if (output_.json() && ready_) output_.line(cli::JsonObject().add("event", "stopped").text());
  return result == kExitDone && killed ? kExitRefused : result;
}

int Supervisor::run(const std::function<void()>& on_ready) {
  Status prepared = take_signals();
  if (prepared.ok() && plan_.is_new) prepared = plan_.folder.create(plan_.nodes, true);
  if (prepared.ok()) prepared = plan_.folder.lock();
  if (prepared.ok() && plan_.folder.is_forming()) prepared = make_folders();
  if (!prepared.ok()) return output_.fail(prepared);
  for (Slot& slot : nodes_) {
    plan_.folder.take_start_request(number_of(slot));
    Status started = start(slot);
    if (!started.ok()) return stop_all(output_.fail(started));
  }
  int code = wait_until_ready();
  if (code != kExitDone || stopping_) return code;
  code = create_topics();
  if (code != kExitDone) return stop_all(code);
  std::vector<std::string> addresses;
  for (const Slot& slot : nodes_) addresses.push_back(address_of(slot));
  Status written = plan_.folder.write_run(addresses);
  if (!written.ok()) return stop_all(output_.fail(written));
  if (!plan_.broker.insecure.empty()) {
    output_.hint("warning: without TLS and passwords, anyone who reaches " + plan_.listen.front() +
                 " can read and write everything");
  }
  print_ready();
  ready_ = true;
  on_ready();
  while (!step(-1)) {
  }
  return stop_all(kExitDone);
}

}  // namespace

int run_nodes(const ClusterPlan& plan, const cli::UpOptions& options, const ProcessOutput& output,
              const std::function<void()>& on_ready) {
  return Supervisor(plan, options, output).run(on_ready);
}

}  // namespace trilog
