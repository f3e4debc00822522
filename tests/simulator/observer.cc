#include "tests/simulator/observer.h"

#include <algorithm>

#include "storage/log/log_files.h"

namespace trilog::simulator {

namespace {

std::string text_of(const std::vector<BrokerId>& brokers) {
  std::string text;
  for (const BrokerId broker : brokers) text += (text.empty() ? "" : " ") + std::to_string(broker.value());
  return "{" + text + "}";
}

std::string folder_of(const TopicPartition& partition) {
  return std::string(sim::SimCluster::kDataFolder) + "/topics/" + partition.topic.to_string() + "/" +
         std::to_string(partition.partition.value());
}

template <typename Container>
bool contains(const Container& brokers, BrokerId broker) {
  return std::find(brokers.begin(), brokers.end(), broker) != brokers.end();
}

}  // namespace

std::vector<StoredBatch> read_log(const sim::DiskImage& image, const TopicPartition& partition, Offset from, Offset to,
                                  StoredPlace* place) {
  std::vector<StoredBatch> batches;
  const StoredPlace begin = place != nullptr ? *place : StoredPlace();
  const sim::DiskImage::Node* folder = image.node(image.find(folder_of(partition)));
  if (folder == nullptr) return batches;
  for (const auto& [name, inode] : folder->entries) {  // names have leading zeros: in order
    if (!name.ends_with(kLogSuffix)) continue;
    const ByteView content = image.content(inode);
    ByteView rest = content;
    if (inode == begin.inode && begin.base <= from && begin.position < content.size()) {
      const ByteView there = content.subspan(begin.position);
      const Result<RecordBatch> known = RecordBatch::parse(there);
      if (known.ok() && known->base_offset() == begin.base) rest = there;
    }
    while (rest.size() >= kBatchHeaderBytes) {
      Result<RecordBatch> batch = RecordBatch::parse(rest);
      if (!batch.ok()) break;
      rest = rest.subspan(batch->size());
      if (batch->next_offset() <= from || batch->base_offset() >= to) continue;
      if (!batch->crc_matches()) break;
      if (place != nullptr && batches.empty()) {
        *place = {inode, static_cast<size_t>(batch->bytes().data() - content.data()), batch->base_offset()};
      }
      batches.push_back({batch->base_offset(), batch->next_offset(), batch->leader_epoch(), batch->bytes()});
    }
  }
  return batches;
}

std::vector<history::Record> records_of(const std::vector<StoredBatch>& batches) {
  std::vector<history::Record> records;
  for (const StoredBatch& stored : batches) {
    auto opened = RecordIterator::open(RecordBatch::parse(stored.bytes).value(), 1 << 20);
    if (!opened.ok()) continue;
    for (auto record = opened->next(); record.ok() && *record; record = opened->next()) {
      const uint64_t token = (*record)->value ? token_of(as_text(*(*record)->value)) : 0;
      records.push_back({stored.base.value() + (*record)->offset_delta, token});
    }
  }
  return records;
}

// --- metadata
// ----------------------------------------------------------------------------------------------------------

void Observer::look() {
  for (int node = 1; node <= context_.cluster.size(); ++node) {
    if (!context_.cluster.runs(node)) continue;
    ImagePtr image = context_.cluster.broker(node)->image();
    std::pair<uint64_t, Offset> now{context_.cluster.life(node), image->applied()};
    auto& before = looked_[node];
    if (before == now || image->applied() < Offset(0)) continue;
    if (before.first == now.first && before.second > now.second) {
      context_.violation("the metadata of node " + std::to_string(node) + " goes back from offset " +
                         std::to_string(before.second.value()) + " to " + std::to_string(now.second.value()));
    }
    before = now;
    look_at(node, *image);
  }
}

void Observer::look_at(int node, const MetadataImage& image) {
  const uint64_t digest = image.digest();
  auto [known, is_new] = digests_.emplace(image.applied(), digest);
  if (!is_new && known->second != digest) {
    context_.violation("A11: the metadata of node " + std::to_string(node) + " at offset " +
                       std::to_string(image.applied().value()) + " differs from what another node had there");
  }
  look_at_decisions(node, image);
  if (image.applied() <= newest_) return;
  newest_ = image.applied();
  look_at_changes(image);
}

void Observer::look_at_decisions(int node, const MetadataImage& image) {
  for (const auto& [name, topic] : image.topics()) {
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      const PartitionImage& now = topic->partitions[i];
      const TopicPartition partition{topic->id, PartitionId(static_cast<int32_t>(i))};
      auto [known, is_new] = decided_.try_emplace({partition, now.partition_epoch}, now);
      if (is_new || known->second == now) continue;
      context_.violation("Q6: node " + std::to_string(node) + " has another state of " + name + "/" +
                         std::to_string(i) + " with partition epoch " + std::to_string(now.partition_epoch.value()) +
                         " than was decided before");
      known->second = now;
    }
  }
}

