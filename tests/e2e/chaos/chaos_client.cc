// chaos_client: clients of a real cluster that record their history (tests/history/history.h) while others break it.
//
//   chaos_client load --servers A,B,C --history FILE --topic NAME:PARTITIONS… [--seed N] [--rate N] [--idempotent N]
//                     [--plain N] [--leader N] [--delivery-timeout-ms N] [--only-producers]
//   chaos_client final --servers A,B,C --history FILE --topic NAME:PARTITIONS…
//
// load works until standard input ends, then waits for outstanding answers. Lines of standard input: "mark" prints the
// counts since the last mark; "healed MS" records that everything must work within so long from now on, and the load
// goes on until it did or so long has passed. final appends what is there at the end. Exit status: 0, 1 if the final
// state could not be read, 2 for wrong arguments.
#include <charconv>
#include <chrono>
#include <iostream>
#include <optional>
#include <string_view>
#include <utility>

#include "tests/e2e/chaos/actors.h"

namespace trilog::chaos {

void Stage::rest(int64_t ms) const {
  const int64_t until = now_ns() + ms * 1'000'000;
  while (!over && now_ns() < until) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

history::Outcome outcome_of(const client::Error& error) {
  return error.outcome == client::Error::Outcome::kUnknown ? history::Outcome::kUnknown : history::Outcome::kNotWritten;
}

std::unique_ptr<client::Client> connect(const Workload& workload, size_t first, bool alone, int64_t timeout_ms) {
  client::ClientOptions options;
  options.servers.clear();
  const size_t count = workload.servers.size();
  for (size_t i = 0; i < (alone ? 1 : count); ++i) options.servers.push_back(workload.servers[(first + i) % count]);
  options.timeout_ms = timeout_ms;
  options.name = "chaos";
  return client::Client::connect(std::move(options));
}

namespace {

struct Arguments {
  bool load = false;
  std::string history;
  Workload workload;
};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

template <typename Number>
bool read(const std::string& text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stopped == end;
}

bool set(Arguments& arguments, const std::string& name, const std::string& value) {
  Workload& workload = arguments.workload;
  if (name == "--servers") workload.servers = split(value, ',');
  if (name == "--history") arguments.history = value;
  if (name == "--servers" || name == "--history") return true;
  if (name == "--seed") return read(value, workload.seed);
  if (name == "--rate") return read(value, workload.rate);
  if (name == "--idempotent") return read(value, workload.idempotent);
  if (name == "--plain") return read(value, workload.plain);
  if (name == "--leader") return read(value, workload.leader);
  if (name == "--delivery-timeout-ms") return read(value, workload.delivery_timeout_ms);
  if (name != "--topic") return false;
  const auto parts = split(value, ':');
  if (parts.size() != 2) return false;
  TopicShape& topic = workload.topics.emplace_back();
  topic.name = parts[0];
  return read(parts[1], topic.partitions) && topic.partitions > 0;
}

std::optional<Arguments> parse(const std::vector<std::string>& words) {
  Arguments arguments;
  if (words.empty() || (words[0] != "load" && words[0] != "final")) return std::nullopt;
  arguments.load = words[0] == "load";
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "--only-producers") {
      arguments.workload.readers = arguments.workload.changers = false;
    } else if (i + 1 == words.size() || !set(arguments, words[i], words[i + 1])) {
      return std::nullopt;
    } else {
      ++i;
    }
  }
  const Workload& workload = arguments.workload;
  if (workload.servers.empty() || workload.topics.empty() || arguments.history.empty() || workload.rate < 1)
    return std::nullopt;
  return arguments;
}

std::vector<std::thread> start(Stage& stage) {
  std::vector<std::thread> actors;
  const Workload& workload = stage.workload;
  size_t number = 0;
  const auto produce = [&](int count, const std::string& name, history::Acks acks, bool idempotent) {
    for (int i = 0; i < count; ++i) {
      const ProducerKind kind{name + std::to_string(i), acks, idempotent};
      actors.emplace_back([&stage, kind, number] { run_producer(stage, kind, number); });
      ++number;
    }
  };
  produce(workload.idempotent, "idempotent", history::Acks::kAll, true);
  produce(workload.plain, "plain", history::Acks::kAll, false);
  produce(workload.leader, "leader", history::Acks::kLeader, false);
  if (workload.readers) {
    for (size_t i = 0; i < workload.servers.size(); ++i) actors.emplace_back([&stage, i] { run_fetcher(stage, i); });
    for (size_t i = 0; i < 2; ++i) actors.emplace_back([&stage, i] { run_group(stage, i); });
  }
  if (workload.changers) {
    actors.emplace_back([&stage] { run_committer(stage); });
    actors.emplace_back([&stage] { run_topic_changer(stage); });
  }
  return actors;
}

int load(const Arguments& arguments) {
  Recorder recorder(arguments.history);
  Stage stage{arguments.workload, recorder};
  std::vector<std::thread> actors = start(stage);
  history::Healed healed;
  std::string line;
  while (std::getline(std::cin, line)) {
    if (line == "mark") {
      std::cout << recorder.summary() << std::endl;
    } else if (line.starts_with("healed ")) {
      healed.client = "harness";
      healed.invoked_ns = healed.answered_ns = now_ns();
      if (read(line.substr(7), healed.bound_ns)) healed.bound_ns *= 1'000'000;
      recorder.add(history::AnyOperation(healed));
    }
  }
  while (now_ns() < healed.invoked_ns + healed.bound_ns && recorder.unserved_since(healed.invoked_ns)) stage.rest(5);
  stage.over = true;
  for (std::thread& actor : actors) actor.join();
  std::cout << recorder.summary() << std::endl;
  return 0;
}

int run(const std::vector<std::string>& words) {
  const auto arguments = parse(words);
  if (!arguments) {
    std::cerr << "usage: chaos_client load|final --servers HOST:PORT,… --history FILE --topic NAME:PARTITIONS…\n";
    return 2;
  }
  if (arguments->load) return load(*arguments);
  Recorder recorder(arguments->history);
  const bool done = record_final_state(arguments->workload, recorder);
  std::cout << recorder.summary() << std::endl;
  return done ? 0 : 1;
}

}  // namespace
}  // namespace trilog::chaos

int main(int argc, char** argv) { return trilog::chaos::run({argv + 1, argv + argc}); }
