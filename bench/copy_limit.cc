// The yardstick under every produce figure: the same bytes with nothing around them. One process sends record batches
// over loopback TCP; another reads each into a buffer, computes its CRC-32C, writes it to a file with pwrite and
// acknowledges it: at once, or with --sync after an fdatasync on a thread of its own that covers all that was written
// meanwhile. No broker that receives, checks and keeps the same bytes on this machine can be faster.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <memory>

#include "bench/limit_support.h"
#include "storage/record/record_batch.h"

namespace trilog::bench {
namespace {

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

void without_delay(int fd) {
  int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
}

struct Listener {
  int fd = -1;
  sockaddr_in address{};
};

Listener listen_on_loopback() {
  Listener listener;
  listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  listener.address.sin_family = AF_INET;
  listener.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = reinterpret_cast<sockaddr*>(&listener.address);
  socklen_t size = sizeof listener.address;
  if (listener.fd < 0 || bind(listener.fd, address, size) != 0 || getsockname(listener.fd, address, &size) != 0 ||
      listen(listener.fd, 1) != 0) {
    die("listen");
  }
  return listener;
}

// Small batches are read several at a time, as many as the socket has. Acknowledgements are running totals of eight
// bytes, so one may stand for several batches.
void receive_round(int socket, const LimitOptions& options, ScratchFile& file, Bytes& buffer, uint64_t batches) {
  auto acknowledge = [&](uint64_t count) { write_fully(socket, &count, sizeof count); };
  std::unique_ptr<GroupSync> sync;
  if (options.sync) sync = std::make_unique<GroupSync>(file.fd(), acknowledge);
  size_t filled = 0;
  uint64_t position = 0;
  for (uint64_t count = 0; count < batches;) {
    filled += read_some(socket, buffer.data() + filled, buffer.size() - filled);
    ByteView whole = buffer.view().first(filled);
    const uint64_t count_before = count;
    for (Result<RecordBatch> batch = RecordBatch::parse(whole); batch.ok(); batch = RecordBatch::parse(whole)) {
      if (!batch->crc_matches()) die("checksum");
      write_at(file.fd(), batch->bytes(), position);
      position += batch->size();
      whole = whole.subspan(batch->size());
      ++count;
    }
    if (!whole.empty()) std::memmove(buffer.data(), whole.data(), whole.size());
    filled = whole.size();
    if (count == count_before) continue;
    if (sync) {
      sync->written(count);
    } else {
      acknowledge(count);
    }
  }
}

Figure send_round(int socket, const LimitOptions& options, const Bytes& batch, uint64_t batches) {
  Figure figure;
  std::deque<double> sent_at;
  uint64_t sent = 0;
  uint64_t acknowledged = 0;
  const double begin = now_seconds();
  while (acknowledged < batches) {
    while (sent < batches && sent - acknowledged < static_cast<uint64_t>(options.window)) {
      sent_at.push_back(now_seconds());
      write_fully(socket, batch.data(), batch.size());
      ++sent;
    }
    uint64_t count = 0;
    read_fully(socket, &count, sizeof count);
    const double now = now_seconds();
    for (; acknowledged < count; ++acknowledged) {
      figure.latencies_us.push_back((now - sent_at.front()) * 1e6);
      sent_at.pop_front();
    }
  }
  figure.seconds = now_seconds() - begin;
  figure.operations = batches;
  figure.bytes = batches * batch.size();
  return figure;
}

int run(int argc, char** argv) {
  const LimitOptions options = parse_options(argc, argv, "copy_limit");
  const Bytes batch = make_limit_batch(options);
  const uint64_t batches = std::max<uint64_t>(1, options.total_bytes / batch.size());
  const Listener listener = listen_on_loopback();

  const pid_t receiver = fork();
  if (receiver < 0) die("fork");
  if (receiver == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int socket = accept(listener.fd, nullptr, nullptr);
    if (socket < 0) die("accept");
    without_delay(socket);
    ScratchFile file(options.directory);
    Bytes buffer(std::max<size_t>(batch.size(), 256 << 10));
    for (int round = 0; round < options.rounds; ++round) {
      file.clear();
      receive_round(socket, options, file, buffer, batches);
    }
    return 0;
  }

  const int to_receiver = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(to_receiver, reinterpret_cast<const sockaddr*>(&listener.address), sizeof listener.address) != 0) {
    die("connect");
  }
  without_delay(to_receiver);
  for (int round = 0; round < options.rounds; ++round) {
    Figure figure = send_round(to_receiver, options, batch, batches);
    char name[64];
    std::snprintf(name, sizeof name, "copy %zu KiB, window %d", options.batch_bytes >> 10, options.window);
    figure.name = name;
    print(options, std::move(figure));
  }
  int status = 0;
  waitpid(receiver, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace
}  // namespace trilog::bench

int main(int argc, char** argv) { return trilog::bench::run(argc, argv); }
