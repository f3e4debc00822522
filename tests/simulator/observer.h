// The one who sees everything: images of all nodes, and what lies on all disks. Says what no client could.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "storage/record/record_batch.h"
#include "tests/simulator/context.h"

namespace trilog::simulator {

struct StoredBatch {
  Offset base;
  Offset next;  // exclusive
  LeaderEpoch epoch;
  ByteView bytes;  // into the image
};

// Where a batch was found, so that the next search for a later one need not begin at the front.
struct StoredPlace {
  sim::InodeId inode = sim::kNoInode;
  size_t position = 0;
  Offset base{0};
};

// The batches of a replica as they lie in the segment files of its node, in order; stops in a segment where the bytes
// are no batch any more. Reads without any code of the broker's storage but the frame of a batch.
// Only batches that have an offset in [from, to). `place`, if given and still true, is where to begin; then it is where
// the first of them is.
std::vector<StoredBatch> read_log(const sim::DiskImage& image, const TopicPartition& partition, Offset from = Offset(0),
                                  Offset to = Offset(INT64_MAX), StoredPlace* place = nullptr);
std::vector<history::Record> records_of(const std::vector<StoredBatch>& batches);

class Observer {
 public:
  explicit Observer(Context& context) : context_(context), began_ns_(context.now_ns()), checked_ns_(began_ns_) {}

  // Images of all nodes: digests are equal at equal offsets (A11), what was decided stays (A4, A5). Every few events.
  void look();
  // Asks every broker to walk over its own invariants (A1 to A10), which CHECK. The logs grow, and are walked over
  // whole: in a long run the walks come further and further apart.
  void check_brokers();
  // A write to a synced topic that a client was just told of with acks all: on the disks of min in-sync nodes, if no
  // disk was harmed meanwhile (R2).
  void check_acknowledged(const history::Produce& told, const Topic& topic);
  // The node has a new disk: it does not count for check_acknowledged() until it has registered with it.
  void disk_replaced(int node) { replaced_[node] = context_.cluster.directory(node); }
  // A bit of it flipped: it does not count either, and its broker may find damage that it does not know of, so that
  // check_brokers() passes it over.
  void disk_rots(int node) { rotten_.insert(node); }
  // A log line of a node.
  void heard(const std::string& env, std::string_view line);

  // What is missing until the healed cluster is as it should be; empty: nothing. `wait_for_replicas`: also that the
  // replicas of each partition are equal byte for byte.
  std::string missing(bool wait_for_replicas);
  // Where every node stands, for the journal.
  std::string describe() const;
  // After healing: each replica of each of our topics, as the history takes it.
  void add_replicas(int64_t invoked_ns);

 private:
  struct Seen {
    BrokerId leader = kNoBroker;
    LeaderEpoch leader_epoch{-1};
    PartitionEpoch partition_epoch{-1};
    std::set<BrokerId> isr, elr;
  };
  void look_at(int node, const MetadataImage& image);
  void look_at_changes(const MetadataImage& image);
  // A5, Q6: what was decided stays. One partition epoch is one state, whoever tells it and whenever.
  void look_at_decisions(int node, const MetadataImage& image);
  void look_at_partition(const TopicImage& topic, int32_t index, const PartitionImage& partition);
  std::string missing_of_node(int node, const MetadataImage& newest) const;
  std::string missing_of_partition(const TopicImage& topic, int32_t index);
  // Leader completeness: who leads a synced partition has what was acknowledged there in earlier epochs.
  void check_leader(const Topic& topic, const TopicPartition& partition, const Seen& now);
  void note_acknowledged(const history::Produce& told, const Topic& topic, const TopicPartition& partition);
  void look_at_controller(const std::string& env, std::string_view line);
  size_t durable_copies(const history::Produce& told, const TopicPartition& partition);

  Context& context_;
  std::map<int, std::pair<uint64_t, Offset>> looked_;  // per node: life and offset of the image last seen
  std::map<Offset, uint64_t> digests_;
  std::map<std::pair<TopicPartition, PartitionEpoch>, PartitionImage> decided_;
  Offset newest_{-1};
  std::map<TopicPartition, Seen> partitions_;
  std::map<BrokerId, BrokerImage> brokers_;
  // The last record acknowledged in each leader epoch, of synced partitions.
  std::map<TopicPartition, std::map<LeaderEpoch, history::Record>> acknowledged_;
  std::map<std::string, std::pair<int, uint64_t>> controllers_;  // by term: node and life
  std::map<int, DirectoryId> replaced_;
  std::map<std::pair<int, TopicPartition>, StoredPlace> places_;  // of what was acknowledged last, per node
  const int64_t began_ns_;
  int64_t checked_ns_;
  std::set<int> rotten_;
};

}  // namespace trilog::simulator
