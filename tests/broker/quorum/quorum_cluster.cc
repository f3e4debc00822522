#include "tests/broker/quorum/quorum_cluster.h"

#include <algorithm>
#include <string_view>

#include "storage/base/check.h"

namespace trilog::testing {

namespace {

constexpr int64_t kMs = 1'000'000;
constexpr const char* kDirectory = "/data/metadata";

}  // namespace

QuorumCluster::QuorumCluster(int size, uint64_t seed) : world_(seed), network_(world_) {
  config.directory = kDirectory;
  config.cluster = ClusterId(1, 2);
  for (int id = 1; id <= size; ++id) {
    nodes_[id].id = BrokerId(id);
    config.voters.push_back({BrokerId(id), {}});
    network_.add_node(BrokerId(id));
    new_disk(id);
  }
}

QuorumCluster::~QuorumCluster() {
  for (auto& [id, node] : nodes_) kill(id);
}

MetadataLog::Listener QuorumCluster::make_listener(int id) {
  Node* node = &nodes_.at(id);
  MetadataLog::Listener listener;
  listener.on_commit = [this, node](const CommittedBatch& batch) {
    CHECK_GE(batch.first, node->next);  // in order, once (Q6)
    for (size_t i = 0; i < batch.records.size(); ++i) {
      Offset at = batch.first + static_cast<int64_t>(i);
      std::string text(as_text(batch.records[i]));
      // Nobody applies something else at this offset (A11).
      std::string with_term = std::to_string(batch.term.value()) + ":" + text;
      CHECK_EQ(applied_.emplace(at, with_term).first->second, with_term);
      node->state += std::to_string(at.value()) + "=" + text + ";";
      node->next = at + 1;
    }
    return ok_status();
  };
  listener.on_snapshot = [node](Offset applied, ByteView snapshot) {
    CHECK_GE(applied + 1, node->next);
    node->state = std::string(as_text(snapshot));
    node->next = applied + 1;
    ++node->snapshots;
    return ok_status();
  };
  if (own_clusters) {
    listener.on_cluster = [node](const ClusterId& cluster) {
      node->cluster = cluster;
      return ok_status();
    };
  }
  listener.make_snapshot = [node] { return Bytes::copy_of(node->state); };
  listener.on_leadership = [this, node, id](bool leading, Term term) {
    if (!leading) return;
    ++node->leads;
    auto [known, fresh] = leader_of_term_.emplace(term, id);
    CHECK_EQ(known->second, id);  // one leader per term (A7)
    CHECK(fresh);                 // and no term is led twice
  };
  return listener;
}

bool QuorumCluster::start(int id) {
  Node& node = nodes_.at(id);
  CHECK(!node.log);
  node.env = world_.make_env(*node.disk, "node-" + std::to_string(id));
  node.transport = network_.join({node.id, node.directory, false}, {node.env.get()});
  node.state.clear();
  node.next = node.committed = Offset(0);
  MetadataLogConfig own = config;
  own.self = {node.id, node.directory};
  own.was_member = node.was_member;
  if (own_clusters) own.cluster = node.cluster;
  auto opened = MetadataLog::open(*node.env, own, make_listener(id), node.transport.get());
  node.error = opened.status();
  if (!opened.ok()) {
    kill(id);
    return false;
  }
  node.log = std::move(*opened);
  node.env->on_fatal([this, id](const Status& why) {
    nodes_.at(id).fatal = why;
    kill(id);
  });
  node.transport->listen(0, node.log.get());
  node.log->start();
  return true;
}

void QuorumCluster::start_all() {
  for (auto& [id, node] : nodes_) {
    if (node.log) continue;
    ASSERT_TRUE(start(id)) << node.error.to_string();
  }
}

void QuorumCluster::kill(int id) {
  Node& node = nodes_.at(id);
  node.env.reset();
  node.log.reset();
  node.transport.reset();
}

void QuorumCluster::power_cut(int id, const sim::CrashPolicy& policy) {
  if (up(id)) network_.power_off(BrokerId(id));
  kill(id);
  nodes_.at(id).disk->power_cut(policy);
}

void QuorumCluster::power_cut_all() {
  for (auto& [id, node] : nodes_) power_cut(id);
}

void QuorumCluster::new_disk(int id) {
  Node& node = nodes_.at(id);
  CHECK(!node.log);
  node.disk = std::make_unique<sim::SimDisk>(world_.scheduler());
  node.disk->put_file("/data/meta", as_bytes("of the node"));
  node.directory = DirectoryId(7, next_directory_++);
  node.cluster = ClusterId(3, node.directory.low());
  node.was_member = false;
}

void QuorumCluster::lose_metadata(int id) {
  Node& node = nodes_.at(id);
  CHECK(!node.log);
  node.disk = std::make_unique<sim::SimDisk>(world_.scheduler());
  node.disk->put_file("/data/meta", as_bytes("of the node"));
  node.was_member = true;
}

void QuorumCluster::close(int id) {
  bool closed = false;
  log(id).close([&](const Status& status) {
    EXPECT_TRUE(status.ok()) << status.to_string();
    closed = true;
  });
  EXPECT_TRUE(world_.run_until([&] { return closed; }));
  kill(id);
}

void QuorumCluster::run_for(int64_t ms) {
  int64_t end = world_.now_ns() + ms * kMs;
  while (world_.scheduler().run_one(end)) {
    if (world_.scheduler().executed() % 8 == 0) check();
  }
  world_.scheduler().advance_to(end);
  check();
}

void QuorumCluster::check() {
  for (auto& [id, node] : nodes_) {
    if (!node.log) continue;
    CHECK_GE(node.log->committed(), node.committed);  // never back within a life (Q6)
    node.committed = node.log->committed();
  }
}

int QuorumCluster::leader() const {
  int found = 0;
  Term term{-1};
  for (const auto& [id, node] : nodes_) {
    if (!node.log || !node.log->leading() || node.log->term() < term) continue;
    found = id;
    term = node.log->term();
  }
  return found;
}

int QuorumCluster::wait_for_leader(int64_t ms) {
  for (int64_t end = world_.now_ns() + ms * kMs; world_.now_ns() < end;) {
    int now = leader();
    bool known = now != 0;
    for (const auto& [id, node] : nodes_) {
      if (known && node.log && !network_.is_blocked(BrokerId(now), BrokerId(id))) {
        known = node.log->leader() == BrokerId(now) || !node.log->trouble().empty();
      }
    }
    if (known) return now;
    run_for(5);
  }
  return 0;
}

bool QuorumCluster::propose(const std::string& text) {
  int now = leader();
  return now != 0 && propose_on(now, text);
}

bool QuorumCluster::propose_on(int id, const std::string& text) {
  if (!up(id)) return false;
  std::vector<Bytes> records;
  records.push_back(Bytes::copy_of(text));
  ++asked;
  log(id).propose(std::move(records), [this, text](const Result<Offset>& first) {
    ++answered;
    if (first.ok()) promised.insert(std::to_string(first->value()) + "=" + text + ";");
  });
  return true;
}

bool QuorumCluster::commit(const std::string& text, int64_t ms) {
  size_t before = promised.size();
  for (int64_t end = world_.now_ns() + ms * kMs; world_.now_ns() < end;) {
    int before_answer = answered;
    if (propose(text)) {
      for (int i = 0; i < 400 && promised.size() == before && answered == before_answer; ++i) run_for(5);
      if (promised.size() > before) return true;
    }
    run_for(20);
  }
  return false;
}

bool QuorumCluster::keeps_every_promise(int id) const {
  const std::string& state = nodes_.at(id).state;
  std::set<std::string_view> applied;
  for (size_t at = 0; at < state.size();) {
    size_t end = state.find(';', at) + 1;
    applied.insert(std::string_view(state).substr(at, end - at));
    at = end;
  }
  return std::all_of(promised.begin(), promised.end(), [&](const std::string& one) { return applied.contains(one); });
}

bool QuorumCluster::wait_until_equal(int64_t ms) {
  for (int64_t end = world_.now_ns() + ms * kMs; world_.now_ns() < end; run_for(20)) {
    const std::string* first = nullptr;
    bool equal = true;
    for (const auto& [id, node] : nodes_) {
      if (!node.log) continue;
      if (first == nullptr) first = &node.state;
      equal = equal && node.state == *first;
    }
    for (const auto& [id, node] : nodes_) equal = equal && (!node.log || keeps_every_promise(id));
    if (equal) return true;
  }
  return false;
}

std::string QuorumCluster::directories(int id) {
  std::string text;
  for (const Voter& voter : log(id).voters()) {
    text += (text.empty() ? "" : ",") + std::to_string(voter.id.value()) + ":" + std::to_string(voter.directory.low());
  }
  return text;
}

std::vector<std::string> QuorumCluster::files(int id, const std::string& part) const {
  std::vector<std::string> found;
  for (const std::string& path : nodes_.at(id).disk->image().all_files()) {
    if (path.find(part) != std::string::npos) found.push_back(path);
  }
  return found;
}

void QuorumCluster::flip_bit(int id, const std::string& file, uint64_t bit) {
  nodes_.at(id).disk->flip_bit(std::string(kDirectory) + "/" + file, bit);
}

}  // namespace trilog::testing
