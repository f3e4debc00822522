#include "bench/loopback.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "bench/limit_support.h"

namespace trilog::bench {
namespace {

int without_delay(int fd) {
  int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
  return fd;
}

}  // namespace

size_t read_some(int fd, std::byte* to, size_t size) {
  for (;;) {
    ssize_t got = read(fd, to, size);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0 || errno != EINTR) die("read");
  }
}

void read_fully(int fd, void* to, size_t size) {
  for (size_t got = 0; got < size;) got += read_some(fd, static_cast<std::byte*>(to) + got, size - got);
}

void write_fully(int fd, const void* from, size_t size) {
  for (const auto* at = static_cast<const char*>(from); size > 0;) {
    ssize_t put = write(fd, at, size);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) die("write");
    at += put;
    size -= static_cast<size_t>(put);
  }
}

Listener listen_on_loopback() {
  Listener listener;
  listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  listener.address.sin_family = AF_INET;
  listener.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = reinterpret_cast<sockaddr*>(&listener.address);
  socklen_t size = sizeof listener.address;
  if (listener.fd < 0 || bind(listener.fd, address, size) != 0 || getsockname(listener.fd, address, &size) != 0 ||
      listen(listener.fd, 8) != 0) {
    die("listen");
  }
  return listener;
}

int accept_from(const Listener& listener) {
  const int fd = accept(listener.fd, nullptr, nullptr);
  if (fd < 0) die("accept");
  return without_delay(fd);
}

int connect_to(const Listener& listener) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&listener.address), sizeof listener.address) != 0) die("connect");
  return without_delay(fd);
}

}  // namespace trilog::bench
