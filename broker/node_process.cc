#include "broker/node_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace trilog {
namespace {

constexpr size_t kLineBytesMax = size_t{64} << 10;

// In the child, until exec: only what may be called after a fork.
[[noreturn]] void become_program(std::vector<char*>& arguments, int output, int errors) {
  int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output >= 0 ? output : nothing, STDOUT_FILENO);
  if (errors >= 0) ::dup2(errors, STDERR_FILENO);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv("/proc/self/exe", arguments.data());
  ::_exit(127);
}

std::vector<char*> as_argv(std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  return argv;
}

Status system_error(const std::string& what) { return {Errc::kIo, what + ": " + std::strerror(errno)}; }

}  // namespace

NodeProcess::~NodeProcess() {
  if (output_ >= 0) ::close(output_);
}

NodeProcess::NodeProcess(NodeProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::exchange(other.output_, -1)),
      unfinished_(std::move(other.unfinished_)) {}

NodeProcess& NodeProcess::operator=(NodeProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  std::swap(unfinished_, other.unfinished_);
  return *this;
}

Result<NodeProcess> NodeProcess::start(const std::vector<std::string>& arguments, const std::string& error_path) {
  std::vector<std::string> all = arguments;
  all.insert(all.begin(), "trilog");
  std::vector<char*> argv = as_argv(all);
  int errors = ::open(error_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (errors < 0) return system_error("cannot open " + error_path);
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) {
    ::close(errors);
    return system_error("cannot make a pipe");
  }
  pid_t parent = ::getpid();
  NodeProcess process;
  process.pid_ = ::fork();
  if (process.pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);  // it died before this was set
    ::setpgid(0, 0);
    become_program(argv, pipe[1], errors);
  }
  ::close(pipe[1]);
  ::close(errors);
  process.output_ = pipe[0];
  if (process.pid_ < 0) return system_error("cannot start another process");
  ::fcntl(pipe[0], F_SETFL, O_NONBLOCK);
  return process;
}

std::vector<std::string> NodeProcess::read_lines() {
  char buffer[4096];
  while (output_ >= 0) {
    ssize_t got = ::read(output_, buffer, sizeof buffer);
    if (got > 0) {
      if (unfinished_.size() < kLineBytesMax) unfinished_.append(buffer, static_cast<size_t>(got));
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) ::close(std::exchange(output_, -1));
    break;
  }
  std::vector<std::string> lines;
  for (size_t end = 0; (end = unfinished_.find('\n')) != std::string::npos;) {
    lines.push_back(unfinished_.substr(0, end));
    unfinished_.erase(0, end + 1);
  }
  return lines;
}

int run_program(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = arguments;
  all.insert(all.begin(), "trilog");
  std::vector<char*> argv = as_argv(all);
  pid_t child = ::fork();
  if (child == 0) become_program(argv, -1, -1);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

}  // namespace trilog
