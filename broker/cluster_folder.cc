#include "broker/cluster_folder.h"

#include <dirent.h>
#include <unistd.h>

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

}  // namespace

std::optional<uint64_t> process_start_time(pid_t pid) {
  std::optional<std::string> stat = read_text("/proc/" + std::to_string(pid) + "/stat");
  if (!stat) return std::nullopt;
  // The name in parentheses may hold anything; after it, start time is the 20th field.
  size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(stat->substr(name_end + 1));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;
  uint64_t start_time = 0;
  std::istringstream(field) >> start_time;
  return start_time;
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

Status ClusterFolder::create(int nodes) const {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) return {Errc::kPermission, "cannot make the folder " + path_ + ": " + error.message()};
  std::ofstream file(path_ + "/cluster", std::ios::trunc);
  file << "nodes " << nodes << "\n";
  file.close();
  if (!file) return {Errc::kIo, "cannot write " + path_ + "/cluster"};
  return {};
}

Status ClusterFolder::write_run(const std::vector<std::string>& addresses) const {
  std::string temporary = path_ + "/run.new";
  std::ofstream file(temporary, std::ios::trunc);
  file << ::getpid() << " " << process_start_time(::getpid()).value_or(0) << "\n";
  for (const std::string& address : addresses) file << address << "\n";
  file.close();
  std::error_code error;
  if (file) fs::rename(temporary, path_ + "/run", error);
  if (!file || error) return {Errc::kIo, "cannot write " + path_ + "/run"};
  return {};
}

void ClusterFolder::remove_run() const { ::unlink((path_ + "/run").c_str()); }

std::optional<RunningProcess> ClusterFolder::running() const {
  std::optional<std::string> text = read_text(path_ + "/run");
  if (!text) return std::nullopt;
  std::istringstream lines(*text);
  RunningProcess process;
  lines >> process.pid >> process.start_time;
  if (!lines || process.pid <= 1 || process_start_time(process.pid) != process.start_time) return std::nullopt;
  if (!has_open(process.pid, node_path(1) + "/lock")) return std::nullopt;
  std::string address;
  while (lines >> address) process.addresses.push_back(address);
  return process;
}

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
