#include "tests/history/model_cluster.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <utility>

namespace trilog::history {
namespace {

constexpr int64_t kStepNs = 10;
constexpr int64_t kLongestWaitNs = 60;  // before and after the moment at which an operation takes effect
constexpr size_t kReplicas = 3;
constexpr size_t kPollMax = 20;

struct Log {
  Partition name;
  int64_t start = 0;
  std::vector<Record> records;  // all that were ever there and were not lost; from 0
  int64_t end() const { return static_cast<int64_t>(records.size()); }
  std::vector<Record> read(int64_t from, size_t count_max) const {
    const auto begin = records.begin() + from;
    return {begin, begin + std::min<int64_t>(static_cast<int64_t>(count_max), end() - from)};
  }
};

struct Client {
  std::string name;
  int64_t free_at = 0;
};

// Where one consumer is in one partition.
struct Position {
  int64_t offset = 0;
  int32_t session = 0;
};

class ModelCluster {
 public:
  explicit ModelCluster(const ModelOptions& options) : options_(options), random_(options.seed) {
    for (int32_t i = 0; i < options.partitions; ++i) logs_.push_back({{"orders", i}, 0, {}});
    for (const char* name : {"producer-a", "producer-b", "producer-c"}) producers_.push_back({name});
    for (const char* name : {"consumer-a", "consumer-b", "consumer-c"}) consumers_.push_back({name});
    positions_.resize(consumers_.size(), std::vector<Position>(logs_.size()));
    committed_.resize(logs_.size(), -1);
  }

  History run() {
    for (size_t i = 0; i < options_.operations; ++i) step();
    finish();
    return std::move(history_);
  }

 private:
  uint64_t below(uint64_t bound) { return random_() % bound; }
  bool one_in(uint64_t bound) { return below(bound) == 0; }
  Log& any_log() { return logs_[below(logs_.size())]; }

  // An operation of a client that takes effect now.
  template <typename Kind>
  Kind by(Client& client) {
    now_ = std::max(now_ + kStepNs, client.free_at);
    Kind operation;
    operation.client = client.name;
    operation.invoked_ns = std::max(client.free_at, now_ - static_cast<int64_t>(below(kLongestWaitNs)));
    operation.answered_ns = now_ + static_cast<int64_t>(below(kLongestWaitNs));
    client.free_at = operation.answered_ns + 1;
    return operation;
  }

  void step() {
    const uint64_t dice = below(100);
    if (dice < 45) {
      produce(producers_[below(producers_.size())], any_log());
    } else if (dice < 80) {
      poll(below(consumers_.size()), below(logs_.size()));
    } else if (dice < 85) {
      list_offsets(any_log());
    } else if (dice < 93) {
      use_group(below(logs_.size()));
    } else if (dice < 97) {
      change_topic();
    } else if (dice < 98) {
      rebalance();
    } else if (options_.removes_records && one_in(4)) {
      remove_records(any_log());
    }
  }

  void append(Log& log, Produce& produce) {
    for (Record& record : produce.records) log.records.push_back({log.end(), record.token});
  }

  void produce(Client& client, Log& log) {
    auto produce = by<Produce>(client);
    produce.partition = log.name;
    produce.idempotent = client.name != "producer-c";
    for (uint64_t count = 1 + below(4); count > 0; --count) produce.records.push_back({-1, next_token_++});
    const uint64_t dice = below(100);
    if (dice < 5) {
      produce.outcome = Outcome::kNotWritten;
    } else if (dice < 10) {
      produce.outcome = Outcome::kUnknown;
      for (uint64_t times = below(produce.idempotent ? 2 : 3); times > 0; --times) append(log, produce);
    } else if (dice < 15) {
      produce.acks = Acks::kLeader;  // and then the leader died
    } else {
      const int64_t base_offset = log.end();
      append(log, produce);
      for (size_t i = 0; i < produce.records.size(); ++i) {
        produce.records[i].offset = base_offset + static_cast<int64_t>(i);
      }
    }
    history_.add(std::move(produce));
  }

  void poll(size_t consumer, size_t partition) {
    const Log& log = logs_[partition];
    Position& position = positions_[consumer][partition];
    if (position.offset < log.start || position.offset > log.end() || one_in(20)) {
      ++position.session;
      position.offset = log.start + static_cast<int64_t>(below(static_cast<uint64_t>(log.end() - log.start + 1)));
    }
    auto fetch = by<Fetch>(consumers_[consumer]);
    fetch.partition = log.name;
    fetch.asked_offset = position.offset;
    fetch.session = position.session;
    fetch.next_offset = position.offset;
    if (one_in(20)) {
      fetch.outcome = Outcome::kUnknown;
    } else {
      fetch.records = log.read(position.offset, kPollMax);
      fetch.next_offset += static_cast<int64_t>(fetch.records.size());
      position.offset = fetch.next_offset;
      fetch.high_watermark = log.end();
      fetch.log_start = log.start;
      fetch.stale = one_in(30);
      if (fetch.stale) fetch.high_watermark = fetch.next_offset;
    }
    history_.add(std::move(fetch));
  }

