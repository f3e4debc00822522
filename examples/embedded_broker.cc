// A broker inside your own process: no port, no other service. Writes two records, reads them back, stops cleanly.
#include "broker/broker.h"

#include <cstdio>
#include <future>

#include "broker/runtime/shard_pool.h"

using namespace trilog;  // NOLINT: an example

// Waits for the answer of one asynchronous call; answers come on a shard's thread.
template <typename T, typename Call>
api::Answer<T> wait_for(Call call) {
  std::promise<api::Answer<T>> answer;
  call([&](api::Answer<T> result) { answer.set_value(std::move(result)); });
  return answer.get_future().get();
}
template <typename Call>
Status wait_for_status(Call call) {
  std::promise<Status> status;
  call([&](Status result) { status.set_value(std::move(result)); });
  return status.get_future().get();
}

int main(int argc, char** argv) {
  ShardPool shards({.shards = 1});
  BrokerOptions options;
  options.data_dir = argc > 1 ? argv[1] : "embedded-data";
  options.auto_create_topics = true;
  auto opened = Broker::open(options, shards.envs());
  if (!opened.ok()) return std::fprintf(stderr, "%s\n", opened.status().to_string().c_str()), 1;
  Broker& broker = **opened;
  Status started = wait_for_status([&](auto done) { broker.start("in-process", std::move(done)); });
  if (!started.ok()) return std::fprintf(stderr, "%s\n", started.to_string().c_str()), 1;

  for (std::string_view value : {"hello", "world"}) {
    api::ProduceRequest request{.topic = "greetings", .records = {{.key = as_bytes("k"), .value = as_bytes(value)}}};
    auto produced =
        wait_for<api::ProduceResult>([&](auto done) { broker.produce(std::move(request), std::move(done)); });
    if (!produced.ok()) return std::fprintf(stderr, "%s\n", produced.error().message.c_str()), 1;
    std::printf("wrote %s at offset %lld\n", std::string(value).c_str(),
                static_cast<long long>(produced->positions[0].offset.value()));
  }
  api::FetchRequest fetch{.positions = {{.topic = "greetings"}}};
  auto fetched = wait_for<api::FetchResult>([&](auto done) { broker.fetch(std::move(fetch), std::move(done)); });
  for (const RecordBatch& batch : fetched->at(0).views) {
    auto records = RecordIterator::open(batch, 1 << 20);
    for (auto record = records->next(); record.ok() && *record; record = records->next()) {
      std::printf("read %s\n", std::string(as_text(*(*record)->value)).c_str());
    }
  }
  Status stopped = wait_for_status([&](auto done) { broker.stop(std::move(done)); });
  return stopped.ok() ? 0 : 1;
}
