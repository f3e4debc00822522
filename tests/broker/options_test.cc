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
  options.peers = {"1@a:1", "2@b:1"};
  EXPECT_FALSE(check_options(options).ok());
  options.peers = {"2@b:1"};
  EXPECT_NE(check_options(options).message().find("does not name this node"), std::string::npos);
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
