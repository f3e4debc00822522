// The program: the command line, with the commands that run or inspect a node.
#include <malloc.h>
#include <time.h>

#include "broker/dev_cluster.h"
#include "broker/dump.h"
#include "broker/node_command.h"
#include "broker/rescue.h"
#include "broker/serve.h"
#include "client/cli/cli.h"

int main(int argc, char** argv) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t started_ns = static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
  // A heap per thread would cost an idle broker megabytes.
  ::mallopt(M_ARENA_MAX, 2);
  // Buffers of pushes and requests come and go all the time. Given back to the system each time, every page of the next
  // one would be a fault: an eighth of the time of a busy broker.
  ::mallopt(M_MMAP_THRESHOLD, 2 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 4 << 20);
  trilog::cli::NodeCommands commands;
  commands.up = [started_ns](const trilog::cli::UpOptions& options) {
    trilog::cli::UpOptions timed = options;
    timed.started_ns = started_ns;
    return trilog::run_up(timed);
  };
  commands.serve = trilog::run_serve;
  commands.down = trilog::run_down;
  commands.node = trilog::run_node_command;
  commands.dump = trilog::run_dump;
  commands.rescue = trilog::run_rescue;
  return trilog::cli::run_cli(argc, argv, commands);
}
