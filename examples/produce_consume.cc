// The client library against a running broker: writes ten records, reads them with a group that commits after success.
//   trilog up &            produce_consume [host:port]
#include <cstdio>

#include "client/client.h"

using namespace trilog::client;  // NOLINT: an example

int main(int argc, char** argv) {
  auto client = Client::connect({.servers = {argc > 1 ? argv[1] : "localhost:9092"}});
  int failed = 0;
  {
    Producer producer(*client, {});
    for (int i = 0; i < 10; ++i) {
      producer.send("orders", {.key = "customer-" + std::to_string(i % 3), .value = "order " + std::to_string(i)},
                    [&](const Delivery& delivery) {
                      if (delivery.error != nullptr)
                        ++failed, std::fprintf(stderr, "%s\n", delivery.error->message.c_str());
                    });
    }
    producer.flush();
  }
  if (failed > 0) return 1;
  Consumer consumer(*client, {.group = "example"});
  int seen = 0;
  auto finished = consumer.run(
      {"orders"},
      [&](const ConsumedRecord& record) {
        std::printf("partition %d offset %lld: %.*s\n", record.partition, static_cast<long long>(record.offset),
                    static_cast<int>(record.value->size()), record.value->data());
        ++seen;
        return true;
      },
      /*stop_at_end=*/true);
  if (!finished.ok()) return std::fprintf(stderr, "%s\n", finished.error().message.c_str()), 1;
  std::printf("%d records handled and committed\n", seen);
  return seen >= 10 ? 0 : 1;
}
