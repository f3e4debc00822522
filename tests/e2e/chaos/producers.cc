#include <chrono>
#include <utility>

#include "storage/base/check.h"
#include "storage/base/murmur2.h"
#include "tests/e2e/chaos/actors.h"

namespace trilog::chaos {
namespace {

constexpr uint64_t kKeys = 64;

client::Acks client_acks(history::Acks acks) {
  if (acks == history::Acks::kAll) return client::Acks::kAll;
  return acks == history::Acks::kLeader ? client::Acks::kLeader : client::Acks::kNone;
}

}  // namespace

void run_producer(Stage& stage, const ProducerKind& kind, size_t number) {
  const Workload& workload = stage.workload;
  const auto connection = connect(workload, number, false, 30'000);
  client::ProducerOptions options;
  options.acks = client_acks(kind.acks);
  options.idempotent = kind.idempotent;
  options.delivery_timeout_ms = workload.delivery_timeout_ms;
  options.skip_refused = !kind.idempotent;
  client::Producer producer(*connection, options);
  std::mt19937_64 random(workload.seed * 1000 + number);
  const auto begun = std::chrono::steady_clock::now();
  for (int64_t sent = 0; !stage.over; ++sent) {
    std::this_thread::sleep_until(begun + std::chrono::nanoseconds(sent * 1'000'000'000 / workload.rate));
    const TopicShape& topic = workload.topics[random() % workload.topics.size()];
    const std::string key = kind.name + "-" + std::to_string(random() % kKeys);
    history::Produce produce;
    produce.client = kind.name;
    produce.partition = {topic.name, partition_index_for_key(as_bytes(key), topic.partitions)};
    produce.records = {{-1, stage.next_token++}};
    produce.acks = kind.acks;
    produce.idempotent = kind.idempotent;
    produce.invoked_ns = now_ns();
    std::string value = std::to_string(produce.records.front().token);
    producer.send(topic.name, {.key = key, .value = std::move(value)},
                  [&stage, produce](const client::Delivery& delivery) mutable {
                    produce.answered_ns = now_ns();
                    if (delivery.error != nullptr) {
                      produce.outcome = outcome_of(*delivery.error);
                      produce.detail = delivery.error->code;
                      stage.recorder.problem(produce.client + " " + delivery.error->code, delivery.error->message);
                    } else {
                      CHECK(delivery.partition == produce.partition.index);
                      produce.records.front().offset = delivery.offset;
                    }
                    stage.recorder.add(produce);
                  });
  }
  producer.flush();
}

}  // namespace trilog::chaos
