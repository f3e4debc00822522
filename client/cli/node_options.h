// What the command line hands to the commands that run or inspect a node itself. They are carried out in broker/, which
// the client does not know: main.cc gives their implementations to run_cli(). Every text is as the user typed it, only
// split into options; checking it is the command's work. Each command returns the exit code of the program.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace trilog::cli {

// What every command has.
struct CommonNodeOptions {
  bool json = false;
  bool quiet = false;
  // Where the clock stood when the program began (CLOCK_MONOTONIC), for "ready in 11 ms"; 0: now.
  int64_t started_ns = 0;
};

// trilog up: a cluster in a folder, for development.
struct UpOptions : CommonNodeOptions {
  std::optional<int> nodes;            // --nodes; absent: what the folder holds, else 1
  std::string data = "./trilog-data";  // --data
  std::string port;                    // --port: a number or "any"; empty: 9092
  std::vector<std::string> listen;     // --listen ADDRESS, instead of localhost
  bool insecure = false;               // --insecure: consent to a non-loopback --listen without TLS
  std::vector<std::string> topics;     // --topic NAME[:PARTITIONS], made before it is ready
  bool strict = false;                 // --strict: produce never creates a topic
  bool detach = false;                 // --detach: returns when ready
  std::vector<std::string> set;        // --set a.b=c
};

// trilog serve: one node of a cluster.
struct ServeOptions : CommonNodeOptions {
  std::string config;            // --config FILE; empty: only --set and the environment
  std::vector<std::string> set;  // --set a.b=c, wins over environment and file
  bool check = false;            // --check: says whether the configuration is good, and ends
};

// trilog down: ends what `up --detach` began.
struct DownOptions : CommonNodeOptions {
  std::string data = "./trilog-data";
  bool wipe = false;     // --wipe: removes the folder afterwards
  bool yes = false;      // --yes: without asking
  bool dry_run = false;  // --dry-run: only says what would happen
  int64_t timeout_ms = 30'000;
};

// trilog node: the processes of a cluster that `trilog up` started.
struct NodeOptions : CommonNodeOptions {
  enum class Action { kList, kKill, kStop, kStart, kPause, kResume };
  Action action = Action::kList;
  int node = 0;
  std::string data = "./trilog-data";
  int64_t timeout_ms = 30'000;
};

// trilog rescue: a catalogue for a cluster whose metadata is lost on all its nodes.
struct RescueOptions : CommonNodeOptions {
  // --data: folders of nodes, or one of `up`. The first gets the catalogue; of the others copies will do.
  std::vector<std::string> data;
  bool yes = false;      // --yes: without asking
  bool dry_run = false;  // --dry-run: only says what would happen
};

// trilog dump: shows files to a person.
struct DumpOptions : CommonNodeOptions {
  std::string path;      // a file, or a folder with such files
  bool records = false;  // --records: every record of a log, not only its batches
};

}  // namespace trilog::cli
