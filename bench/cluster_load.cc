// The lightest client a cluster can have: ready batches, each a request of its own, down one stream to each leader, for
// all partitions of a topic in turn; so that the figure is the brokers' and not the client's. Beside it:
// `copy_limit --replicas 3` with the same --batch-kb, --record-bytes, --total-mb and --window.
//
// --server HOST:PORT of any node, --topic NAME; --sync says that it is `synced`.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include "bench/limit_support.h"
#include "bench/stream_sender.h"
#include "storage/base/codec.h"
#include "storage/base/crc32c.h"
#include "storage/record/record_batch.h"
#include "trilog/v1/admin.grpc.pb.h"
#include "trilog/v1/broker.grpc.pb.h"

namespace trilog::bench {
namespace {

// Until it succeeds: the cluster may just be choosing a leader.
void call(const std::string& server, const std::function<grpc::Status(grpc::ClientContext*)>& method) {
  for (int left = 100;; --left) {
    grpc::ClientContext context;
    prepare(context);
    const grpc::Status status = method(&context);
    if (status.ok()) return;
    if (left == 0) {
      std::fprintf(stderr, "%s: %s\n", server.c_str(), status.error_message().c_str());
      std::exit(1);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

// What one leader gets: the same batch for each of its partitions in turn, with the next sequence of an idempotent
// producer; without one a partition would take one request at a time.
class Requests {
 public:
  Requests(const std::string& topic, const std::vector<int32_t>& partitions, const v1::InitProducerResponse& producer,
           const Bytes& batch)
      : batch_(batch), records_(static_cast<uint64_t>(RecordBatch::parse(batch).value().record_count())) {
    for (int32_t partition : partitions) {
      v1::ProduceRequest request;
      request.set_topic(topic);
      request.set_partition(partition);
      std::string head = request.SerializeAsString();
      head += static_cast<char>(v1::ProduceRequest::kRecordBatchFieldNumber << 3 | 2);
      for (size_t left = batch.size(); left > 0; left >>= 7) {
        head += static_cast<char>((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
      }
      head += as_text(batch.view().first(kBatchHeaderBytes));
      auto* header = reinterpret_cast<std::byte*>(head.data() + head.size() - kBatchHeaderBytes);
      store_big_endian<int64_t>(header + kProducerIdAt, producer.producer_id());
      store_big_endian<int16_t>(header + kProducerEpochAt, static_cast<int16_t>(producer.producer_epoch()));
      heads_.push_back(std::move(head));
    }
  }

  grpc::ByteBuffer next() {
    std::string& head = heads_[turn_++ % heads_.size()];
    auto* header = reinterpret_cast<std::byte*>(head.data() + head.size() - kBatchHeaderBytes);
    const auto sequence = static_cast<int32_t>((turn_ - 1) / heads_.size() * records_ & INT32_MAX);
    const ByteView rest = batch_.view().subspan(kBatchHeaderBytes);
    store_big_endian<int32_t>(header + kSequenceAt, sequence);
    const uint32_t crc = crc32c({header + kChecksummedAt, kBatchHeaderBytes - kChecksummedAt});
    store_big_endian<uint32_t>(header + kChecksumAt, crc32c(rest, crc));
    const grpc::Slice slices[] = {grpc::Slice(head), grpc::Slice(rest.data(), rest.size(), grpc::Slice::STATIC_SLICE)};
    return grpc::ByteBuffer(slices, 2);
  }

 private:
  // Kafka's record batch, version 2.
  static constexpr size_t kChecksumAt = 17;
  static constexpr size_t kChecksummedAt = 21;
  static constexpr size_t kProducerIdAt = 43;
  static constexpr size_t kProducerEpochAt = 51;
  static constexpr size_t kSequenceAt = 53;

  const Bytes& batch_;
  const uint64_t records_;
  std::vector<std::string> heads_;  // requests up to the records, one for each partition
  uint64_t turn_ = 0;
};

v1::InitProducerResponse make_producer(const LimitOptions& options) {
  auto stub = v1::Broker::NewStub(lasting_channel(options.server));
  v1::InitProducerResponse producer;
  call(options.server, [&](auto* context) { return stub->InitProducer(context, {}, &producer); });
  return producer;
}

// The partitions that each node leads, by its address. Every node that is there knows the topic by then.
std::map<std::string, std::vector<int32_t>> leaders_of(const LimitOptions& options) {
  v1::DescribeClusterResponse cluster;
  call(options.server, [&](auto* context) {
    return v1::Admin::NewStub(lasting_channel(options.server))->DescribeCluster(context, {}, &cluster);
  });
  v1::DescribeTopicRequest request;
  request.add_names(options.topic);
  v1::DescribeTopicResponse described;
  for (const v1::NodeState& node : cluster.nodes()) {
    if (node.state() != "up") continue;
    call(node.address(), [&](auto* context) {
      return v1::Admin::NewStub(lasting_channel(node.address()))->DescribeTopic(context, request, &described);
    });
  }
  std::map<int32_t, std::string> addresses;
  for (const v1::NodeState& node : cluster.nodes()) addresses[node.node_id()] = node.address();
  std::map<std::string, std::vector<int32_t>> led;
  for (const v1::PartitionState& partition : described.topics(0).partitions()) {
    led[addresses[partition.leader()]].push_back(partition.partition());
  }
  return led;
}

int run(int argc, char** argv) {
  const LimitOptions options = parse_options(argc, argv, "cluster_load");
  static const Bytes batch = make_limit_batch(options);
  const auto led = leaders_of(options);
  uint64_t all = 0;
  for (const auto& [address, partitions] : led) all += partitions.size();
  for (int round = 0; round < options.rounds; ++round) {
    const v1::InitProducerResponse producer = make_producer(options);
    Figure figure;
    figure.name = "load " + std::to_string(options.batch_bytes >> 10) + " KiB, " + std::to_string(all) + " partitions";
    std::vector<std::unique_ptr<grpc::GenericStub>> stubs;
    std::vector<std::unique_ptr<StreamSender>> senders;
    const double begin = now_seconds();
    for (const auto& [address, partitions] : led) {
      auto requests = std::make_shared<Requests>(options.topic, partitions, producer, batch);
      const uint64_t count = std::max<uint64_t>(1, options.total_bytes / batch.size() * partitions.size() / all);
      const uint64_t window = std::max<uint64_t>(1, static_cast<uint64_t>(options.window) * partitions.size() / all);
      stubs.push_back(std::make_unique<grpc::GenericStub>(lasting_channel(address)));
      senders.push_back(std::make_unique<StreamSender>(
          *stubs.back(), [requests] { return requests->next(); }, count, window, false));
      figure.operations += count;
    }
    for (const auto& sender : senders) {
      const std::vector<double> took = sender->wait();
      figure.latencies_us.insert(figure.latencies_us.end(), took.begin(), took.end());
    }
    figure.seconds = now_seconds() - begin;
    figure.bytes = figure.operations * batch.size();
    print(options, std::move(figure));
  }
  return 0;
}

}  // namespace
}  // namespace trilog::bench

int main(int argc, char** argv) { return trilog::bench::run(argc, argv); }
