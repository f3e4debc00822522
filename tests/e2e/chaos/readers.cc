// Reading by plain calls: fetchers while the faults happen, and the final state.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <utility>

#include "tests/e2e/chaos/actors.h"
#include "trilog/v1/broker.grpc.pb.h"

namespace trilog::chaos {
namespace {

constexpr auto kCallTimeout = std::chrono::seconds(8);
constexpr uint32_t kWaitMs = 50;
constexpr int64_t kFinalPatienceNs = 60'000'000'000;

uint64_t token_of(const v1::Record& record) {
  uint64_t token = 0;
  const std::string& text = record.value();
  std::from_chars(text.data(), text.data() + text.size(), token);
  return token;
}

std::string code_of(const grpc::ClientContext& context, const grpc::Status& status) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto code = trailers.find("trilog-code");
  if (code != trailers.end()) return {code->second.data(), code->second.size()};
  return "transport " + std::to_string(status.error_code());
}

// One server, by plain calls. What fails is counted in the recorder.
class Server {
 public:
  Server(const std::string& address, std::string name, Recorder& recorder)
      : name_(std::move(name)), recorder_(recorder) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
    arguments.SetMaxReceiveMessageSize(64 << 20);
    stub_ = v1::Broker::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }

  // From `offset` on. False if it failed.
  bool fetch(history::Fetch& fetch, uint32_t wait_ms) {
    v1::FetchRequest request;
    request.set_topic(fetch.partition.topic);
    request.set_max_wait_ms(wait_ms);
    v1::Position* position = request.add_partitions();
    position->set_partition(fetch.partition.index);
    position->set_offset(fetch.asked_offset);
    v1::FetchResponse response;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
    fetch.invoked_ns = now_ns();
    const grpc::Status status = stub_->Fetch(&context, request, &response);
    fetch.answered_ns = now_ns();
    if (!status.ok()) return failed("fetch", code_of(context, status), status.error_message());
    if (response.partitions_size() != 1) return failed("fetch", "no entry", "");
    const v1::FetchedPartition& from = response.partitions(0);
    if (from.has_error()) return failed("fetch", from.error().code(), from.error().message());
    fetch.next_offset = from.next_offset();
    fetch.high_watermark = from.high_watermark();
    fetch.log_start = from.log_start_offset();
    fetch.stale = from.stale();
    fetch.detail = "leader " + std::to_string(from.leader_node_id()) + " epoch " + std::to_string(from.leader_epoch());
    for (const v1::Record& record : from.records()) fetch.records.push_back({record.offset(), token_of(record)});
    return true;
  }

  bool ends(history::ListOffsets& list, bool latest) {
    v1::ListOffsetsRequest request;
    request.set_topic(list.partition.topic);
    request.add_partitions()->set_partition(list.partition.index);
    request.set_spec(latest ? v1::ListOffsetsRequest::LATEST : v1::ListOffsetsRequest::EARLIEST);
    v1::ListOffsetsResponse response;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
    list.invoked_ns = now_ns();
    const grpc::Status status = stub_->ListOffsets(&context, request, &response);
    list.answered_ns = now_ns();
    if (!status.ok()) return failed("list", code_of(context, status), status.error_message());
    if (response.offsets_size() != 1) return failed("list", "no entry", "");
    const v1::ListedOffset& from = response.offsets(0);
    if (from.has_error()) return failed("list", from.error().code(), from.error().message());
    (latest ? list.latest : list.earliest) = from.offset();
    list.stale = from.stale();
    return true;
  }

 private:
  bool failed(const std::string& call, const std::string& code, const std::string& message) {
    recorder_.problem(name_ + " " + call + " " + code, message);
    return false;
  }

  const std::string name_;
  Recorder& recorder_;
  std::unique_ptr<v1::Broker::Stub> stub_;
};

std::vector<history::Partition> partitions_of(const Workload& workload) {
  std::vector<history::Partition> partitions;
  for (const TopicShape& topic : workload.topics) {
    for (int32_t index = 0; index < topic.partitions; ++index) partitions.push_back({topic.name, index});
  }
  return partitions;
}

bool read_to_end(const Workload& workload, Recorder& recorder, const history::Partition& partition) {
  Server server(workload.servers.front(), "final", recorder);
  history::FinalRead read;
  read.client = "final";
  read.partition = partition;
  read.invoked_ns = now_ns();
  const int64_t until = read.invoked_ns + kFinalPatienceNs;
  history::ListOffsets latest;
  latest.partition = partition;
  while (!server.ends(latest, true) || latest.stale) {
    if (now_ns() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  for (int64_t next = 0; next < latest.latest;) {
    history::Fetch fetch;
    fetch.partition = partition;
    fetch.asked_offset = next;
    if (!server.fetch(fetch, 0)) {
      if (now_ns() > until) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    read.log_start = fetch.log_start;
    for (const history::Record& record : fetch.records) read.records.push_back(record);
    if (fetch.next_offset <= next) {
      recorder.problem("final stuck", partition.topic + " at " + std::to_string(next));
      return false;
    }
    next = fetch.next_offset;
  }
  std::erase_if(read.records, [&](const history::Record& record) { return record.offset >= latest.latest; });
  read.high_watermark = latest.latest;
  read.answered_ns = now_ns();
  recorder.add(history::AnyOperation(read));
  return true;
}

}  // namespace

void run_fetcher(Stage& stage, size_t server_number) {
  const std::string name = "fetcher" + std::to_string(server_number + 1);
  Server server(stage.workload.servers[server_number], name, stage.recorder);
  std::mt19937_64 random(stage.workload.seed * 77 + server_number);
  struct Place {
    int64_t offset = 0;
    int32_t session = 0;
  };
  std::map<history::Partition, Place> places;
  const std::vector<history::Partition> partitions = partitions_of(stage.workload);
  for (size_t turn = 0; !stage.over; ++turn) {
    const history::Partition& partition = partitions[turn % partitions.size()];
    Place& place = places[partition];
    if (random() % 100 == 0 && place.offset > 0) {
      place.offset -= static_cast<int64_t>(random() % static_cast<uint64_t>(std::min<int64_t>(place.offset, 5'000)));
      ++place.session;
    }
    history::Fetch fetch;
    fetch.client = name;
    fetch.partition = partition;
    fetch.asked_offset = place.offset;
    fetch.session = place.session;
    if (!server.fetch(fetch, kWaitMs)) {
      stage.rest(20);
      continue;
    }
    place.offset = fetch.next_offset;
    stage.recorder.add(fetch);
    if (random() % 10 != 0) continue;
    history::ListOffsets list;
    list.client = name;
    list.partition = partition;
    if (server.ends(list, random() % 2 == 0)) stage.recorder.add(history::AnyOperation(list));
  }
}

bool record_final_state(const Workload& workload, Recorder& recorder) {
  for (const history::Partition& partition : partitions_of(workload)) {
    if (!read_to_end(workload, recorder, partition)) return false;
  }
  const auto connection = connect(workload, 0, false, 30'000);
  client::Admin admin(*connection);
  history::Listing listing;
  listing.client = "final";
  listing.kind = history::ObjectKind::kTopic;
  listing.invoked_ns = now_ns();
  auto topics = admin.list_topics("", false);
  listing.answered_ns = now_ns();
  if (!topics.ok()) {
    recorder.problem("final list_topics " + topics.error().code, topics.error().message);
    return false;
  }
  for (const client::TopicInfo& topic : topics.value()) listing.names.push_back(topic.name);
  recorder.add(history::AnyOperation(listing));
  return true;
}

}  // namespace trilog::chaos
