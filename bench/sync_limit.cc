// What a disk makes a synced record wait at least: --replicas N processes at once append --batch-kb to a file each and
// sync it, one append after the other, --total-mb in sum per process. Shown is how long an append with its sync took.
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "bench/limit_support.h"

namespace trilog::bench {
namespace {

void append_and_sync(const LimitOptions& options, int to) {
  const Bytes bytes = [&] {
    Bytes some(options.batch_bytes);
    std::memset(some.data(), 7, some.size());
    return some;
  }();
  ScratchFile file(options.directory);
  std::vector<double> took;
  for (uint64_t position = 0; position < std::max(options.total_bytes, bytes.size()); position += bytes.size()) {
    const double begin = now_seconds();
    write_at(file.fd(), bytes, position);
    if (fdatasync(file.fd()) != 0) die("fdatasync");
    took.push_back((now_seconds() - begin) * 1e6);
  }
  const auto* at = reinterpret_cast<const char*>(took.data());
  for (size_t left = took.size() * sizeof(double); left > 0;) {
    const ssize_t put = write(to, at, std::min<size_t>(left, PIPE_BUF));  // whole, among the others' samples
    if (put <= 0) die("write");
    at += put;
    left -= static_cast<size_t>(put);
  }
}

int run(int argc, char** argv) {
  LimitOptions options = parse_options(argc, argv, "sync_limit");
  options.sync = true;
  for (int round = 0; round < options.rounds; ++round) {
    Figure figure;
    figure.name =
        "sync of " + std::to_string(options.batch_bytes) + " bytes, " + std::to_string(options.replicas) + " writers";
    int ways[2];
    if (pipe(ways) != 0) die("pipe");
    const double begin = now_seconds();
    for (int writer = 0; writer < options.replicas; ++writer) {
      const pid_t child = fork();
      if (child < 0) die("fork");
      if (child > 0) continue;
      append_and_sync(options, ways[1]);
      std::exit(0);
    }
    close(ways[1]);
    double sample;
    while (read(ways[0], &sample, sizeof sample) == sizeof sample) figure.latencies_us.push_back(sample);
    close(ways[0]);
    for (int writer = 0; writer < options.replicas; ++writer) {
      int status = 0;
      if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return 1;
    }
    figure.seconds = now_seconds() - begin;
    figure.operations = figure.latencies_us.size();
    figure.bytes = figure.operations * options.batch_bytes;
    print(options, std::move(figure));
  }
  return 0;
}

}  // namespace
}  // namespace trilog::bench

int main(int argc, char** argv) { return trilog::bench::run(argc, argv); }
