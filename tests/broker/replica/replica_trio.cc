#include "tests/broker/replica/replica_trio.h"

namespace trilog::testing {

void ReplicaTrio::start(int number, bool registers) {
  Node& node = nodes.at(number);
  ASSERT_FALSE(node.up());
  node.env = world.make_env(*node.disk, "node" + std::to_string(number));
  ASSERT_TRUE(node.env->files().create_directories("node").ok());
  ASSERT_TRUE(node.env->files().sync_directory_now(".").ok());
  node.marks_file = std::make_unique<MarksFile>(std::move(MarksFile::open(node.env->files(), "node/marks")).value());
  node.writer = std::make_unique<MarkWriter>(*node.env, *node.marks_file);
  node.logs =
      std::make_unique<LogDirectory>(*node.env, options.topics_path, LogStartState{false, node.marks_file->marks()});
  node.guard = std::make_unique<DiskGuard>(*node.env, "node");
  ReplicaOptions own = options;
  own.self = node.id;
  node.replicas = std::make_unique<ReplicaManager>(
      *node.env, own, *node.logs, *node.guard, [&node](Marks changes, UniqueFunction<void(Status)> done) {
        node.writer->write(std::move(changes), node.env->executor(), std::move(done));
      });
  node.transport = network.join({node.id, DirectoryId(9, static_cast<uint64_t>(number)), false}, {node.env.get()});
  node.replicas->set_network(
      {node.transport.get(), 0,
       [this, number](IsrChange change, UniqueFunction<void(api::Answer<IsrChanged>)> done) {
         alter_isr(number, std::move(change), std::move(done));
       },
       [this](BrokerId to, const peer::RepairRangeRequest& request, UniqueFunction<void(Result<SharedBytes>)> done) {
         Node& other = nodes.at(to.value());
         if (other.up()) return other.replicas->read_range(request, std::move(done));
         world.after(delay(), [done = std::move(done)]() mutable { done(Status(Errc::kFailed, "not there")); });
       }});
  ++node.life;
  node.replicas->apply(node.image, nullptr);
  node.replicas->start();
  node.transport->listen(0, &node);
  if (registers) enroll(number);
}

void ReplicaTrio::power_cut(int number, const sim::CrashPolicy& policy) {
  Node& node = nodes.at(number);
  if (node.up()) network.power_off(node.id);
  end_process(node);
  node.disk->power_cut(policy);
}

TopicPartition ReplicaTrio::add_topic(const std::string& name, int32_t min_in_sync, api::Durability durability,
                                      int leader) {
  TopicId id(7, ++topics_made);
  TopicPartition partition{id, PartitionId(0)};
  State& state = states[partition];
  for (int i = 0; i < kNodes; ++i) state.isr.push_back(BrokerId((leader - 1 + i) % kNodes + 1));
  state.leader = BrokerId(leader);
  mins[partition] = min_in_sync;
  commit({TopicRecord{id, name, durability, false},
          TopicConfigRecord{id, "min.insync.replicas", std::to_string(min_in_sync)},
          TopicConfigRecord{id, "segment.bytes", "1048576"}, record_of(partition)});
  run_ms(50);
  return partition;
}

void ReplicaTrio::enroll(int number) {
  const BrokerId id(number);
  world.after(delay(), [this, number, id, life = nodes.at(number).life] {
    if (!nodes.at(number).up() || nodes.at(number).life != life) return;
    const BrokerEpoch epoch(metadata_end.value());
    epochs[id] = epoch;
    nodes.at(number).enrolled = life;
    std::vector<MetadataRecord> records{
        RegisterBrokerRecord{id, DirectoryId(9, static_cast<uint64_t>(number)), "a", "v"}};
    unfenced.erase(id);
    take_out(id, records);
    unfenced.insert(id);
    records.push_back(FenceBrokerRecord{id, epoch, false});
    for (auto& [partition, state] : states) {
      if (elect(state, mins[partition])) records.push_back(record_of(partition));
    }
    commit(records);
    to_node(number, [epoch, now = world.now_ns()](Node& node) {
      node.replicas->set_broker_epoch(epoch);
      node.replicas->set_controller_contact(now);
    });
  });
}

void ReplicaTrio::fence(int number, bool leaving) {
  const BrokerId id(number);
  if (!unfenced.contains(id)) return;
  std::vector<MetadataRecord> records{FenceBrokerRecord{id, epochs[id], !leaving, leaving}};
  unfenced.erase(id);
  take_out(id, records);
  commit(records);
}

void ReplicaTrio::unfence(int number) {
  const BrokerId id(number);
  if (unfenced.contains(id)) return;
  unfenced.insert(id);
  std::vector<MetadataRecord> records{FenceBrokerRecord{id, epochs[id], false}};
  for (auto& [partition, state] : states) {
    if (elect(state, mins[partition])) records.push_back(record_of(partition));
  }
  commit(records);
}

void ReplicaTrio::move_leader(const TopicPartition& partition, int to) {
  State& state = states.at(partition);
  ASSERT_TRUE(has(state.isr, BrokerId(to)));
  state.leader = BrokerId(to);
  ++state.leader_epoch;
  ++state.partition_epoch;
  commit({record_of(partition)});
}

void ReplicaTrio::check() {
  for (auto& [number, node] : nodes) {
    if (node.up() && !node.rotten && node.env->fatal_status().ok()) node.replicas->check_invariants();
  }
}

std::shared_ptr<std::optional<AppendResult>> ReplicaTrio::begin_append(int number, const TopicPartition& partition,
                                                                       Bytes batch, api::Acks acks, int64_t wait_ms) {
  auto slot = std::make_shared<std::optional<AppendResult>>();
  nodes.at(number).replicas->append({.partition = partition,
                                     .batches = std::move(batch),
                                     .acks = acks,
                                     .deadline_ns = world.now_ns() + wait_ms * kMs},
                                    [slot](AppendResult result) {
                                      EXPECT_FALSE(slot->has_value()) << "answered twice";
                                      slot->emplace(std::move(result));
                                    });
  return slot;
}

AppendResult ReplicaTrio::append(const TopicPartition& partition, const std::string& value, api::Acks acks) {
  auto slot = begin_append(leader(partition), partition, make_batch({{"k", value}}), acks);
  run_until([&] { return slot->has_value(); });
  EXPECT_TRUE(slot->has_value());
  return slot->has_value() ? std::move(**slot) : AppendResult{};
}

std::vector<std::pair<int64_t, std::string>> ReplicaTrio::read_all(int number, const TopicPartition& partition,
                                                                   api::Isolation isolation) {
  std::vector<std::pair<int64_t, std::string>> records;
  std::optional<Offset> from;
  while (true) {
    ReadPart part = nodes.at(number).replicas->read({{partition, from, std::nullopt}}, 1u << 20, isolation)[0];
    if (part.error || part.slice.empty()) return records;
    Result<BatchRun> run = read_slice(part.slice);
    if (!run.ok() || run->batches.empty()) return records;
    for (const RecordBatch& batch : run->batches) {
      int64_t at = batch.base_offset().value();
      for (const TestRecord& record : records_of(batch.bytes()))
        records.emplace_back(at++, record.value.value_or("null"));
    }
    from = run->next_offset;
  }
}

void ReplicaTrio::end_process(Node& node) {
  node.transport.reset();
  node.env.reset();
  node.replicas.reset();
  node.guard.reset();
  node.logs.reset();
  node.writer.reset();
  node.marks_file.reset();
}

PartitionRecord ReplicaTrio::record_of(const TopicPartition& partition) {
  const State& state = states.at(partition);
  return {.topic = partition.topic,
          .partition = partition.partition,
          .replicas = {BrokerId(1), BrokerId(2), BrokerId(3)},
          .isr = state.isr,
          .elr = state.elr,
          .leader = state.leader,
          .leader_epoch = LeaderEpoch(state.leader_epoch),
          .partition_epoch = PartitionEpoch(state.partition_epoch),
          .unclean = {},
          .loss_epoch = LeaderEpoch(state.loss_epoch)};
}

void ReplicaTrio::commit(const std::vector<MetadataRecord>& records) {
  MetadataDelta delta(committed);
  for (const MetadataRecord& record : records) {
    ASSERT_TRUE(delta.apply(record, metadata_end).ok());
    ++metadata_end;
  }
  committed = delta.build();
  history.push_back(records);
  for (auto& [number, node] : nodes) tell(number);
}

void ReplicaTrio::tell(int number) {
  to_node(number, [this](Node& node) {
    Offset at{0};
    for (const auto& records : history) {
      if (at > node.image->applied()) apply(node, records, at);
      at = at + static_cast<int64_t>(records.size());
    }
  });
}

void ReplicaTrio::apply(Node& node, const std::vector<MetadataRecord>& records, Offset first) {
  MetadataDelta delta(node.image);
  Offset at = first;
  for (const MetadataRecord& record : records) {
    ASSERT_TRUE(delta.apply(record, at).ok());
    ++at;
  }
  node.image = delta.build();
  node.replicas->apply(node.image, &delta);
}

void ReplicaTrio::to_node(int number, std::function<void(Node&)> what) {
  world.after(delay(), [this, number, life = nodes.at(number).life, what = std::move(what)] {
    Node& node = nodes.at(number);
    if (!node.up() || node.life != life || !node.hears_controller) return;
    node.env->executor().post([&node, what] { what(node); });
  });
}

void ReplicaTrio::heartbeat() {
  world.after(200 * kMs, [this] {
    for (auto& [number, node] : nodes) {
      if (!node.up() || !node.hears_controller || network.paused(node.id)) continue;
      node.env->executor().post([told = &node, now = world.now_ns()] { told->replicas->set_controller_contact(now); });
      tell(number);
      // The answer to its registration may have been lost.
      if (node.enrolled == node.life) {
        to_node(number, [epoch = epochs[node.id]](Node& told) { told.replicas->set_broker_epoch(epoch); });
      }
    }
    heartbeat();
  });
}

bool ReplicaTrio::elect(State& state, int32_t min) {
  const State before = state;
  auto valid = [&](BrokerId id) { return unfenced.contains(id) && has(state.isr, id); };
  if (!valid(state.leader)) {
    state.leader = kNoBroker;
    for (BrokerId id : {BrokerId(1), BrokerId(2), BrokerId(3)}) {
      if (state.leader == kNoBroker && valid(id)) state.leader = id;
    }
    if (state.leader == kNoBroker && state.isr.empty()) {
      for (BrokerId id : std::vector<BrokerId>(state.elr)) {
        if (!unfenced.contains(id)) continue;
        state.leader = id;
        state.isr = {id};
        std::erase(state.elr, id);
        break;
      }
    }
  }
  if (static_cast<int32_t>(state.isr.size()) >= min) state.elr.clear();
  if (state.leader != before.leader) ++state.leader_epoch;
  const bool changed = state.leader != before.leader || state.isr != before.isr || state.elr != before.elr;
  if (changed) ++state.partition_epoch;
  return changed;
}

void ReplicaTrio::take_out(BrokerId id, std::vector<MetadataRecord>& records) {
  for (auto& [partition, state] : states) {
    if (!has(state.isr, id) && state.leader != id) continue;
    std::erase(state.isr, id);
    if (static_cast<int32_t>(state.isr.size()) < mins[partition] && !has(state.elr, id)) state.elr.push_back(id);
    if (state.leader == id) {
      state.leader = kNoBroker;
      ++state.leader_epoch;  // also if it leads again: this is another process
    }
    ++state.partition_epoch;
    elect(state, mins[partition]);
    records.push_back(record_of(partition));
  }
}

void ReplicaTrio::alter_isr(int number, IsrChange change, UniqueFunction<void(api::Answer<IsrChanged>)> done) {
  Node& node = nodes.at(number);
  ++node.isr_requests;
  auto shared = std::make_shared<UniqueFunction<void(api::Answer<IsrChanged>)>>(std::move(done));
  world.after(delay(), [this, number, life = node.life, change = std::move(change), shared] {
    auto answer = std::make_shared<api::Answer<IsrChanged>>(decide(number, change));
    const bool lost = !nodes.at(number).hears_controller || nodes.at(number).isr_answers_lost;
    if (lost) *answer = api::Error(api::ErrorCode::kRequestTimedOut, api::Outcome::kUnknown, "no answer");
    world.after(delay() + (lost ? 1'000 * kMs : 0), [this, number, life, shared, answer] {
      Node& asking = nodes.at(number);
      if (!asking.up() || asking.life != life) return;
      asking.env->executor().post([shared, answer] { (*shared)(std::move(*answer)); });
    });
  });
}

api::Answer<IsrChanged> ReplicaTrio::decide(int number, const IsrChange& change) {
  using api::Error;
  using api::ErrorCode;
  using api::Outcome;
  const BrokerId sender(number);
  State& state = states.at(change.partition);
  if (!nodes.at(number).hears_controller) return Error(ErrorCode::kRequestTimedOut, Outcome::kUnknown, "cut off");
  auto present = [&] {
    return IsrChanged{LeaderEpoch(state.leader_epoch), PartitionEpoch(state.partition_epoch), state.isr};
  };
  if (change.leader_epoch.value() < state.leader_epoch || state.leader != sender) {
    return Error(ErrorCode::kFencedLeaderEpoch, Outcome::kUnknown, "somebody else leads");
  }
  if (change.partition_epoch.value() != state.partition_epoch) return present();
  std::vector<BrokerId> isr;
  for (const IsrMember& member : change.isr) {
    if (!unfenced.contains(member.broker) || epochs[member.broker] != member.epoch) {
      return Error(ErrorCode::kInvalidRequest, Outcome::kNotWritten, "a member is not eligible");
    }
    isr.push_back(member.broker);
  }
  for (BrokerId member : state.isr) {
    if (!has(isr, member) && static_cast<int32_t>(isr.size()) < mins[change.partition]) state.elr.push_back(member);
  }
  state.isr = isr;
  std::erase_if(state.elr, [&](BrokerId id) { return has(isr, id); });
  if (static_cast<int32_t>(isr.size()) >= mins[change.partition]) state.elr.clear();
  ++state.partition_epoch;
  commit({record_of(change.partition)});
  return present();
}

}  // namespace trilog::testing
