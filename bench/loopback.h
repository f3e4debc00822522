// TCP over loopback for the yardsticks: blocking, whole runs of bytes, an end of the program on the first failure.
#pragma once

#include <netinet/in.h>

#include <cstddef>

namespace trilog::bench {

// At least one byte.
size_t read_some(int fd, std::byte* to, size_t size);
void read_fully(int fd, void* to, size_t size);
void write_fully(int fd, const void* from, size_t size);

struct Listener {
  int fd = -1;
  sockaddr_in address{};
};
Listener listen_on_loopback();
// Both without delay (TCP_NODELAY).
int accept_from(const Listener& listener);
int connect_to(const Listener& listener);

}  // namespace trilog::bench
