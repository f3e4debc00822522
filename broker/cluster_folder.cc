#include "broker/cluster_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace trilog {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Whether the process has `path` open.
bool has_open(pid_t pid, const fs::path& path) {
  std::error_code error;
  fs::path wanted = fs::canonical(path, error);
  if (error) return false;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    std::error_code ignored;
    if (fs::read_symlink(entry.path(), ignored) == wanted) return true;
  }
  return false;
}

// The fields of /proc/PID/stat behind the name, which stands in parentheses and may hold anything.
std::vector<std::string> process_fields(pid_t pid) {
  std::optional<std::string> stat = read_text("/proc/" + std::to_string(pid) + "/stat");
  size_t name_end = stat ? stat->rfind(')') : std::string::npos;
  if (name_end == std::string::npos) return {};
  std::istringstream fields(stat->substr(name_end + 1));
  std::vector<std::string> all;
  for (std::string field; fields >> field;) all.push_back(field);
  return all;
}
constexpr size_t kStateField = 0;
constexpr size_t kStartTimeField = 19;

// "PID START", then words. Nothing if that process is not there any more.
std::optional<RunningProcess> read_run(const std::string& path) {
  std::optional<std::string> text = read_text(path);
  if (!text) return std::nullopt;
  std::istringstream lines(*text);
  RunningProcess process;
  lines >> process.pid >> process.start_time;
  if (!lines || process.pid <= 1 || process_start_time(process.pid) != process.start_time) return std::nullopt;
  std::vector<std::string> fields = process_fields(process.pid);
  if (fields.empty() || fields[kStateField] == "Z") return std::nullopt;
  process.paused = fields[kStateField] == "T";
  for (std::string word; lines >> word;) process.addresses.push_back(word);
  return process;
}

Status write_run_file(const std::string& path, pid_t pid, const std::vector<std::string>& words) {
  std::string temporary = path + ".new";
  std::ofstream file(temporary, std::ios::trunc);
  file << pid << " " << process_start_time(pid).value_or(0) << "\n";
  for (const std::string& word : words) file << word << "\n";
  file.close();
  std::error_code error;
  if (file) fs::rename(temporary, path, error);
  if (!file || error) return {Errc::kIo, "cannot write " + path};
  return {};
}

int open_process(const RunningProcess& process) {
  int fd = static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0));
  if (fd >= 0 && process_start_time(process.pid) != process.start_time) {
    ::close(fd);
    return -1;
  }
  return fd;
}

}  // namespace

std::optional<uint64_t> process_start_time(pid_t pid) {
  std::vector<std::string> fields = process_fields(pid);
  if (fields.size() <= kStartTimeField) return std::nullopt;
  uint64_t start_time = 0;
  std::istringstream(fields[kStartTimeField]) >> start_time;
  return start_time;
}

Status signal_process(const RunningProcess& process, int signal) {
  int fd = open_process(process);
  if (fd < 0) return {};
  long sent = ::syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0);
  int error = errno;
  ::close(fd);
  if (sent == 0 || error == ESRCH) return {};
  return {Errc::kPermission, "process " + std::to_string(process.pid) + " cannot be signalled"};
}

bool wait_for_end(const RunningProcess& process, int64_t timeout_ms) {
  int fd = open_process(process);
  if (fd < 0) return true;
  pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
  int ended = ::poll(&wait, 1, static_cast<int>(timeout_ms));
  ::close(fd);
  return ended > 0;
}

Result<std::optional<int>> ClusterFolder::nodes() const {
  std::error_code error;
  if (!fs::exists(path_, error)) return std::optional<int>();
  if (!fs::is_directory(path_, error)) return Status(Errc::kInvalidArgument, path_ + " is not a folder");
  std::optional<std::string> text = read_text(path_ + "/cluster");
  if (text) {
    int nodes = 0;
    std::string word;
    std::istringstream(*text) >> word >> nodes;
    if (word == "nodes" && nodes > 0) return std::optional<int>(nodes);
    return Status(Errc::kCorruption, path_ + "/cluster is damaged: it should say how many nodes there are");
  }
  fs::directory_iterator entries(path_, error);
  if (error) return Status(Errc::kPermission, "cannot read " + path_ + ": " + error.message());
  if (entries != fs::directory_iterator()) {
    return Status(Errc::kInvalidArgument,
                  path_ + " holds other files and was not made by trilog up; give another --data");
  }
  return std::optional<int>();
}