void Observer::look_at_changes(const MetadataImage& image) {
  for (const auto& [id, topic] : image.topics()) {
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      look_at_partition(*topic, static_cast<int32_t>(i), topic->partitions[i]);
    }
  }
  for (const auto& [id, broker] : image.brokers()) {
    const auto before = brokers_.find(id);
    if (before != brokers_.end() && before->second.directory != broker.directory) {
      ++context_.counters.wiped_rejoined;
      context_.journal.note("node " + std::to_string(id.value()) + " registers with a new folder");
    }
    if (before != brokers_.end() && !before->second.fenced && broker.fenced && before->second.epoch == broker.epoch) {
      ++context_.counters.fencings;
    }
    brokers_[id] = broker;
    const auto replaced = replaced_.find(id.value());
    if (replaced != replaced_.end() && replaced->second == broker.directory) replaced_.erase(replaced);
  }
}

void Observer::look_at_partition(const TopicImage& topic, int32_t index, const PartitionImage& partition) {
  const std::string name = topic.name + "/" + std::to_string(index);
  auto broken = [&](const std::string& what) { context_.violation(name + ": " + what); };
  if (partition.leader != kNoBroker && !contains(partition.isr, partition.leader)) {
    broken("A4: the leader is not in sync");
  }
  for (const BrokerId member : partition.isr) {
    if (!contains(partition.replicas, member)) broken("A4: an in-sync replica is none");
    if (contains(partition.elr, member)) broken("A4: a replica is in the ISR and in the ELR");
  }
  if (static_cast<int32_t>(partition.isr.size()) >= topic.settings.min_insync_replicas && !partition.elr.empty()) {
    broken("A4: the ELR is not empty although enough are in sync");
  }
  auto [seen, is_new] = partitions_.try_emplace(TopicPartition{topic.id, PartitionId(index)});
  Seen& before = seen->second;
  if (!is_new && before.partition_epoch == partition.partition_epoch) return;
  if (partition.partition_epoch < before.partition_epoch) broken("A5: the partition epoch goes down");
  if (partition.leader_epoch < before.leader_epoch) broken("A5: the leader epoch goes down");
  if (partition.leader_epoch == before.leader_epoch && partition.leader != before.leader && !is_new) {
    broken("C6: the leader changed without a new epoch");
  }
  if (!is_new) {
    for (const BrokerId was : before.isr) {
      context_.counters.isr_shrinks += contains(partition.isr, was) ? 0u : 1u;
    }
    for (const BrokerId is : partition.isr) context_.counters.isr_expansions += before.isr.contains(is) ? 0u : 1u;
    if (!partition.unclean.empty()) ++context_.counters.unclean_registrations;
    if (partition.leader_epoch > before.leader_epoch && partition.leader != kNoBroker) {
      ++context_.counters.leader_elections;
      if (topic.internal) ++context_.counters.coordinator_moves;
      if (!before.isr.contains(partition.leader) && before.elr.contains(partition.leader)) {
        ++context_.counters.elr_elections;
      }
    }
    std::vector<BrokerId> elr = partition.elr;
    context_.journal.note(name + " epoch " + std::to_string(partition.leader_epoch.value()) + "." +
                          std::to_string(partition.partition_epoch.value()) + " leader " +
                          std::to_string(partition.leader.value()) + " isr " + text_of(partition.isr) + " elr " +
                          text_of(elr));
  }
  before = {partition.leader,
            partition.leader_epoch,
            partition.partition_epoch,
            {partition.isr.begin(), partition.isr.end()},
            {partition.elr.begin(), partition.elr.end()}};
  const auto ours = std::ranges::find(context_.topics, topic.id, &Topic::id);
  if (ours != context_.topics.end()) check_leader(*ours, seen->first, before);
}

void Observer::check_leader(const Topic& topic, const TopicPartition& partition, const Seen& now) {
  const auto known = acknowledged_.find(partition);
  if (known == acknowledged_.end() || now.leader == kNoBroker || replaced_.contains(now.leader.value())) return;
  if (rotten_.contains(now.leader.value())) return;
  for (const auto& [epoch, last] : known->second) {
    if (epoch >= now.leader_epoch) break;
    ++context_.counters.leader_checks;
    const auto records = records_of(read_log(context_.cluster.disk(now.leader.value()).image(), partition,
                                             Offset(last.offset), Offset(last.offset + 1)));
    if (std::ranges::find(records, last) != records.end()) continue;
    context_.violation("C7: node " + std::to_string(now.leader.value()) + " leads " + topic.name + "/" +
                       std::to_string(partition.partition.value()) + " in epoch " +
                       std::to_string(now.leader_epoch.value()) + " without token " + std::to_string(last.token) +
                       " at offset " + std::to_string(last.offset) + ", acknowledged in epoch " +
                       std::to_string(epoch.value()));
  }
}

