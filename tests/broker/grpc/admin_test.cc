#include <grpcpp/impl/client_unary_call.h>
#include <unistd.h>

#include <atomic>
#include <latch>
#include <thread>

#include "broker/grpc/listen_address.h"
#include "tests/broker/grpc/edge_fixture.h"

namespace trilog {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

class AdminTest : public EdgeTest {
 protected:
  void SetUp() override { start(); }

  // Any unary admin call that is expected to be refused.
  template <typename Request, typename Response>
  Refusal refused_call(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                       const Request& request) {
    Call call;
    Response response;
    grpc::Status status = (*admin_.*method)(&call, request, &response);
    return refusal_of(status, call);
  }
};

TEST_F(AdminTest, CreatesDescribesAltersTrimsAndDeletesATopic) {
  create_topic("orders", 2, {{"retention.ms", "3600000"}});
  produce(records("orders", {"a", "b", "c"}));

  v1::DescribeTopicRequest describe;
  describe.add_names("orders");
  v1::DescribeTopicResponse described;
  Call describe_call;
  ASSERT_TRUE(admin_->DescribeTopic(&describe_call, describe, &described).ok());
  const v1::Topic& topic = described.topics(0);
  EXPECT_EQ(topic.partitions_size(), 2);
  EXPECT_EQ(topic.partitions(0).end_offset(), 3);
  EXPECT_EQ(topic.partitions(0).leader(), 1);
  EXPECT_EQ(topic.configs().at("retention.ms").value(), "3600000");
  EXPECT_EQ(topic.configs().at("retention.ms").source(), "topic");
  EXPECT_EQ(topic.durability(), "synced");
  EXPECT_EQ(topic.topic_id().size(), 32u);

  v1::AlterTopicRequest alter;
  alter.set_name("orders");
  alter.set_partitions(4);
  v1::AlterTopicResponse altered;
  Call alter_call;
  ASSERT_TRUE(admin_->AlterTopic(&alter_call, alter, &altered).ok());
  EXPECT_TRUE(altered.changed());

  v1::TrimTopicRequest trim;
  trim.set_topic("orders");
  trim.add_before()->set_offset(2);
  v1::TrimTopicResponse trimmed;
  Call trim_call;
  ASSERT_TRUE(admin_->TrimTopic(&trim_call, trim, &trimmed).ok());
  EXPECT_EQ(trimmed.partitions(0).start_offset(), 2);

  v1::DeleteTopicRequest remove;
  remove.set_name("orders");
  v1::DeleteTopicResponse removed;
  Call remove_call;
  ASSERT_TRUE(admin_->DeleteTopic(&remove_call, remove, &removed).ok());
  EXPECT_TRUE(removed.deleted());
  EXPECT_THAT(refused_call(&v1::Admin::Stub::DescribeTopic, describe),
              IsRefused(StatusCode::NOT_FOUND, "UNKNOWN_TOPIC", kNotWritten));
}

TEST_F(AdminTest, ALeadershipMovesOnlyToWhoIsInSync) {
  create_topic("orders", 2);
  v1::MoveLeaderRequest move;
  move.set_topic("orders");
  move.set_partition(1);
  move.set_to_node_id(1);
  v1::MoveLeaderResponse moved;
  Call call;
  ASSERT_TRUE(admin_->MoveLeader(&call, move, &moved).ok());
  EXPECT_FALSE(moved.changed());  // it leads already
  EXPECT_EQ(moved.leader(), 1);
  move.set_to_node_id(2);
  Refusal nobody = refused_call(&v1::Admin::Stub::MoveLeader, move);
  EXPECT_THAT(nobody, IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten));
  EXPECT_THAT(nobody.error.message(), HasSubstr("node 2 is not in sync"));
  move.set_partition(2);
  EXPECT_THAT(refused_call(&v1::Admin::Stub::MoveLeader, move),
              IsRefused(StatusCode::NOT_FOUND, "UNKNOWN_PARTITION", kNotWritten));
  move.set_topic("ordrs");
  EXPECT_THAT(refused_call(&v1::Admin::Stub::MoveLeader, move),
              IsRefused(StatusCode::NOT_FOUND, "UNKNOWN_TOPIC", kNotWritten));
}

