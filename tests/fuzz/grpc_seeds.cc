// Writes the seeds of grpc_fuzz into a corpus folder: grpc_seeds DIRECTORY
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/fuzz/grpc_calls.h"
#include "tests/fuzz/input.h"
#include "tests/support/batches.h"
#include "trilog/v1/admin.pb.h"
#include "trilog/v1/broker.pb.h"

namespace trilog::fuzz {
namespace {

class Seed {
 public:
  Seed& call(std::string_view method, const std::vector<std::string>& messages, int how = kAnswered) {
    for (size_t i = 0; i < std::size(kMethods); ++i) {
      if (!kMethods[i].ends_with("/" + std::string(method))) continue;
      out_.byte(static_cast<uint8_t>(i)).byte(static_cast<uint8_t>(how | static_cast<int>(messages.size())));
      for (const std::string& message : messages) out_.piece(as_bytes(message));
      return *this;
    }
    CHECK(false);
  }
  Seed& call(std::string_view method, const google::protobuf::Message& message, int how = kAnswered) {
    return call(method, std::vector{message.SerializeAsString()}, how);
  }
  const std::string& text() const { return out_.text(); }

 private:
  InputWriter out_;
};

v1::ProduceRequest produce(int count) {
  v1::ProduceRequest request;
  request.set_topic(std::string(kTopic));
  for (int i = 0; i < count; ++i) {
    v1::Record& record = *request.add_records();
    record.set_key("k" + std::to_string(i));
    record.set_value("value");
    record.set_timestamp_ms(testing::kTestTimestampMs + i);
    v1::Header& header = *record.add_headers();
    header.set_key("h");
    header.set_value("x");
  }
  return request;
}
v1::FetchRequest fetch(v1::FetchRequest::Encoding encoding) {
  v1::FetchRequest request;
  request.set_topic(std::string(kTopic));
  request.set_encoding(encoding);
  request.add_codecs("none");
  request.set_max_wait_ms(10);
  for (int i = 0; i < 2; ++i) request.add_partitions()->set_partition(i);
  request.mutable_partitions(1)->set_offset(1);
  return request;
}
v1::CommitOffsetsRequest commit() {
  v1::CommitOffsetsRequest request;
  request.set_group("g");
  v1::CommittedOffset& offset = *request.add_offsets();
  offset.set_topic(std::string(kTopic));
  offset.set_offset(1);
  offset.set_metadata("note");
  return request;
}
v1::ConsumeRequest start(const std::string& group) {
  v1::ConsumeRequest request;
  request.mutable_start()->add_topics(std::string(kTopic));
  request.mutable_start()->set_group(group);
  request.mutable_start()->set_credit_bytes(10);
  return request;
}

void write_data(const auto& write) {
  v1::ProduceRequest sequenced = produce(1);
  sequenced.set_partition(1);
  sequenced.mutable_sequence()->set_producer_id(0);
  sequenced.set_acks(v1::ProduceRequest::LEADER);
  write("produce", Seed().call("Produce", produce(3)).call("Fetch", fetch(v1::FetchRequest::RECORDS)));
  write("produce_sliced", Seed().call("Produce", produce(3), kAnswered | kSliced));
  write("sequences",
        Seed().call("InitProducer", v1::InitProducerRequest()).call("Produce", sequenced).call("Produce", sequenced));
  v1::ProduceRequest elsewhere = produce(1);
  elsewhere.set_topic("new");
  write("stream", Seed().call("ProduceStream", {produce(1).SerializeAsString(), sequenced.SerializeAsString(),
                                                elsewhere.SerializeAsString(), "\x08"}));
  for (Codec codec : {Codec::kNone, Codec::kSnappy, Codec::kZstd}) {
    Bytes batch = testing::make_batch({{"k", "v", {{"h", "x"}}}, {std::nullopt, "w"}}, {.codec = codec});
    write("batch_" + std::string(codec_name(codec)),
          Seed()
              .call("Produce", std::vector{std::string(as_text(batch))}, kAnswered | kBatch)
              .call("Fetch", fetch(v1::FetchRequest::RECORD_BATCHES))
              .call("Fetch", fetch(v1::FetchRequest::RECORDS)));
  }
  v1::ListOffsetsRequest list;
  list.set_topic(std::string(kTopic));
  list.add_partitions()->set_timestamp_ms(testing::kTestTimestampMs);
  write("offsets", Seed().call("ListOffsets", list).call("CommitOffsets", commit()));
  v1::FetchOffsetsRequest committed;
  committed.set_group("g");
  write("committed", Seed().call("CommitOffsets", commit()).call("FetchOffsets", committed));

  v1::ConsumeRequest credit, note, seek, pause;
  credit.set_credit_bytes(1'000);
  note.mutable_commit()->set_request_id(3);
  *note.mutable_commit()->mutable_offsets() = commit().offsets();
  seek.mutable_seek()->set_topic(std::string(kTopic));
  seek.mutable_seek()->set_timestamp_ms(testing::kTestTimestampMs);
  pause.mutable_pause()->add_partitions()->set_topic(std::string(kTopic));
  pause.mutable_pause()->set_paused(true);
  write("consume", Seed()
                       .call("Consume", {start("g").SerializeAsString(), credit.SerializeAsString(),
                                         note.SerializeAsString(), seek.SerializeAsString(), pause.SerializeAsString()})
                       .call("Produce", produce(2))
                       .call("Consume", start("g")));
  v1::ConsumeRequest place;
  place.mutable_start()->add_positions()->set_topic(std::string(kTopic));
  place.mutable_start()->mutable_positions(0)->set_offset(1);
  write("consume_a_place", Seed().call("Consume", place, 0).call("Produce", produce(1), kCancelled));
}

void write_admin(const auto& write) {
  v1::CreateTopicRequest create;
  create.set_name("orders");
  create.set_partitions(3);
  (*create.mutable_configs())["retention.ms"] = "1000";
  v1::AlterTopicRequest alter;
  alter.set_name("orders");
  alter.set_partitions(4);
  (*alter.mutable_set())["segment.bytes"] = "1048576";
  alter.add_unset("retention.ms");
  v1::ListTopicsRequest list;
  list.set_page_size(1);
  v1::DescribeTopicRequest describe;
  describe.add_names("orders");
  describe.add_names("missing");
  v1::DeleteTopicRequest remove;
  remove.set_name("orders");
  write("topics", Seed()
                      .call("CreateTopic", create)
                      .call("AlterTopic", alter)
                      .call("ListTopics", list)
                      .call("DescribeTopic", describe)
                      .call("DeleteTopic", remove)
                      .call("CreateTopic", create));
  v1::TrimTopicRequest trim;
  trim.set_topic(std::string(kTopic));
  trim.add_before()->set_offset(1);
  write("trim", Seed().call("TrimTopic", trim).call("Fetch", fetch(v1::FetchRequest::RECORDS)));
  v1::ListGroupsRequest groups;
  v1::DescribeGroupRequest group;
  group.set_group("g");
  v1::DeleteGroupRequest gone;
  gone.set_group("g");
  write("groups", Seed()
                      .call("CommitOffsets", commit())
                      .call("ListGroups", groups)
                      .call("DescribeGroup", group)
                      .call("DeleteGroup", gone));
  write("cluster", Seed().call("DescribeCluster", v1::DescribeClusterRequest()));
  write("others", Seed()
                      .call("Check", std::vector<std::string>{""})
                      .call("Watch", std::vector<std::string>{"\x0a\x10trilog.v1.Broker"}, 0)
                      .call("ServerReflectionInfo", {"\x3a\x01*", "\x22\x10trilog.v1.Broker"})
                      .call("Produce", produce(1), kStopping));
}

void write_all(const std::string& corpus) {
  const std::string folder = corpus + "/grpc_fuzz";
  std::filesystem::create_directories(folder);
  auto write = [&](const std::string& name, const Seed& seed) {
    std::ofstream(folder + "/" + name, std::ios::binary | std::ios::trunc) << seed.text();
  };
  write_data(write);
  write_admin(write);
}

}  // namespace
}  // namespace trilog::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: grpc_seeds DIRECTORY\n");
    return 2;
  }
  trilog::fuzz::write_all(argv[1]);
  return 0;
}
