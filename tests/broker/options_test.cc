#include "broker/options.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace trilog {
namespace {

TEST(Options, ReadsAFileWithEverySetting) {
  BrokerOptions options;
  Status status = read_config(options, "node.toml", R"(
node_id = 3
data_dir = "/var/lib/trilog"
listen = "localhost:9192"
advertise = "log.example:9192"
peers = ["3@10.0.0.3:9093"]
auto_create_topics = true
default_partitions = 4
rack = "a"
io_threads = 2
memory_limit = "1GiB"
)");
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(options.node_id, 3);
  EXPECT_EQ(options.listen, "localhost:9192");
  EXPECT_EQ(options.peers, std::vector<std::string>{"3@10.0.0.3:9093"});
  EXPECT_TRUE(options.auto_create_topics);
  EXPECT_EQ(options.default_partitions, 4);
  EXPECT_EQ(options.memory_limit, 1u << 30);
  EXPECT_TRUE(check_options(options).ok());
}

TEST(Options, NamesFileLineAndTheNearestKnownSetting) {
  struct Case {
    const char* text;
    const char* says;
  };
  const Case cases[] = {{"node_id = 1\nlissten = \"a:1\"", "node.toml:2: no setting lissten; did you mean listen?"},
                        {"node_id = \"1\"", "node.toml:1: node_id: wrong type; count is wanted"},
                        {"listen = 9092", "node.toml:1: listen: wrong type"},
                        {"node_id = -4", "node.toml:1: node_id = -4: must be from 0"},
                        {"memory_limit = \"much\"", "not a size"},
                        {"memory_limit = \"1MiB\"", "at least 64MiB"},
                        {"auto_create_topics = 1", "wrong type"},
                        {"peers = [1, 2]", "peers: wrong type"},
                        {"[tls]\ncert = \"x\"", "no setting tls"},
                        {"node_id = = 1", "node.toml:1"},
                        {"[`]", "node.toml:1"},
                        {"rack = \u040c", "node.toml:1"},
                        {"a", "node.toml:1"}};
  for (const Case& c : cases) {
    BrokerOptions options;
    Status status = read_config(options, "node.toml", c.text);
    ASSERT_FALSE(status.ok()) << c.text;
    EXPECT_NE(status.message().find(c.says), std::string::npos) << c.text << "\n" << status.message();
  }
}

TEST(Options, EnvironmentNamesTheVariableThatIsWrong) {
  BrokerOptions options;
  ASSERT_TRUE(read_environment(options, {{"TRILOG_NODE_ID", "7"}, {"TRILOG_SERVER", "elsewhere:1"}}).ok());
  EXPECT_EQ(options.node_id, 7);
  Status status = read_environment(options, {{"TRILOG_NODE_ID", "seven"}});
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("TRILOG_NODE_ID"), std::string::npos);
}

TEST(Options, ANonLoopbackAddressNeedsItsConsent) {
  BrokerOptions options;
  options.data_dir = "data";
  for (const char* listen : {"localhost:9092", "127.0.0.1:0", "[::1]:9092"}) {
    options.listen = listen;
    EXPECT_TRUE(check_options(options).ok()) << listen;
  }
  for (const char* listen : {"0.0.0.0:9092", "127.example.org:9092"}) {
    options.listen = listen;
    Status refused = check_options(options);
    ASSERT_FALSE(refused.ok()) << listen;
    EXPECT_NE(refused.message().find(std::string(kInsecureConsent)), std::string::npos);
  }
  options.insecure = "yes";
  EXPECT_FALSE(check_options(options).ok());
  options.insecure = kInsecureConsent;
  EXPECT_TRUE(check_options(options).ok());
}

TEST(Options, RefusesWhatCannotWork) {
  BrokerOptions options;
  EXPECT_NE(check_options(options).message().find("data_dir"), std::string::npos);
  options.data_dir = "data";
  for (const char* listen : {"localhost", ":9092", "localhost:", "localhost:99999", "localhost:x"}) {
    options.listen = listen;
    EXPECT_FALSE(check_options(options).ok()) << listen;
  }
  options.listen = "localhost:9092";
}

TEST(Options, AQuorumThatCannotBeIsRefusedWithTheReason) {
  struct Case {
    std::vector<std::string> peers;
    std::string says;
  };
  const Case cases[] = {
      {{"2@localhost:1"}, "does not name this node"},
      {{"2@localhost:1", "3@localhost:2", "4@localhost:3"}, "does not name this node"},
      {{"1@localhost:1", "2@localhost:2"}, "1, 3 or 5"},
      {{"1@localhost:1", "2@localhost:2", "2@localhost:3"}, "two nodes have the id 2"},
      {{"1@localhost:1", "2@localhost:2", "3@localhost:2"}, "node 2 has the same address"},
      {{"1@localhost:9092", "2@localhost:2", "3@localhost:3"}, "a port of their own"},
      {{"1@10.0.0.1:1", "2@10.0.0.2:1", "3@10.0.0.3:1"}, "not a loopback address"},
      {{"1@localhost:0", "2@localhost:2", "3@localhost:3"}, "others must know the port"},
      {{"localhost:1"}, "id@host:port is wanted"},
      {{"x@localhost:1"}, "whole number"},
      {{"1@localhost"}, "host:port is wanted"},
  };
  for (const Case& bad : cases) {
    BrokerOptions options;
    options.data_dir = "data";
    options.peers = bad.peers;
    Status status = check_options(options);
    EXPECT_EQ(status.code(), Errc::kInvalidArgument);
    EXPECT_NE(status.message().find(bad.says), std::string::npos) << status.to_string();
  }
}

TEST(Options, AQuorumIsKnownByIdAndAddress) {
  BrokerOptions options;
  options.data_dir = "data";
  options.node_id = 2;
  options.peers = {"3@10.0.0.3:9", "1@10.0.0.1:9", "2@10.0.0.2:9"};
  options.peer_listen = "localhost:9";
  ASSERT_TRUE(check_options(options).ok()) << check_options(options).to_string();
  std::vector<QuorumPeer> peers = quorum_peers(options).value();
  ASSERT_EQ(peers.size(), 3u);
  EXPECT_EQ(peers[2].id, BrokerId(3));
  EXPECT_EQ(peers[2].address, "10.0.0.3:9");
  options.peers = {};
  EXPECT_TRUE(quorum_peers(options)->empty());
}

TEST(Options, EverySettingIsInTheRegistryOnce) {
  std::vector<std::string> names;
  for (const OptionInfo& info : option_infos()) {
    names.emplace_back(info.name);
    EXPECT_FALSE(info.sentence.empty());
  }
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_LE(names.size(), 12u);
}

}  // namespace
}  // namespace trilog