TEST_F(AdminTest, RecordsAreGivenUpOnlyKnowinglyAndOnlyWhereNobodyLeads) {
  create_topic("orders", 1);
  v1::ElectLeaderRequest elect;
  elect.set_topic("orders");
  Refusal unaware = refused_call(&v1::Admin::Stub::ElectLeader, elect);
  EXPECT_THAT(unaware, IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten));
  EXPECT_THAT(unaware.error.message(), HasSubstr("accept_loss"));
  elect.set_accept_loss(true);
  elect.set_leader(1);
  Refusal led = refused_call(&v1::Admin::Stub::ElectLeader, elect);
  EXPECT_THAT(led, IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten));
  EXPECT_THAT(led.error.message(), HasSubstr("is led by node 1"));
  elect.set_topic("nothing");
  EXPECT_EQ(refused_call(&v1::Admin::Stub::ElectLeader, elect).status, StatusCode::NOT_FOUND);
}

TEST_F(AdminTest, ADrainedNodeSaysWhatNobodyElseCanLead) {
  create_topic("orders", 3);
  v1::DrainNodeRequest drain;
  drain.set_node_id(1);
  for (bool validate_only : {true, false}) {
    drain.set_validate_only(validate_only);
    v1::DrainNodeResponse drained;
    Call call;
    ASSERT_TRUE(admin_->DrainNode(&call, drain, &drained).ok());
    EXPECT_EQ(drained.moved(), 0);
    EXPECT_EQ(drained.left(), 3);
    EXPECT_FALSE(drained.changed());
  }
  drain.set_node_id(7);
  EXPECT_THAT(refused_call(&v1::Admin::Stub::DrainNode, drain),
              IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten));
}

TEST_F(AdminTest, RefusesWhatCannotBeCreatedOrChanged) {
  create_topic("orders");
  v1::CreateTopicRequest create;
  create.set_name("orders");
  EXPECT_THAT(refused_call(&v1::Admin::Stub::CreateTopic, create),
              IsRefused(StatusCode::ALREADY_EXISTS, "TOPIC_EXISTS", kNotWritten));
  create.set_name("other");
  create.set_partitions(-1);
  EXPECT_THAT(refused_call(&v1::Admin::Stub::CreateTopic, create),
              IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten));
  create.set_partitions(1);
  create.set_replicas(3);
  EXPECT_EQ(refused_call(&v1::Admin::Stub::CreateTopic, create).status, StatusCode::INVALID_ARGUMENT);
  create.set_replicas(0);
  (*create.mutable_configs())["retention.mss"] = "1";
  Refusal config = refused_call(&v1::Admin::Stub::CreateTopic, create);
  EXPECT_THAT(config, IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_CONFIG", kNotWritten));
  EXPECT_THAT(config.error.message(), HasSubstr("retention.ms"));
  v1::DeleteTopicRequest remove;
  remove.set_name("orders");
  remove.set_topic_id("not an id");
  EXPECT_THAT(refused_call(&v1::Admin::Stub::DeleteTopic, remove),
              IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten));
  v1::DescribeGroupRequest group;
  group.set_group("nobody");
  Refusal unknown = refused_call(&v1::Admin::Stub::DescribeGroup, group);
  EXPECT_EQ(unknown.status, StatusCode::NOT_FOUND);
  EXPECT_EQ(unknown.error.code(), "UNKNOWN_GROUP");
}

TEST_F(AdminTest, OnlyLooksWhenAskedToValidate) {
  v1::CreateTopicRequest create;
  create.set_name("maybe");
  create.set_validate_only(true);
  v1::CreateTopicResponse created;
  Call call;
  ASSERT_TRUE(admin_->CreateTopic(&call, create, &created).ok());
  v1::ListTopicsResponse list;
  Call list_call;
  ASSERT_TRUE(admin_->ListTopics(&list_call, {}, &list).ok());
  EXPECT_EQ(list.topics_size(), 0);
}

