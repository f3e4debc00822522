// The actors of chaos_client: each a thread that does one thing over and over through the C++ client or plain gRPC, and
// records what it was told. None gives up on errors: they are recorded, and the next try follows.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/e2e/chaos/recorder.h"
#include "tests/history/history.h"

namespace trilog::chaos {

struct TopicShape {
  std::string name;
  int32_t partitions = 1;
};

struct Workload {
  std::vector<std::string> servers;
  std::vector<TopicShape> topics;
  uint64_t seed = 1;
  int64_t rate = 300;  // records a second of each producer
  int idempotent = 3;  // producers of each kind
  int plain = 1;       // acks all without idempotence: each record sent once
  int leader = 1;      // acks leader
  bool readers = true;
  bool changers = true;
  int64_t delivery_timeout_ms = 30'000;
};

// What every actor shares.
struct Stage {
  const Workload& workload;
  Recorder& recorder;
  std::atomic<bool> over{false};
  std::atomic<uint64_t> next_token{1};

  // Until the time has passed, or the run is over.
  void rest(int64_t ms) const;
};

history::Outcome outcome_of(const client::Error& error);
// A client whose first server is the `first`th; alone: that is the only one.
std::unique_ptr<client::Client> connect(const Workload& workload, size_t first, bool alone, int64_t timeout_ms);

struct ProducerKind {
  std::string name;
  history::Acks acks = history::Acks::kAll;
  bool idempotent = true;
};
// Sends keyed records at the workload's rate, to all topics in turn; when the run is over it waits for the answers.
void run_producer(Stage& stage, const ProducerKind& kind, size_t number);
// Fetches from one server by plain calls: every partition from its start, sometimes again from an older place.
void run_fetcher(Stage& stage, size_t server);
// Consumes with a group and commits; every few seconds it is replaced by a new one, on another server.
void run_group(Stage& stage, size_t number);
// Commits rising offsets without membership and reads them back, each on any server.
void run_committer(Stage& stage);
// Creates and deletes topics.
void run_topic_changer(Stage& stage);

// Reads every partition from its first record to its end, and lists topics and committed offsets. False if that failed.
bool record_final_state(const Workload& workload, Recorder& recorder);

}  // namespace trilog::chaos
