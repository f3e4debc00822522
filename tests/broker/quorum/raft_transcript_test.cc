// Plays transcripts/*.txt: small stories about a few Raft nodes, with everything that is said written out, so that a
// change of behaviour shows as a difference in a text a person can read.
//
// A line that begins with "> " is a command; the lines behind it, up to the next command, are what it printed. Lines
// that begin with '#' are for the reader. To accept what the nodes do now, run this test with TRILOG_TRANSCRIPTS=write
// and read the difference.
//
//   > cluster N              N nodes with the same set of voters and nothing else
//   > entries A term…        node A (of a cluster where nothing happened yet) has one entry of each term
//   > timeout A              the clock moves on until A, alone, notices
//   > wait MS                the clock moves on, nobody notices yet
//   > propose A TEXT         > transfer A B         > compact A
//   > deliver                every message, until none is left      > deliver one
//   > drop [A B]             messages on the way (from A to B) are lost
//   > cut A B                > isolate A            > heal
//   > crash A                > restart A            > state
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/broker/quorum/raft_cluster.h"

namespace trilog {
namespace {

using testing::describe;
using testing::RaftCluster;

class Player {
 public:
  // What the command prints.
  std::string play(const std::string& line) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    out_.str("");
    if (command == "cluster") {
      int size = 0;
      in >> size;
      cluster_ = std::make_unique<RaftCluster>(size);
      said_.clear();
    } else if (cluster_ == nullptr) {
      out_ << "no cluster\n";
    } else if (!play_network(command, in) && !play_node(command, in)) {
      out_ << "unknown command\n";
    }
    if (cluster_ != nullptr) report_changes();
    return out_.str();
  }

 private:
  bool play_network(const std::string& command, std::istringstream& in) {
    RaftCluster& cluster = *cluster_;
    int a = 0;
    int b = 0;
    if (command == "deliver") {
      std::string one;
      in >> one;
      for (int i = 0; i < (one.empty() ? 1'000 : 1) && !cluster.messages().empty(); ++i) deliver();
    } else if (command == "drop") {
      bool some = static_cast<bool>(in >> a >> b);
      auto& messages = cluster.messages();
      auto lost = [&](const RaftMessage& m) { return !some || (m.from.value() == a && m.to.value() == b); };
      messages.erase(std::remove_if(messages.begin(), messages.end(), lost), messages.end());
    } else if (command == "cut" && in >> a >> b) {
      cluster.cut(a, b);
    } else if (command == "isolate" && in >> a) {
      cluster.isolate(a);
    } else if (command == "heal") {
      cluster.heal();
    } else {
      return false;
    }
    return true;
  }

  bool play_node(const std::string& command, std::istringstream& in) {
    RaftCluster& cluster = *cluster_;
    int a = 0;
    if (command == "state") {
      for (int id = 1; id <= cluster.size(); ++id) print_state(id);
      return true;
    }
    if (!(in >> a)) return false;
    if (command == "wait") {
      cluster.advance(a * 1'000'000LL);
      return true;
    }
    if (a < 1 || a > cluster.size()) return false;
    int b = 0;
    std::string text;
    if (command == "timeout") {
      cluster.timeout(a);
    } else if (command == "propose" && in >> text) {
      auto at = cluster.propose(a, text);
      out_ << (at ? "at " + std::to_string(at->value()) : std::string("refused")) << "\n";
    } else if (command == "transfer" && in >> b) {
      bool begun = cluster.raft(a).transfer_leadership(BrokerId(b), cluster.now_ns());
      cluster.run_ready(a);
      if (!begun) out_ << "refused\n";
    } else if (command == "compact") {
      cluster.compact(a);
    } else if (command == "entries") {
      give_entries(a, in);
    } else if (command == "crash") {
      cluster.crash(a);
      said_.erase(a);
    } else if (command == "restart") {
      cluster.restart(a);
    } else {
      return false;
    }
    return true;
  }

  void give_entries(int id, std::istringstream& in) {
    cluster_->crash(id);
    auto& node = cluster_->node(id);
    int term = 0;
    while (in >> term) {
      Offset first = node.durable.end();
      node.durable.append({first, 1, Term(term), testing::batch_of("t" + std::to_string(term))});
      node.durable_state.term = std::max(node.durable_state.term, Term(term));
    }
    cluster_->restart(id);
  }

  void deliver() {
    RaftMessage message = std::move(cluster_->messages().front());
    cluster_->messages().pop_front();
    bool lost = cluster_->is_cut(message.from.value(), message.to.value()) ||
                cluster_->node(message.to.value()).raft == nullptr;
    out_ << describe(message) << (lost ? "  (lost)" : "") << "\n";
    cluster_->deliver(message);
    report_changes();
  }

  std::string summary(int id) {
    const Raft& raft = cluster_->raft(id);
    std::ostringstream out;
    out << raft_role_name(raft.role()) << (raft.leading() ? " (leading)" : "") << ", term " << raft.term();
    if (raft.voted_for() != kNoBroker) out << ", vote " << raft.voted_for();
    out << ", commit " << raft.committed();
    return out.str();
  }
  void report_changes() {
    for (int id = 1; id <= cluster_->size(); ++id) {
      if (cluster_->node(id).raft == nullptr) continue;
      std::string now = summary(id);
      if (said_[id] == now) continue;
      out_ << "    " << id << " is " << now << "\n";
      said_[id] = now;
    }
  }
  void print_state(int id) {
    auto& node = cluster_->node(id);
    if (node.raft == nullptr) {
      out_ << id << " is down\n";
      return;
    }
    out_ << id << " log";
    if (node.storage.start() > Offset(0)) out_ << " from " << node.storage.start();
    for (const RaftEntry& entry : node.storage.entries()) {
      out_ << " [" << entry.first << "/" << entry.term << " " << as_text(entry.batch) << "]";
    }
    out_ << "\n";
  }

  std::unique_ptr<RaftCluster> cluster_;
  std::map<int, std::string> said_;
  std::ostringstream out_;
};

std::filesystem::path folder() { return TRANSCRIPTS; }  // from CMakeLists.txt

std::vector<std::string> names() {
  std::vector<std::string> found;
  for (const auto& file : std::filesystem::directory_iterator(folder())) {
    if (file.path().extension() == ".txt") found.push_back(file.path().stem().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

class RaftTranscript : public ::testing::TestWithParam<std::string> {};

TEST_P(RaftTranscript, IsWhatTheNodesStillSay) {
  std::filesystem::path path = folder() / (GetParam() + ".txt");
  std::ifstream in(path);
  std::string expected;
  std::string actual;
  Player player;
  int commands = 0;
  for (std::string line; std::getline(in, line);) {
    expected += line + "\n";
    if (line.rfind("> ", 0) == 0) {
      actual += line + "\n" + player.play(line.substr(2));
      ++commands;
    } else if (line.empty() || line.front() == '#') {
      actual += line + "\n";
    }
  }
  EXPECT_GT(commands, 2);
  const char* accept = std::getenv("TRILOG_TRANSCRIPTS");
  if (accept != nullptr && std::string(accept) == "write") {
    std::ofstream(path) << actual;
    return;
  }
  EXPECT_EQ(actual, expected);
}

INSTANTIATE_TEST_SUITE_P(Raft, RaftTranscript, ::testing::ValuesIn(names()),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace trilog