TEST_F(AdminTest, ListsTopicsByPage) {
  for (const char* name : {"a", "b", "c"}) create_topic(name);
  v1::ListTopicsRequest request;
  request.set_page_size(2);
  v1::ListTopicsResponse first;
  Call first_call;
  ASSERT_TRUE(admin_->ListTopics(&first_call, request, &first).ok());
  ASSERT_EQ(first.topics_size(), 2);
  request.set_page_token(first.next_page_token());
  v1::ListTopicsResponse second;
  Call second_call;
  ASSERT_TRUE(admin_->ListTopics(&second_call, request, &second).ok());
  ASSERT_EQ(second.topics_size(), 1);
  EXPECT_EQ(second.topics(0).name(), "c");
  EXPECT_TRUE(second.next_page_token().empty());
}

TEST_F(AdminTest, DescribesGroupsWithTheirLag) {
  create_topic("orders");
  produce(records("orders", {"a", "b", "c"}));
  v1::CommitOffsetsRequest commit;
  commit.set_group("billing");
  auto& entry = *commit.add_offsets();
  entry.set_topic("orders");
  entry.set_offset(1);
  entry.set_metadata("note");
  v1::CommitOffsetsResponse committed;
  Call commit_call;
  grpc::Status status = data_->CommitOffsets(&commit_call, commit, &committed);
  ASSERT_TRUE(status.ok()) << status.error_message();

  v1::DescribeGroupRequest describe;
  describe.set_group("billing");
  v1::DescribeGroupResponse described;
  Call describe_call;
  ASSERT_TRUE(admin_->DescribeGroup(&describe_call, describe, &described).ok());
  ASSERT_EQ(described.group().partitions_size(), 1);
  EXPECT_EQ(described.group().partitions(0).lag(), 2);
  EXPECT_EQ(described.group().state(), "Empty");
  v1::ListGroupsResponse groups;
  Call list_call;
  ASSERT_TRUE(admin_->ListGroups(&list_call, {}, &groups).ok());
  EXPECT_EQ(groups.groups_size(), 1);
  v1::DeleteGroupRequest remove;
  remove.set_group("billing");
  v1::DeleteGroupResponse removed;
  Call remove_call;
  ASSERT_TRUE(admin_->DeleteGroup(&remove_call, remove, &removed).ok());
  EXPECT_TRUE(removed.deleted());
}

TEST_F(AdminTest, DescribesTheClusterOverTcpAndTheUnixSocket) {
  for (const std::string& address : {server_->addresses()[0], "unix:" + folder_ + "/s.sock"}) {
    auto stub = v1::Admin::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    v1::DescribeClusterResponse cluster;
    Call call;
    ASSERT_TRUE(stub->DescribeCluster(&call, {}, &cluster).ok()) << address;
    EXPECT_EQ(cluster.version(), std::string(kVersion));
    ASSERT_EQ(cluster.nodes_size(), 1);
    EXPECT_EQ(cluster.nodes(0).state(), "up");
    EXPECT_EQ(cluster.controller(), 1);
  }
}

TEST_F(AdminTest, ListensOnBothLoopbackAddressesWithOnePort) {
  for (const std::string& address : server_->addresses()) {
    EXPECT_THAT(address, testing::EndsWith(":" + std::to_string(server_->port())));
  }
  EXPECT_EQ(server_->addresses()[0], "127.0.0.1:" + std::to_string(server_->port()));
}

class StartTest : public EdgeTest {
 protected:
  Refusal describe_cluster(const std::string& address) {
    // A connection of its own.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    Call call;
    v1::DescribeClusterResponse response;
    grpc::Status status = v1::Admin::NewStub(channel)->DescribeCluster(&call, {}, &response);
    return status.ok() ? Refusal() : refusal_of(status, call);
  }
};

