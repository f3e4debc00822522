#include "broker/grpc/acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace trilog::grpc_edge {
namespace {

// A quarter is enough for segments that roll and files that are opened again; more than this no node needs at once.
constexpr size_t kReservedShare = 4;
constexpr size_t kReservedMax = 4'096;
constexpr int kAcceptsInARow = 64;  // of one listener, before the others get their turn
constexpr int kPauseMs = 100;       // when the system cannot give a connection and not even a spare descriptor helps
constexpr std::chrono::seconds kQuiet(10);

// Read each time: an operator may raise it for a running process.
size_t descriptor_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<size_t>(limit.rlim_cur) : SIZE_MAX;
}

int accept_from(int listener) { return ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); }

OwnedFd open_spare() { return OwnedFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

size_t reserved_descriptors(size_t limit) { return std::min(limit / kReservedShare, kReservedMax); }

Acceptor::Acceptor(Options options, HandOver hand_over)
    : options_(std::move(options)), hand_over_(std::move(hand_over)), connections_(options_.connections_max) {}

Acceptor::~Acceptor() { stop(); }

Status Acceptor::start(std::vector<OwnedFd> listeners, int closed_ms) {
  wake_ = OwnedFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  spare_ = open_spare();
  if (!wake_ || !spare_) return {Errc::kIo, std::string("cannot accept connections: ") + std::strerror(errno)};
  listeners_ = std::move(listeners);
  stopping_ = false;
  thread_ = std::thread([this, closed_ms] { run(closed_ms); });
  return {};
}

void Acceptor::open() {
  if (thread_.joinable()) wake();
}

void Acceptor::wake() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void Acceptor::stop() {
  if (thread_.joinable()) {
    stopping_ = true;
    wake();
    thread_.join();
  }
  listeners_.clear();
  wake_.reset();
  spare_.reset();
}

void Acceptor::run(int closed_ms) {
  std::vector<pollfd> waits{{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
  ::poll(waits.data(), 1, closed_ms);
  for (const OwnedFd& listener : listeners_) waits.push_back({.fd = listener.get(), .events = POLLIN, .revents = 0});
  bool pause = false;
  for (;;) {
    // Only the wake-up counts now: a listener with a backlog would be ready at once, again and again.
    if (pause) ::poll(waits.data(), 1, kPauseMs);
    pause = false;
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;
    if (waits[0].revents != 0) {
      uint64_t count = 0;
      [[maybe_unused]] ssize_t got = ::read(wake_.get(), &count, sizeof count);
    }
    if (stopping_) return;
    for (size_t i = 1; i < waits.size(); ++i) {
      if (waits[i].revents == 0) continue;
      Next next = Next::kAgain;
      for (int n = 0; n < kAcceptsInARow && next == Next::kAgain; ++n) next = accept_one(waits[i].fd);
      pause = pause || next == Next::kPause;
    }
  }
}

Acceptor::Next Acceptor::accept_one(int listener) {
  OwnedFd connection(accept_from(listener));
  if (!connection) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Next::kWait;
    if (errno == EMFILE || errno == ENFILE) return refuse_with_spare(listener);
    if (errno == ENOBUFS || errno == ENOMEM) {
      refuse(std::string("the system has no memory for it: ") + std::strerror(errno));
      return Next::kPause;
    }
    // Errors of the one connection, such as ECONNABORTED: it is gone, the next one may be well. What else there may be
    // must not make a loop that never waits.
    bool is_of_the_connection = errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == EPERM ||
                                errno == ENETDOWN || errno == ENETUNREACH || errno == EHOSTUNREACH ||
                                errno == EHOSTDOWN || errno == ENONET || errno == ENOPROTOOPT || errno == ETIMEDOUT;
    return is_of_the_connection ? Next::kAgain : Next::kPause;
  }
  if (!spare_) spare_ = open_spare();
  // The system gives the lowest free number: as long as no connection has one of the last numbers, nobody but the log
  // uses those, however many clients come.
  size_t limit = descriptor_limit();
  size_t reserved = reserved_descriptors(limit);
  if (static_cast<size_t>(connection.get()) >= limit - reserved) {
    refuse("all but " + std::to_string(reserved) + " of " + std::to_string(limit) +
           " descriptors are in use, and those are kept for the log; raise the limit of open files (ulimit -n, or "
           "LimitNOFILE= of systemd)");
  } else if (!connections_.add(connection.get())) {
    refuse("there are " + std::to_string(options_.connections_max) + ", the limit (connections_max)");
  } else {
    hand_over_(listener, std::move(connection));
  }
  return Next::kAgain;
}

// accept() looks for a descriptor before it looks for a connection, so there may be none.
Acceptor::Next Acceptor::refuse_with_spare(int listener) {
  spare_.reset();
  OwnedFd refused(accept_from(listener));
  int error = refused ? 0 : errno;
  refused.reset();
  spare_ = open_spare();  // another thread may be faster; then the next connection brings one
  if (error == EAGAIN || error == EWOULDBLOCK) return Next::kWait;
  refuse("all descriptors are in use; raise the limit of open files (ulimit -n, or LimitNOFILE= of systemd)");
  return error == 0 ? Next::kAgain : Next::kPause;
}

void Acceptor::refuse(const std::string& why) {
  ++refused_;
  auto now = std::chrono::steady_clock::now();
  if (now < quiet_until_) return;
  options_.log.warning("connection refused: ", why,
                       refused_ > 1 ? "; " + std::to_string(refused_) + " since the last such line" : std::string());
  refused_ = 0;
  quiet_until_ = now + kQuiet;
}

}  // namespace trilog::grpc_edge
