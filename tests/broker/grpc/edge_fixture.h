// A gRPC server over a real broker in a fresh folder, and what tests of it say again and again.
#pragma once

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/broker.h"
#include "broker/grpc/grpc_server.h"
#include "broker/runtime/shard_pool.h"
#include "google/rpc/status.pb.h"
#include "trilog/v1/admin.grpc.pb.h"
#include "trilog/v1/broker.grpc.pb.h"

namespace trilog {

// A call's context that waits for the connection and never for ever.
struct Call : grpc::ClientContext {
  explicit Call(int64_t limit_ms = 30'000) {
    set_wait_for_ready(true);
    set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(limit_ms));
  }
};

// What a refused call says, taken from the status details; the trailers must agree.
struct Refusal {
  grpc::StatusCode status = grpc::StatusCode::OK;
  v1::Error error;
};
inline Refusal refusal_of(const grpc::Status& status, const grpc::ClientContext& context) {
  Refusal refusal{status.error_code(), {}};
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details()) || details.details_size() != 1 ||
      !details.details(0).UnpackTo(&refusal.error)) {
    ADD_FAILURE() << "no details: " << status.error_code() << " " << status.error_message();
    return refusal;
  }
  EXPECT_EQ(details.code(), status.error_code());
  const auto& trailers = context.GetServerTrailingMetadata();
  auto trailer = [&](const char* name) {
    auto found = trailers.find(name);
    return found == trailers.end() ? std::string() : std::string(found->second.data(), found->second.size());
  };
  EXPECT_EQ(trailer("trilog-code"), refusal.error.code());
  EXPECT_EQ(trailer("trilog-outcome"), v1::Error::Outcome_Name(refusal.error.outcome()));
  EXPECT_EQ(trailer("trilog-retriable"), refusal.error.retriable() ? "true" : "false");
  EXPECT_LT(status.error_details().size() + status.error_message().size(), 3'000u);
  EXPECT_FALSE(refusal.error.message().empty());
  return refusal;
}

MATCHER_P3(IsRefused, status, code, outcome, "") {
  *result_listener << "status " << arg.status << ", " << arg.error.ShortDebugString();
  return arg.status == status && arg.error.code() == code && arg.error.outcome() == outcome;
}

class EdgeTest : public testing::Test {
 protected:
  EdgeTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "trilog-grpc-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    options_.data_dir = folder_ + "/node-1";
    options_.default_partitions = 3;
  }
  ~EdgeTest() override {
    stop();
    std::filesystem::remove_all(folder_);
  }

  // Tests change options_ before.
  void start() {
    listen();
    serve();
  }
  // The node has its address and starts.
  void listen(int accept_after_ms = 30'000) {
    shards_ = std::make_unique<ShardPool>(ShardPoolOptions{.shards = 1, .io_threads_max = 4, .log = {}, .fatal = {}});
    auto broker = Broker::open(options_, shards_->envs());
    ASSERT_TRUE(broker.ok()) << broker.status().to_string();
    broker_ = std::move(*broker);
    server_ = std::make_unique<GrpcServer>(*broker_, GrpcServerOptions{.listen = {"localhost:0"},
                                                                       .unix_socket = folder_ + "/s.sock",
                                                                       .log = log_,
                                                                       .accept_after_ms = accept_after_ms});
    Status listening = server_->start();
    ASSERT_TRUE(listening.ok()) << listening.to_string();
    connect();
  }
  void serve() {
    std::promise<Status> ready;
    broker_->start(server_->addresses()[0], [&](Status status) { ready.set_value(std::move(status)); });
    Status started = ready.get_future().get();
    ASSERT_TRUE(started.ok()) << started.to_string();
    server_->set_serving(true);
  }
  void connect() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    // Tests must not share a connection through gRPC's global pool.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(server_->addresses()[0], grpc::InsecureChannelCredentials(), arguments);
    data_ = v1::Broker::NewStub(channel_);
    admin_ = v1::Admin::NewStub(channel_);
  }
  void stop() {
    if (!server_) return;
    server_->drain(0);
    std::promise<Status> stopped;
    broker_->stop([&](Status status) { stopped.set_value(std::move(status)); });
    Status status = stopped.get_future().get();
    EXPECT_TRUE(status.ok()) << status.to_string();
    server_.reset();
    shards_->stop();
    broker_.reset();
    shards_.reset();
  }

  void create_topic(const std::string& name, int partitions = 1, std::map<std::string, std::string> configs = {}) {
    v1::CreateTopicRequest request;
    request.set_name(name);
    request.set_partitions(partitions);
    request.mutable_configs()->insert(configs.begin(), configs.end());
    v1::CreateTopicResponse response;
    Call call;
    grpc::Status status = admin_->CreateTopic(&call, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  // --- requests ---
  static v1::ProduceRequest records(const std::string& topic, const std::vector<std::string>& values,
                                    std::optional<int> partition = 0) {
    v1::ProduceRequest request;
    request.set_topic(topic);
    if (partition) request.set_partition(*partition);
    for (const auto& value : values) request.add_records()->set_value(value);
    return request;
  }
  v1::ProduceResponse produce(const v1::ProduceRequest& request) {
    v1::ProduceResponse response;
    Call call;
    grpc::Status status = data_->Produce(&call, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  Refusal refused(const v1::ProduceRequest& request) {
    v1::ProduceResponse response;
    Call call;
    grpc::Status status = data_->Produce(&call, request, &response);
    return refusal_of(status, call);
  }
  static v1::FetchRequest fetch_request(const std::string& topic, int64_t offset, int partition = 0) {
    v1::FetchRequest request;
    request.set_topic(topic);
    v1::Position& position = *request.add_partitions();
    position.set_partition(partition);
    position.set_offset(offset);
    return request;
  }
  v1::FetchedPartition fetch(const v1::FetchRequest& request) {
    v1::FetchResponse response;
    Call call;
    grpc::Status status = data_->Fetch(&call, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    if (response.partitions_size() == 0) return {};
    return response.partitions(0);
  }
  Refusal refused(const v1::FetchRequest& request) {
    v1::FetchResponse response;
    Call call;
    grpc::Status status = data_->Fetch(&call, request, &response);
    return refusal_of(status, call);
  }
  Refusal refused(const v1::ConsumeRequest& request) {
    Call call;
    auto stream = data_->Consume(&call);
    stream->Write(request);
    v1::ConsumeResponse response;
    EXPECT_FALSE(stream->Read(&response)) << response.ShortDebugString();
    grpc::Status status = stream->Finish();
    return refusal_of(status, call);
  }
  std::vector<std::string> values(const std::string& topic, int partition = 0) {
    std::vector<std::string> found;
    v1::FetchRequest request = fetch_request(topic, 0, partition);
    for (;;) {
      v1::FetchedPartition part = fetch(request);
      for (const auto& record : part.records()) found.push_back(record.value());
      if (part.next_offset() >= part.high_watermark()) return found;
      request.mutable_partitions(0)->set_offset(part.next_offset());
    }
  }

  std::string folder_;
  BrokerOptions options_;
  Logger log_;
  std::unique_ptr<ShardPool> shards_;
  std::unique_ptr<Broker> broker_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Broker::Stub> data_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

inline constexpr auto kNotWritten = v1::Error::NOT_WRITTEN;
inline constexpr auto kNotApplicable = v1::Error::NOT_APPLICABLE;

}  // namespace trilog