TEST_F(StartTest, WhoComesBeforeItServesWaitsAndIsServed) {
  listen();
  constexpr int kClients = 8;
  std::latch calling(kClients);
  std::atomic<bool> serving{false};
  std::atomic<int> answered{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&, address = i % 2 == 0 ? server_->addresses()[0] : "unix:" + folder_ + "/s.sock"] {
      calling.count_down();
      bool last = false;
      do {
        last = serving;
        Refusal refusal = describe_cluster(address);
        EXPECT_EQ(refusal.status, StatusCode::OK) << refusal.error.message();
        ++answered;
      } while (!last);
    });
  }
  calling.wait();
  EXPECT_EQ(answered, 0);
  serve();
  serving = true;
  for (std::thread& client : clients) client.join();
  EXPECT_GE(answered, kClients);
}

TEST_F(StartTest, ALongStartIsNoSecret) {
  listen(0);
  Refusal refusal = describe_cluster(server_->addresses()[0]);
  EXPECT_THAT(refusal, IsRefused(StatusCode::UNAVAILABLE, "LEADER_NOT_AVAILABLE", kNotWritten));
  EXPECT_THAT(refusal.error.message(), HasSubstr("is starting"));
  serve();
  EXPECT_EQ(describe_cluster(server_->addresses()[0]).status, StatusCode::OK);
}

TEST_F(AdminTest, NamesTheProcessThatHasAPort) {
  std::string holder = grpc_edge::holder_of_port(server_->port());
  EXPECT_THAT(holder, HasSubstr("(pid " + std::to_string(::getpid()) + ")"));
  auto taken = grpc_edge::listen_on({"localhost:" + std::to_string(server_->port())});
  ASSERT_FALSE(taken.ok());
  EXPECT_EQ(taken.status().code(), Errc::kAlreadyExists);
  EXPECT_THAT(std::string(taken.status().message()), HasSubstr("(pid "));
  for (const char* bad : {"", "localhost", "localhost:", "localhost:x", "localhost:70000", "::1:9092", "[::1"}) {
    EXPECT_EQ(grpc_edge::listen_on({bad}).status().code(), Errc::kInvalidArgument) << bad;
  }
}

TEST_F(AdminTest, AnswersUnknownMethodsAndMalformedRequests) {
  grpc::Status status;
  auto send = [&](const std::string& method, const std::string& bytes) {
    grpc::Slice slice(bytes);
    grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    auto call = std::make_unique<Call>();
    grpc::CompletionQueue queue;
    grpc::internal::RpcMethod rpc(method.c_str(), grpc::internal::RpcMethod::NORMAL_RPC, channel_);
    status = grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer, grpc::ByteBuffer, grpc::ByteBuffer>(
        channel_.get(), rpc, call.get(), request, &response);
    return call;
  };
  send("/trilog.v1.Broker/Nonsense", "");
  EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED);
  for (const char* method : {"/trilog.v1.Broker/Produce", "/trilog.v1.Broker/Fetch", "/trilog.v1.Broker/CommitOffsets",
                             "/trilog.v1.Admin/CreateTopic"}) {
    auto call = send(method, "\xff\xff\xff rubbish");
    EXPECT_THAT(refusal_of(status, *call), IsRefused(StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST", kNotWritten))
        << method;
  }
}

TEST_F(AdminTest, AnswersFastAfterAPauseOfMoreThanASecond) {
  // gRPC's own callback threads sleep for 100 ms after an idle second, each time; ours must not. The pause is the
  // subject here, so real time passes. A busy machine is slow now and then, so the fastest of some answers counts.
  create_topic("orders");
  auto fastest = std::chrono::steady_clock::duration::max();
  for (int i = 0; i < 10 && fastest >= std::chrono::milliseconds(60); ++i) {
    std::promise<void> never;
    never.get_future().wait_for(std::chrono::milliseconds(1'030));
    v1::DescribeClusterResponse cluster;
    Call call;
    auto before = std::chrono::steady_clock::now();
    ASSERT_TRUE(admin_->DescribeCluster(&call, {}, &cluster).ok());
    fastest = std::min(fastest, std::chrono::steady_clock::now() - before);
  }
  EXPECT_LT(fastest, std::chrono::milliseconds(60));
}

}  // namespace
}  // namespace trilog