void Observer::check_brokers() {
  const int64_t now_ns = context_.now_ns();
  if (now_ns - checked_ns_ < (now_ns - began_ns_) / 200 - kSecond) return;
  checked_ns_ = now_ns;
  for (int node = 1; node <= context_.cluster.size(); ++node) {
    if (context_.cluster.state(node) != sim::SimCluster::State::kUp || rotten_.contains(node)) continue;
    context_.cluster.broker(node)->check_invariants([] {});
  }
}

// --- disks
// -------------------------------------------------------------------------------------------------------------

size_t Observer::durable_copies(const history::Produce& told, const TopicPartition& partition) {
  size_t copies = 0;
  for (int node = 1; node <= context_.cluster.size(); ++node) {
    const std::vector<history::Record> records =
        records_of(read_log(context_.cluster.disk(node).durable(), partition, Offset(told.records.front().offset),
                            Offset(told.records.back().offset + 1), &places_[{node, partition}]));
    auto has = [&](const history::Record& record) {
      return std::find(records.rbegin(), records.rend(), record) != records.rend();
    };
    if (std::all_of(told.records.begin(), told.records.end(), has)) ++copies;
  }
  return copies;
}

void Observer::check_acknowledged(const history::Produce& told, const Topic& topic) {
  if (topic.durability != api::Durability::kSynced || told.acks != history::Acks::kAll) return;
  ++context_.counters.ack_checks;
  const TopicPartition partition{topic.id, PartitionId(told.partition.index)};
  note_acknowledged(told, topic, partition);
  const size_t copies = durable_copies(told, partition);
  std::set<int> harmed = rotten_;
  for (const auto& [node, directory] : replaced_) harmed.insert(node);
  if (copies + harmed.size() >= kMinInSync) return;
  context_.violation("R2: token " + std::to_string(told.records[0].token) + " at offset " +
                     std::to_string(told.records[0].offset) + " of " + topic.name + "/" +
                     std::to_string(told.partition.index) + " was acknowledged and is on " + std::to_string(copies) +
                     " disks");
}

void Observer::note_acknowledged(const history::Produce& told, const Topic& topic, const TopicPartition& partition) {
  const LeaderEpoch epoch(told.leader_epoch);
  auto [known, is_new] = acknowledged_[partition].try_emplace(epoch, told.records.back());
  if (known->second.offset < told.records.back().offset) known->second = told.records.back();
  // Of a leader that was replaced: the one that follows has it as well. Perhaps it was that one that recognised a
  // repeat, so what it knows comes first.
  look();
  const auto seen = partitions_.find(partition);
  if (seen != partitions_.end() && epoch < seen->second.leader_epoch) check_leader(topic, partition, seen->second);
}

// --- log lines
// ---------------------------------------------------------------------------------------------------------

void Observer::heard(const std::string& env, std::string_view line) {
  Counters& counters = context_.counters;
  auto says = [&](std::string_view text) { return line.find(text) != std::string_view::npos; };
  if (says("goes on differently there")) ++counters.truncations;
  if (says("cut a torn tail") || says("cutting a broken write off")) ++counters.torn_tails;
  if (says(" leads the metadata log")) look_at_controller(env, line);
  if (says("came as a snapshot")) ++counters.snapshots_installed;
  if (says("is damaged, and takes no part")) ++counters.metadata_repaired;
  if (says("mended damage")) ++counters.damage_mended;
  if (says("what could not be read can be read again")) ++counters.read_again;
  context_.journal.note(env + ": " + std::string(line));
}

// A7: one leader per term.
void Observer::look_at_controller(const std::string& env, std::string_view line) {
  ++context_.counters.controller_failovers;
  const int node = std::stoi(env.substr(env.find('-') + 1));
  const std::string term(line.substr(line.rfind(' ') + 1));
  auto [known, is_new] = controllers_.try_emplace(term, node, context_.cluster.life(node));
  if (is_new || known->second == std::pair(node, context_.cluster.life(node))) return;
  context_.violation("A7: nodes " + std::to_string(known->second.first) + " and " + std::to_string(node) +
                     " both lead the metadata log in term " + term);
}

// --- after healing
// -----------------------------------------------------------------------------------------------------