bool ClusterFolder::is_forming() const {
  std::optional<std::string> text = read_text(path_ + "/cluster");
  return !text || text->find("forming") != std::string::npos;
}

Status ClusterFolder::create(int nodes, bool forming) const {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) return {Errc::kPermission, "cannot make the folder " + path_ + ": " + error.message()};
  std::ofstream file(path_ + "/cluster", std::ios::trunc);
  file << "nodes " << nodes << (forming ? " forming\n" : "\n");
  file.close();
  if (!file) return {Errc::kIo, "cannot write " + path_ + "/cluster"};
  return {};
}

Status ClusterFolder::lock() const {
  std::string path = path_ + "/lock";
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return {Errc::kPermission, "cannot open " + path};
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return {};  // until the process ends
  ::close(fd);
  std::optional<RunningProcess> process = running();
  return {Errc::kBusy, path_ + " is in use" + (process ? " by process " + std::to_string(process->pid) : "")};
}

// --- processes -------------------------------------------------------------------------------------------------------

Status ClusterFolder::write_run(const std::vector<std::string>& addresses) const {
  return write_run_file(path_ + "/run", ::getpid(), addresses);
}

void ClusterFolder::remove_run() const { ::unlink((path_ + "/run").c_str()); }

std::optional<RunningProcess> ClusterFolder::running() const {
  std::optional<RunningProcess> process = read_run(path_ + "/run");
  if (process && !has_open(process->pid, path_ + "/lock") && !has_open(process->pid, node_path(1) + "/lock")) return {};
  return process;
}

Status ClusterFolder::write_node_run(int node, pid_t pid, const std::string& address, bool ready) const {
  return write_run_file(path_ + "/run-" + std::to_string(node), pid, {ready ? "ready" : "starting", address});
}

void ClusterFolder::remove_node_run(int node) const { ::unlink((path_ + "/run-" + std::to_string(node)).c_str()); }

bool ClusterFolder::has_node_run(int node) const {
  return ::access((path_ + "/run-" + std::to_string(node)).c_str(), F_OK) == 0;
}

std::optional<RunningProcess> ClusterFolder::running_node(int node) const {
  Result<std::optional<int>> count = nodes();
  // One node is the process of `up` itself.
  if (count.ok() && *count == 1) return node == 1 ? running() : std::nullopt;
  std::optional<RunningProcess> process = read_run(path_ + "/run-" + std::to_string(node));
  if (!process || process->addresses.size() != 2 || !has_open(process->pid, node_path(node) + "/lock")) return {};
  process->ready = process->addresses[0] == "ready";
  process->addresses.erase(process->addresses.begin());
  return process;
}

Status ClusterFolder::ask_to_start(int node) const {
  std::string path = path_ + "/start-" + std::to_string(node);
  std::ofstream file(path, std::ios::trunc);
  file.close();
  if (!file) return {Errc::kPermission, "cannot write " + path};
  return {};
}

bool ClusterFolder::is_asked_to_start(int node) const {
  return ::access((path_ + "/start-" + std::to_string(node)).c_str(), F_OK) == 0;
}

void ClusterFolder::take_start_request(int node) const { ::unlink((path_ + "/start-" + std::to_string(node)).c_str()); }

uint64_t ClusterFolder::bytes() const {
  uint64_t sum = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(path_, error), end; entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) sum += entry->file_size(ignored);
  }
  return sum;
}

Status ClusterFolder::remove() const {
  std::error_code error;
  fs::remove_all(path_, error);
  if (error) return {Errc::kPermission, "cannot remove " + path_ + ": " + error.message()};
  return {};
}

}  // namespace trilog
