#include "tests/simulator/consumer.h"

#include <algorithm>

#include "storage/record/record_batch.h"

namespace trilog::simulator {

using api::ErrorCode;
using history::Outcome;

namespace {

constexpr int64_t kWaitNs = 2 * kSecond;  // for an answer, beyond the wait that was asked for

history::Partition name_of(const Topic& topic, int32_t partition) { return {topic.name, partition}; }

}  // namespace

bool records_of(Context& context, const api::FetchedPartition& part, std::vector<history::Record>& records) {
  const std::string where = part.topic + "/" + std::to_string(part.partition.value());
  for (const RecordBatch& batch : part.views) {
    auto opened = RecordIterator::open(batch, 1 << 20);
    if (!opened.ok()) {
      context.violation("a batch of " + where + " that was served does not open: " + opened.status().to_string());
      return false;
    }
    for (;;) {
      auto record = opened->next();
      if (!record.ok()) {
        context.violation("a record of " + where + " that was served does not parse: " + record.status().to_string());
        return false;
      }
      if (!*record) break;
      const int64_t offset = batch.base_offset().value() + (*record)->offset_delta;
      if (offset < part.asked_offset.value()) continue;
      const uint64_t token = (*record)->value ? token_of(as_text(*(*record)->value)) : 0;
      if (token == 0)
        context.violation("a record at offset " + std::to_string(offset) + " of " + where + " is not ours");
      records.push_back({offset, token});
    }
  }
  return true;
}

Consumer::Consumer(Context& context, Plan plan) : context_(context), plan_(std::move(plan)) {
  for (int32_t partition : plan_.partitions) positions_[partition] = {};
  if (plan_.commit_percent > 0) groups_.push_back(plan_.name + "#1");
}

// --- reading
// -----------------------------------------------------------------------------------------------------------

void Consumer::poll_later() {
  busy_ = false;
  if (context_.winding_down) return;
  context_.gateway.after(context_.draw(plan_.pause_ns / 10, plan_.pause_ns * 2), [this] { poll(); });
}

void Consumer::poll() {
  if (context_.winding_down || busy_) return;
  busy_ = true;
  const bool uncommitted = context_.random.chance(plan_.uncommitted_percent);
  api::FetchRequest request;
  const int64_t wait_ns = context_.random.chance(70) ? context_.draw(0, 400) * kMs : 0;
  request.deadline_ns = wait_ns == 0 ? 0 : context_.now_ns() + wait_ns;
  request.bytes_max = context_.random.chance(30) ? 2'000 : 200'000;
  if (uncommitted) request.isolation = api::Isolation::kUncommitted;
  for (const auto& [partition, position] : positions_) {
    api::Position& asked = request.positions.emplace_back();
    asked.topic = topic().name;
    asked.partition = PartitionId(partition);
    if (position.offset >= 0) asked.offset = Offset(position.offset);
    if (position.leader_epoch != kNoLeaderEpoch) asked.leader_epoch = position.leader_epoch;
  }
  const int64_t invoked_ns = context_.now_ns();
  const int node = context_.pick_node();
  context_.gateway.ask<api::FetchResult>(
      node, wait_ns + kWaitNs,
      [request = std::move(request)](Broker& broker, auto done) mutable {
        broker.fetch(std::move(request), std::move(done));
      },
      [this, invoked_ns, uncommitted, node](Reply<api::FetchResult> reply) {
        on_fetched(invoked_ns, uncommitted, node, std::move(reply));
      });
}

void Consumer::on_fetched(int64_t invoked_ns, bool uncommitted, int node, Reply<api::FetchResult> reply) {
  if (reply.ok()) {
    for (const api::FetchedPartition& part : reply.answer->value()) take(invoked_ns, uncommitted, node, part);
  }
  after_poll();
}

void Consumer::take(int64_t invoked_ns, bool uncommitted, int node, const api::FetchedPartition& part) {
  Position& position = positions_.at(part.partition.value());
  const std::string where = topic().name + "/" + std::to_string(part.partition.value());
  if (part.error) {
    if (part.error->code == ErrorCode::kFencedLeaderEpoch) {
      const LeaderEpoch current(std::stoi(part.error->details.at("leader_epoch")));
      position.leader_epoch = std::max(position.leader_epoch, current);
      return;
    }
    if (part.error->code != ErrorCode::kOffsetOutOfRange) return;
    context_.violation(plan_.name + " at offset " + std::to_string(position.offset) + " of " + where +
                       " is told by node " + std::to_string(node) + ": " + part.error->message);
    position = {-1, kNoLeaderEpoch, position.session + 1};
    return;
  }
  if (position.offset >= 0 && part.asked_offset.value() != position.offset) {
    context_.violation(plan_.name + " asked for offset " + std::to_string(position.offset) + " of " + where +
                       " and was answered for " + std::to_string(part.asked_offset.value()));
  }
  history::Fetch fetch;
  fetch.client = plan_.name;
  fetch.invoked_ns = invoked_ns;
  fetch.answered_ns = context_.now_ns();
  fetch.detail = "node " + std::to_string(node);
  fetch.partition = name_of(topic(), part.partition.value());
  fetch.asked_offset = part.asked_offset.value();
  fetch.next_offset = part.next_offset.value();
  fetch.high_watermark = part.high_watermark.value();
  fetch.log_start = part.log_start.value();
  fetch.session = position.session;
  fetch.stale = part.stale;
  fetch.uncommitted = uncommitted;
  if (!records_of(context_, part, fetch.records)) return;
  if (part.stale) ++context_.counters.stale_reads;
  context_.counters.read += fetch.records.size();
  if (!uncommitted) position.offset = fetch.next_offset;
  if (!part.stale) position.leader_epoch = std::max(position.leader_epoch, part.leader_epoch);
  context_.history.add(std::move(fetch));
}

void Consumer::after_poll() {
  ++polls_;
  if (groups_.empty() || !context_.random.chance(plan_.commit_percent)) return poll_later();
  if (context_.random.chance(40)) {
    return fetch_committed([this] { poll_later(); });
  }
  commit(groups_.back(), [this](bool known) {
    if (!known) groups_.push_back(plan_.name + "#" + std::to_string(groups_.size() + 1));
    poll_later();
  });
}

// --- the group
// ---------------------------------------------------------------------------------------------------------

std::vector<std::pair<int32_t, int64_t>> Consumer::positions_to_commit() const {
  std::vector<std::pair<int32_t, int64_t>> offsets;
  for (const auto& [partition, position] : positions_) {
    if (position.offset >= 0) offsets.emplace_back(partition, position.offset);
  }
  return offsets;
}

void Consumer::commit(const std::string& group, UniqueFunction<void(bool known)> then) {
  auto offsets = positions_to_commit();
  if (offsets.empty()) return then(true);
  api::CommitOffsetsRequest request{.group = group};
  request.deadline_ns = context_.now_ns() + kWaitNs;
  std::vector<history::Commit> commits;
  const int node = context_.pick_node();
  for (const auto& [partition, offset] : offsets) {
    request.offsets.push_back({.topic = topic().name, .partition = PartitionId(partition), .offset = Offset(offset)});
    history::Commit& commit = commits.emplace_back();
    commit.client = plan_.name;
    commit.invoked_ns = context_.now_ns();
    commit.group = group;
    commit.partition = name_of(topic(), partition);
    commit.offset = offset;
  }
  using Committed = std::vector<api::CommittedOffset>;
  context_.gateway.ask<Committed>(
      node, kWaitNs + kSecond,
      [request = std::move(request)](Broker& broker, auto done) mutable {
        broker.commit_offsets(std::move(request), std::move(done));
      },
      [this, node, commits = std::move(commits), then = std::move(then)](Reply<Committed> reply) mutable {
        bool known = true;
        for (size_t i = 0; i < commits.size(); ++i) {
          history::Commit& commit = commits[i];
          commit.answered_ns = context_.now_ns();
          std::optional<api::Error> error;
          if (reply.answer && !reply.answer->ok()) error = reply.answer->error();
          if (reply.ok() && i < reply.answer->value().size()) error = reply.answer->value()[i].error;
          if (reply.fate == Reply<Committed>::Fate::kRefused) {
            commit.outcome = Outcome::kNotWritten;
          } else if (reply.fate == Reply<Committed>::Fate::kLost) {
            commit.outcome = Outcome::kUnknown;
          } else if (error) {
            commit.outcome = error->outcome == api::Outcome::kNotWritten ? Outcome::kNotWritten : Outcome::kUnknown;
          }
          commit.detail = "node " + std::to_string(node) + (error ? ", " + error->message : "");
          if (commit.outcome == Outcome::kUnknown) known = false;
          if (commit.outcome == Outcome::kOk) ++context_.counters.commits;
          context_.history.add(std::move(commit));
        }
        then(known);
      });
}

void Consumer::fetch_committed(UniqueFunction<void()> then) {
  api::FetchOffsetsRequest request{.group = groups_.back()};
  for (const auto& [partition, position] : positions_) {
    request.positions.push_back({.topic = topic().name, .partition = PartitionId(partition)});
  }
  const int64_t invoked_ns = context_.now_ns();
  const int node = context_.pick_node();
  using Committed = std::vector<api::CommittedOffset>;
  context_.gateway.ask<Committed>(
      node, kWaitNs,
      [request = std::move(request)](Broker& broker, auto done) mutable {
        broker.fetch_offsets(std::move(request), std::move(done));
      },
      [this, invoked_ns, node, group = groups_.back(), then = std::move(then)](Reply<Committed> reply) mutable {
        if (!reply.ok()) return then();
        for (const auto& [partition, position] : positions_) {
          history::FetchCommitted fetch;
          fetch.client = plan_.name + "/asks";
          fetch.invoked_ns = invoked_ns;
          fetch.answered_ns = context_.now_ns();
          fetch.group = group;
          fetch.partition = name_of(topic(), partition);
          fetch.detail = "node " + std::to_string(node);
          for (const api::CommittedOffset& each : reply.answer->value()) {
            if (each.topic != topic().name || each.partition.value() != partition) continue;
            if (each.error) fetch.outcome = Outcome::kUnknown;
            fetch.offset = each.offset.value();
          }
          context_.history.add(std::move(fetch));
        }
        then();
      });
}

void Consumer::commit_all_groups() {
  if (groups_.empty()) return;
  busy_ = true;
  commit_groups_from(0);
}

// Until each of them was acknowledged: whoever waits for this sees how long it takes.
void Consumer::commit_groups_from(size_t index) {
  if (index >= groups_.size() || positions_to_commit().empty()) {
    busy_ = false;
    return;
  }
  const size_t before = context_.history.all<history::Commit>().size();
  commit(groups_[index], [this, index, before](bool) {
    bool all_ok = true;
    const auto& commits = context_.history.all<history::Commit>();
    for (size_t i = before; i < commits.size(); ++i) {
      if (commits[i].group == groups_[index]) all_ok = all_ok && commits[i].outcome == Outcome::kOk;
    }
    context_.gateway.after(20 * kMs, [this, index, all_ok] { commit_groups_from(all_ok ? index + 1 : index); });
  });
}

void Consumer::begin_again(const std::string& topic_name, int32_t partition) {
  auto found = positions_.find(partition);
  if (topic_name == topic().name && found != positions_.end())
    found->second = {0, kNoLeaderEpoch, found->second.session + 1};
}

void Consumer::check_group() {
  if (groups_.empty()) return;
  busy_ = true;
  fetch_committed([this] { busy_ = false; });
}

// --- askers
// ------------------------------------------------------------------------------------------------------------

void Asker::ask_later() {
  busy_ = false;
  if (context_.winding_down) return;
  context_.gateway.after(context_.draw(pause_ns_ / 10, pause_ns_ * 2), [this] { ask(); });
}

void Asker::ask() {
  if (context_.winding_down) return;
  busy_ = true;
  const Topic& topic = context_.topics[context_.random.below(context_.topics.size())];
  const bool latest = context_.random.chance(70);
  api::ListOffsetsRequest request{.topic = topic.name,
                                  .spec = latest ? api::OffsetSpec::kLatest : api::OffsetSpec::kEarliest};
  const int64_t invoked_ns = context_.now_ns();
  const int node = context_.pick_node();
  using Listed = std::vector<api::ListedOffset>;
  context_.gateway.ask<Listed>(
      node, kWaitNs,
      [request = std::move(request)](Broker& broker, auto done) mutable {
        broker.list_offsets(std::move(request), std::move(done));
      },
      [this, invoked_ns, node, latest](Reply<Listed> reply) {
        if (reply.ok()) {
          for (const api::ListedOffset& each : reply.answer->value()) {
            if (each.error) continue;
            history::ListOffsets list;
            list.client = name_;
            list.invoked_ns = invoked_ns;
            list.answered_ns = context_.now_ns();
            list.detail = "node " + std::to_string(node);
            list.partition = {each.topic, each.partition.value()};
            (latest ? list.latest : list.earliest) = each.offset.value();
            list.stale = each.stale;
            context_.history.add(std::move(list));
          }
        }
        ask_later();
      });
}

}  // namespace trilog::simulator
