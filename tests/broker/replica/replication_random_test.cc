// Replication under crashes, power cuts, cut networks and changes of leader drawn from a seed. What must hold all the
// time and at the end, by the names of the reliability rules:
//   X1, X2  what was acknowledged is there, X4 once (a producer with sequences)
//   X6      what a reader was shown stays where it was shown
//   X12     the high watermark of one leadership does not fall
//   X17     replicas are equal below the smaller high watermark
//   X18     when all is healed, everybody is in sync and writes are taken
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "tests/broker/replica/replica_trio.h"

namespace trilog::testing {
namespace {

class Chaos {
 public:
  Chaos(uint64_t seed, api::Durability durability)
      : trio_(seed),
        random_(seed * 7919 + 1),
        durability_(durability),
        orders_(trio_.add_topic("orders", 2, durability)) {}

  void run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      produce();
      if (random_.chance(18)) disturb();
      trio_.run_ms(static_cast<int64_t>(random_.below(random_.chance(10) ? 2'000 : 40)));
      observe();
    }
    heal();
    judge();
  }
  uint64_t acknowledged() const { return acknowledged_.size(); }
  uint64_t failovers() const { return static_cast<uint64_t>(trio_.states.at(orders_).leader_epoch); }

 private:
  struct Sent {
    int32_t sequence;
    std::shared_ptr<std::optional<AppendResult>> answer;
    int64_t sent_ns;
  };

  // One producer that repeats a batch, wherever the leader is, until it is acknowledged: nothing may be doubled.
  void produce() {
    if (sent_ && sent_->answer->has_value()) {
      const AppendResult& result = **sent_->answer;
      const auto error = error_of(result);
      if (!error) {
        acknowledge(sent_->sequence, result.batches[0].first_offset.value());
        ++sequence_;
      } else if (*error == api::ErrorCode::kOutOfOrderSequence) {
        ADD_FAILURE() << "sequence " << sent_->sequence << " refused: " << result.batches[0].error->message;
      }
      sent_.reset();
    }
    // Nothing is heard from a process that is gone.
    if (sent_ && trio_.world.now_ns() - sent_->sent_ns > 1'000 * kMs) sent_.reset();
    const int leader = trio_.leader(orders_);
    if (sent_ || leader < 1 || !trio_.up(leader)) return;
    Bytes batch =
        make_batch({{"k", std::to_string(sequence_)}}, {.producer = {ProducerId(1), ProducerEpoch(0), sequence_}});
    sent_ = Sent{sequence_, trio_.begin_append(leader, orders_, std::move(batch)), trio_.world.now_ns()};
  }
  void acknowledge(int32_t sequence, int64_t offset) {
    auto [known, is_new] = acknowledged_.emplace(sequence, offset);
    EXPECT_EQ(known->second, offset) << "X3: sequence " << sequence << " acknowledged at two offsets";
  }

  void disturb() {
    const int node = 1 + static_cast<int>(random_.below(3));
    const int other = 1 + (node + static_cast<int>(random_.below(2))) % 3;
    switch (random_.below(9)) {
      case 0: return end(node, false);
      case 1: return end(node, true);
      case 2:
        // Of a `replicated` topic a power cut of all may lose what was acknowledged.
        if (durability_ != api::Durability::kSynced || !random_.chance(30)) return;
        for (int each = 1; each <= 3; ++each) end(each, true);
        return;
      case 3: return trio_.network.cut(BrokerId(node), BrokerId(other));
      case 4: return trio_.network.isolate(BrokerId(node));
      case 5: trio_.nodes.at(node).hears_controller = !trio_.nodes.at(node).hears_controller; return;
      case 6: {
        const auto& state = trio_.states.at(orders_);
        if (ReplicaTrio::has(state.isr, BrokerId(node)) && trio_.unfenced.contains(BrokerId(node))) {
          trio_.move_leader(orders_, node);
        }
        return;
      }
      case 7: return random_.chance(50) ? trio_.fence(node) : trio_.network.reset(BrokerId(node), BrokerId(other));
      default: return recover();
    }
  }
  void end(int node, bool power) {
    if (!trio_.up(node)) return;
    if (power && durability_ == api::Durability::kSynced) {
      trio_.power_cut(node, sim::CrashPolicy{40, 30});
    } else {
      trio_.crash(node);
    }
    if (random_.chance(50)) trio_.fence(node);
  }
  void recover() {
    trio_.network.heal();
    for (int node = 1; node <= 3; ++node) {
      trio_.nodes.at(node).hears_controller = true;
      if (!trio_.up(node)) {
        trio_.start(node);
      } else if (!trio_.unfenced.contains(BrokerId(node))) {
        trio_.unfence(node);
      }
    }
  }

  // X6: whatever any node shows a reader, now or ever, is the same.
  void observe() {
    for (int node = 1; node <= 3; ++node) {
      if (!trio_.up(node)) continue;
      for (const auto& [offset, value] : trio_.read_all(node, orders_)) {
        auto [known, is_new] = seen_.emplace(offset, value);
        EXPECT_EQ(known->second, value) << "X6: offset " << offset << " on node " << node;
      }
      const ReplicaPosition position = trio_.position(node, orders_);
      EXPECT_EQ(position.halted, "") << "R15 on node " << node;
      auto& [life, high] = high_watermarks_[node];
      if (life == trio_.nodes.at(node).life) {
        EXPECT_GE(position.high_watermark, high) << "X12 on node " << node;
      }
      life = trio_.nodes.at(node).life;
      high = position.high_watermark;
    }
  }

  void heal() {
    recover();
    trio_.run_ms(100);
    recover();
    // Asked again: a registration may have been on its way.
    const bool in_sync =
        trio_.run_until([&] { return trio_.all_in_sync(orders_) && trio_.leader(orders_) > 0; }, 60'000);
    EXPECT_TRUE(in_sync) << "X18";
    for (int i = 0; i < 100 && !::testing::Test::HasFailure(); ++i) {
      produce();
      trio_.run_ms(20);
      if (sent_ && sent_->answer->has_value() && !error_of(**sent_->answer)) {
        acknowledge(sent_->sequence, (*sent_->answer)->batches[0].first_offset.value());
        break;
      }
    }
    EXPECT_TRUE(sent_ && sent_->answer->has_value() && !error_of(**sent_->answer)) << "X18: no write after healing";
    trio_.run_ms(500);
  }

  void judge() {
    if (::testing::Test::HasFailure()) return;
    observe();
    const auto records = trio_.read_all(trio_.leader(orders_), orders_);
    std::set<std::string> values;
    for (const auto& [offset, value] : records) EXPECT_TRUE(values.insert(value).second) << "X4: " << value << " twice";
    std::map<int64_t, std::string> by_offset(records.begin(), records.end());
    for (const auto& [sequence, offset] : acknowledged_) {
      EXPECT_EQ(by_offset[offset], std::to_string(sequence)) << "X1: acknowledged at " << offset;
    }
    for (const auto& [offset, value] : seen_) EXPECT_EQ(by_offset[offset], value) << "X6: shown at " << offset;
    // X17: each leads in turn, so that what lies in its log can be read.
    for (int node = 1; node <= 3; ++node) {
      trio_.move_leader(orders_, node);
      trio_.run_ms(300);
      EXPECT_EQ(trio_.read_all(node, orders_), records) << "X17: node " << node;
    }
  }

  ReplicaTrio trio_;
  sim::SeededRandom random_;
  const api::Durability durability_;
  const TopicPartition orders_;
  int32_t sequence_ = 0;
  std::optional<Sent> sent_;
  std::map<int32_t, int64_t> acknowledged_;
  std::map<int64_t, std::string> seen_;
  std::map<int, std::pair<uint64_t, Offset>> high_watermarks_;
};

// TRILOG_SEEDS=from:to replaces the seeds that are run each time.
std::pair<uint64_t, uint64_t> seeds() {
  const char* range = std::getenv("TRILOG_SEEDS");
  if (range == nullptr) return {1, 60};
  const std::string text(range);
  const size_t colon = text.find(':');
  return {std::stoull(text), std::stoull(text.substr(colon + 1))};
}

void run_seeds(api::Durability durability) {
  uint64_t acknowledged = 0;
  uint64_t failovers = 0;
  const auto [from, to] = seeds();
  for (uint64_t seed = from; seed <= to; ++seed) {
    SCOPED_TRACE("replay with TRILOG_SEEDS=" + std::to_string(seed) + ":" + std::to_string(seed));
    Chaos chaos(seed, durability);
    chaos.run(150);
    acknowledged += chaos.acknowledged();
    failovers += chaos.failovers();
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(acknowledged, 10 * (to - from + 1)) << "too little happened";
  EXPECT_GT(failovers, 3 * (to - from + 1));
}

TEST(ReplicationUnderFaults, KeepsItsPromisesOnSyncedTopics) { run_seeds(api::Durability::kSynced); }
TEST(ReplicationUnderFaults, KeepsItsPromisesOnReplicatedTopicsWhileProcessesDie) {
  run_seeds(api::Durability::kReplicated);
}

}  // namespace
}  // namespace trilog::testing
