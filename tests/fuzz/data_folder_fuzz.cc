// Any files as the data folder of a node: identity, marks, clean marker, metadata log, logs of partitions. The broker
// says why it does not start, or it starts, works, stops, and starts again.
//
// Input, until it ends: 2 length | path in the data folder | 1 form (checksums.h) | 2 length | content | and for slots
// 2 length | the second slot. A form with bit 7 set has its checksums made right.
#include <cstdint>
#include <string>

#include "tests/broker/sim_broker.h"
#include "tests/fuzz/checksums.h"
#include "tests/fuzz/input.h"

namespace trilog::fuzz {
namespace {

class Examination {
 public:
  explicit Examination(Input input) {
    node_.options.controller.partitions_max = 50;
    while (!input.empty()) put_file(input);
  }

  void run() {
    Status started = node_.try_start();
    if (!started.ok()) {
      CHECK(!started.message().empty());
      return;
    }
    std::string first = describe();
    (void)node_.create_topic("new", 1);
    (void)node_.produce("new", "key", "value", 0);
    (void)node_.commit("group", "new", 0, 1);
    read("new");
    if (!node_.stop().ok()) return;
    node_.disk.power_cut(sim::CrashPolicy::lose_all());
    CHECK(node_.try_start().ok());
    CHECK(describe().starts_with(first));
    CHECK(node_.stop().ok());
  }

 private:
  void put_file(Input& input) {
    std::string path = "data/" + std::string(as_text(input.piece()));
    uint8_t choice = input.byte();
    auto form = static_cast<FileForm>((choice & 0x7f) % kFileForms);
    Bytes content = Bytes::copy_of(input.piece());
    if (form == FileForm::kSlots) {
      size_t used = std::min(content.size(), kSlotBytes);
      content.resize_uninitialized(2 * kSlotBytes);
      std::memset(content.data() + used, 0, content.size() - used);
      ByteView second = input.piece();
      std::copy_n(second.data(), std::min(second.size(), kSlotBytes), content.data() + kSlotBytes);
    }
    if ((choice & 0x80) != 0) fix_checksums(form, content.mutable_view());
    if (fits(path)) node_.disk.put_file(path, content);
  }
  // No file stands where a folder is wanted, nor the other way round.
  bool fits(const std::string& path) const {
    if (path.ends_with('/') || path.ends_with("/.")) return false;
    const sim::DiskImage& image = node_.disk.image();
    for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      sim::InodeId inode = image.find(path.substr(0, slash));
      if (inode != sim::kNoInode && !image.node(inode)->is_directory) return false;
    }
    sim::InodeId inode = image.find(path);
    return inode == sim::kNoInode || !image.node(inode)->is_directory;
  }

  // Who the node is.
  std::string describe() {
    auto cluster = node_.ask<api::Cluster>([&](auto done) { node_.broker->describe_cluster(std::move(done)); });
    CHECK(cluster.ok());
    std::string text = cluster->id.to_string();
    std::vector<std::string> names;
    for (const auto& [name, id] : topics()) read(name);
    return text;
  }
  std::map<std::string, TopicId> topics() {
    std::map<std::string, TopicId> found;
    auto listed = node_.ask<api::ListTopicsResult>([&](auto done) { node_.broker->list_topics({}, std::move(done)); });
    CHECK(listed.ok());
    for (const api::Topic& topic : listed->topics) found[topic.name] = topic.id;
    return found;
  }
  // Partition 0, from its start, over damage.
  void read(const std::string& topic) {
    Offset at{0};
    for (int i = 0; i < 100; ++i) {
      auto fetched = node_.ask<api::FetchResult>([&](auto done) {
        node_.broker->fetch({.positions = {{.topic = topic, .partition = PartitionId(0), .offset = at}}},
                            std::move(done));
      });
      if (!fetched.ok()) return;
      const api::FetchedPartition& part = fetched.value()[0];
      for (const RecordBatch& batch : part.views) CHECK(batch.crc_matches());
      if (part.error || part.next_offset <= at) return;
      at = part.next_offset;
    }
  }

  testing::SimBroker node_;
};

}  // namespace
}  // namespace trilog::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trilog::fuzz::Examination(trilog::fuzz::Input(data, size)).run();
  return 0;
}