std::string Observer::missing(bool wait_for_replicas) {
  ImagePtr newest = context_.newest_image();
  if (!newest) return "nothing runs";
  for (int node = 1; node <= context_.cluster.size(); ++node) {
    std::string what = missing_of_node(node, *newest);
    if (!what.empty()) return what;
  }
  for (const auto& [name, topic] : newest->topics()) {
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      const PartitionImage& partition = topic->partitions[i];
      const std::string label = name + "/" + std::to_string(i);
      if (partition.leader == kNoBroker) {
        return label + " has no leader; isr " + text_of(partition.isr) + " elr " + text_of(partition.elr);
      }
      if (partition.isr.size() != partition.replicas.size()) {
        return label + " led by " + std::to_string(partition.leader.value()) + " has in sync only " +
               text_of(partition.isr);
      }
      if (!wait_for_replicas) continue;
      std::string what = missing_of_partition(*topic, static_cast<int32_t>(i));
      if (!what.empty()) return label + ": " + what;
    }
  }
  return {};
}

std::string Observer::describe() const {
  static constexpr const char* kStates[] = {"down", "starting", "up", "stopping"};
  std::string text;
  for (int node = 1; node <= context_.cluster.size(); ++node) {
    text += "node " + std::to_string(node) + " " + kStates[static_cast<size_t>(context_.cluster.state(node))];
    if (context_.cluster.runs(node)) {
      ImagePtr image = context_.cluster.broker(node)->image();
      text += ", metadata up to " + std::to_string(image->applied().value()) + ":";
      for (const auto& [id, broker] : image->brokers()) {
        text += " " + std::to_string(id.value()) + "@" + std::to_string(broker.epoch.value()) +
                (broker.fenced ? " fenced" : "") + (broker.draining ? " draining" : "");
      }
    }
    text += "; ";
  }
  return text;
}

std::string Observer::missing_of_node(int node, const MetadataImage& newest) const {
  const std::string name = "node " + std::to_string(node);
  if (context_.cluster.state(node) != sim::SimCluster::State::kUp) return name + " does not serve";
  ImagePtr image = context_.cluster.broker(node)->image();
  if (image->applied() != newest.applied()) {
    return name + " has metadata up to " + std::to_string(image->applied().value()) + " of " +
           std::to_string(newest.applied().value());
  }
  if (image->digest() != newest.digest()) return name + " has other metadata at the same offset";
  const BrokerImage* broker = newest.find_broker(context_.cluster.id(node));
  if (broker == nullptr || broker->fenced) return name + " is fenced";
  return {};
}

std::string Observer::missing_of_partition(const TopicImage& topic, int32_t index) {
  const PartitionImage& partition = topic.partitions[static_cast<size_t>(index)];
  const TopicPartition id{topic.id, PartitionId(index)};
  const auto leader = read_log(context_.cluster.disk(partition.leader.value()).image(), id);
  for (const BrokerId replica : partition.replicas) {
    const auto other = read_log(context_.cluster.disk(replica.value()).image(), id);
    // Fronts may have been removed at different times.
    const Offset from = leader.empty() || other.empty() ? Offset(0) : std::max(leader.front().base, other.front().base);
    auto skip = [from](const std::vector<StoredBatch>& log) {
      return std::find_if(log.begin(), log.end(), [from](const StoredBatch& batch) { return batch.base >= from; });
    };
    const bool equal = std::equal(skip(leader), leader.end(), skip(other), other.end(),
                                  [](const StoredBatch& a, const StoredBatch& b) {
                                    return std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end());
                                  });
    if (equal) continue;
    auto end_of = [](const std::vector<StoredBatch>& log) {
      return log.empty() ? std::string("nothing") : "up to " + std::to_string(log.back().next.value());
    };
    return "the logs of nodes " + std::to_string(partition.leader.value()) + " (" + end_of(leader) + ") and " +
           std::to_string(replica.value()) + " (" + end_of(other) + ") differ";
  }
  return {};
}

void Observer::add_replicas(int64_t invoked_ns) {
  for (const Topic& topic : context_.topics) {
    for (int32_t index = 0; index < topic.partitions; ++index) {
      for (int node = 1; node <= context_.cluster.size(); ++node) {
        const auto batches = read_log(context_.cluster.disk(node).image(), {topic.id, PartitionId(index)});
        history::FinalRead read;
        read.client = "disk of node " + std::to_string(node);
        read.invoked_ns = invoked_ns;
        read.answered_ns = context_.now_ns();
        read.partition = {topic.name, index};
        read.node = node;
        read.log_start = batches.empty() ? 0 : batches.front().base.value();
        read.high_watermark = batches.empty() ? 0 : batches.back().next.value();
        read.records = records_of(batches);
        context_.history.add(std::move(read));
      }
    }
  }
}

}  // namespace trilog::simulator