  void list_offsets(const Log& log) {
    auto list = by<ListOffsets>(operator_);
    list.partition = log.name;
    list.earliest = log.start;
    list.latest = log.end();
    history_.add(std::move(list));
  }

  void use_group(size_t partition) {
    int64_t& committed = committed_[partition];
    if (one_in(2)) {
      auto fetch = by<FetchCommitted>(member_);
      fetch.group = "billing";
      fetch.partition = logs_[partition].name;
      fetch.offset = committed;
      history_.add(std::move(fetch));
      return;
    }
    auto commit = by<Commit>(member_);
    commit.group = "billing";
    commit.partition = logs_[partition].name;
    commit.member = "member-a";
    commit.generation = generation_;
    commit.offset = one_in(20) ? std::max<int64_t>(0, committed - 5) : committed + static_cast<int64_t>(below(5));
    commit.offset = std::max<int64_t>(0, commit.offset);
    const uint64_t dice = below(10);
    if (dice == 0) commit.outcome = Outcome::kNotWritten;
    if (dice == 1) commit.outcome = Outcome::kUnknown;
    if (dice > 1 || (dice == 1 && one_in(2))) committed = commit.offset;
    history_.add(std::move(commit));
  }

  void rebalance() {
    auto membership = by<Membership>(member_);
    membership.group = "billing";
    membership.member = "member-a";
    membership.what = Membership::What::kJoined;
    membership.generation = ++generation_;
    history_.add(std::move(membership));
  }

  void change_topic() {
    if (one_in(3)) return list_topics();
    const std::string name = "topic-" + std::to_string(below(20));
    auto change = by<Change>(operator_);
    change.name = name;
    change.created = !topics_.contains(name);
    change.outcome = one_in(10) ? Outcome::kUnknown : Outcome::kOk;
    if (change.outcome == Outcome::kOk || one_in(2)) {
      change.created ? void(topics_.insert(name)) : void(topics_.erase(name));
    }
    history_.add(std::move(change));
  }

  void list_topics() {
    auto listing = by<Listing>(operator_);
    listing.names = {topics_.begin(), topics_.end()};
    history_.add(std::move(listing));
  }

  void remove_records(Log& log) {
    const auto offset = log.start + static_cast<int64_t>(below(static_cast<uint64_t>(log.end() - log.start + 1)));
    if (one_in(2)) {
      auto trim = by<Trim>(operator_);
      trim.partition = log.name;
      trim.before_offset = log.start = offset;
      history_.add(std::move(trim));
    } else {
      auto loss = by<AcceptedLoss>(operator_);
      loss.partition = log.name;
      loss.from_offset = std::max(offset, log.end() - 30);
      log.records.resize(static_cast<size_t>(loss.from_offset));
      history_.add(std::move(loss));
    }
  }

  // Waits until everybody is idle, heals, writes and commits once everywhere, and reads everything.
  void finish() {
    now_ += 2 * kLongestWaitNs;
    auto healed = by<Healed>(operator_);
    healed.invoked_ns = now_;
    healed.answered_ns = now_;
    healed.bound_ns = 1'000'000;
    history_.add(std::move(healed));
    now_ += 2 * kLongestWaitNs;
    for (size_t i = 0; i < logs_.size(); ++i) {
      auto produce = by<Produce>(producers_[0]);
      produce.partition = logs_[i].name;
      produce.idempotent = true;
      produce.records = {{logs_[i].end(), next_token_++}};
      append(logs_[i], produce);
      history_.add(std::move(produce));
      auto commit = by<Commit>(member_);
      commit.group = "billing";
      commit.partition = logs_[i].name;
      commit.offset = committed_[i] = std::max<int64_t>(committed_[i], 0) + 1;
      history_.add(std::move(commit));
    }
    for (const Log& log : logs_) {
      for (int32_t node = FinalRead::kThroughTheCluster; node < static_cast<int32_t>(kReplicas); ++node) {
        auto read = by<FinalRead>(operator_);
        read.partition = log.name;
        read.node = node;
        read.log_start = log.start;
        read.high_watermark = log.end();
        read.records = log.read(log.start, log.records.size());
        history_.add(std::move(read));
      }
    }
    list_topics();
  }

  const ModelOptions options_;
  std::mt19937_64 random_;
  History history_;
  std::vector<Log> logs_;
  std::vector<Client> producers_, consumers_;
  Client operator_{"operator"}, member_{"member-a"};
  std::vector<std::vector<Position>> positions_;  // by consumer and partition
  std::vector<int64_t> committed_;                // by partition
  std::set<std::string> topics_;
  int32_t generation_ = 1;
  uint64_t next_token_ = 1;
  int64_t now_ = 0;
};

}  // namespace

History model_history(const ModelOptions& options) { return ModelCluster(options).run(); }

}  // namespace trilog::history
