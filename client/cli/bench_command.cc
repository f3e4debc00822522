// bench: load through the client library against a running broker, every figure with its durability. The broker's own
// limits (copy_limit, grpc_limit) are measured by the programs in bench/.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <thread>

#include "client/cli/commands.h"
#include "storage/base/metrics.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

using Clock = std::chrono::steady_clock;

int64_t nanoseconds(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

// Random bytes, so that nothing on the way can compress them.
std::string random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

struct Figures {
  std::string name;
  std::string durability;
  int32_t replicas = 0;
  size_t record_bytes = 0;
  int64_t records = 0;
  double seconds = 0;
  Histogram latency;
};

class BenchRun {
 public:
  BenchRun(const CommonOptions& common, const BenchOptions& options)
      : options_(options), output_(common), client_(connect(common)), admin_(*client_) {}

  int run() {
    Result<uint64_t> record_bytes = parse_size(options_.record_bytes);
    if (!record_bytes.ok()) return output_.usage(record_bytes.status().message());
    Result<uint64_t> batch_bytes = parse_size(options_.batch_bytes);
    if (!batch_bytes.ok()) return output_.usage(batch_bytes.status().message());
    if (*record_bytes < 1 || *record_bytes > (16u << 20))
      return output_.usage("--record-bytes must be from 1 to 16MiB");
    if (options_.records < 1 || options_.rate < 1 || options_.producers < 1 || options_.producers > 1000) {
      return output_.usage("--records, --rate and --producers must be at least 1 (producers at most 1000)");
    }
    record_bytes_ = *record_bytes;
    batch_bytes_ = *batch_bytes;
    watch_signals();
    if (options_.action == "consume") return consume();
    client::TopicSpec spec{.name = options_.topic, .partitions = options_.partitions, .if_not_exists = true};
    spec.configs["durability"] = options_.durability;
    auto created = admin_.create_topic(spec);
    if (!created.ok()) return output_.fail(created.error());
    durability_ = created->first.durability;
    replicas_ = created->first.replicas;
    return options_.action == "latency" ? latency() : produce();
  }

 private:
  struct Shared {
    std::mutex mutex;
    Histogram latency;
    int64_t acknowledged = 0;
    std::optional<client::Error> error;
  };

  client::Producer::Callback on_delivery(Shared& shared, Clock::time_point begun) {
    return [&shared, begun](const client::Delivery& delivery) {
      int64_t took = nanoseconds(Clock::now() - begun);
      std::lock_guard lock(shared.mutex);
      if (delivery.error != nullptr) {
        if (!shared.error) shared.error = *delivery.error;
        return;
      }
      ++shared.acknowledged;
      shared.latency.record(took);
    };
  }

  client::ProducerOptions producer_options() const {
    client::ProducerOptions producer;
    producer.acks = options_.acks == "all"      ? client::Acks::kAll
                    : options_.acks == "leader" ? client::Acks::kLeader
                                                : client::Acks::kNone;
    producer.batch_bytes = batch_bytes_;
    return producer;
  }

  int produce() {
    Shared shared;
    auto begun = Clock::now();
    std::vector<std::thread> threads;
    for (int32_t t = 0; t < options_.producers; ++t) {
      int64_t share = options_.records / options_.producers + (t < options_.records % options_.producers ? 1 : 0);
      threads.emplace_back([this, t, share, &shared] {
        client::Producer producer(*client_, producer_options());
        std::string value = random_bytes(record_bytes_, static_cast<uint64_t>(t));
        for (int64_t i = 0; i < share && pending_signal() == 0; ++i) {
          producer.send(options_.topic, {.value = value}, on_delivery(shared, Clock::now()));
        }
        producer.flush();
      });
    }
    for (std::thread& thread : threads) thread.join();
    return report("produce", shared, begun);
  }

  // Open loop: a record is due when its time has come, whether or not the one before was answered, and its latency
  // counts from when it was due.
  int latency() {
    Result<int64_t> duration = parse_duration_ms(options_.duration);
    if (!duration.ok()) return output_.usage(duration.status().message());
    Shared shared;
    auto options = producer_options();
    auto begun = Clock::now();
    {
      client::Producer producer(*client_, options);
      std::string value = random_bytes(record_bytes_, 1);
      // Connections and producer id are made before the clock runs.
      producer.send(options_.topic, {.value = value}, nullptr);
      producer.flush();
      begun = Clock::now();
      int64_t total = *duration * options_.rate / 1000;
      for (int64_t i = 0; i < total && pending_signal() == 0; ++i) {
        auto due = begun + std::chrono::nanoseconds(i * 1'000'000'000 / options_.rate);
        std::this_thread::sleep_until(due);
        producer.send(options_.topic, {.value = value}, on_delivery(shared, due));
      }
      producer.flush();
    }
    return report("latency", shared, begun);
  }

  int consume() {
    auto topic = admin_.describe_topic(options_.topic);
    if (!topic.ok()) return output_.fail(topic.error());
    durability_ = topic->durability;
    replicas_ = topic->replicas;
    auto ends = resolve_place(admin_, options_.topic, {Place::Kind::kEnd, 0});
    if (!ends.ok()) return output_.fail(ends.error());
    auto starts = resolve_place(admin_, options_.topic, {Place::Kind::kStart, 0});
    if (!starts.ok()) return output_.fail(starts.error());
    int64_t wanted = 0;
    for (const auto& [partition, end] : ends.value()) wanted += end - starts.value()[partition];
    wanted = std::min(wanted, options_.records);
    Figures figures{"consume", durability_, replicas_};
    client::Consumer consumer(*client_, {});
    auto begun = Clock::now();
    auto subscribed = consumer.subscribe({options_.topic});
    if (!subscribed.ok()) return output_.fail(subscribed.error());
    uint64_t bytes = 0;
    while (figures.records < wanted && pending_signal() == 0) {
      auto event = consumer.poll(5'000);
      if (!event.ok()) return output_.fail(event.error());
      if (event->error) return output_.fail(*event->error);
      if (event->kind == client::Consumer::Event::Kind::kIdle) break;
      for (const auto& record : event->records) bytes += record.value ? record.value->size() : 0;
      figures.records += static_cast<int64_t>(event->records.size());
    }
    figures.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    figures.record_bytes =
        figures.records == 0 ? 0 : static_cast<size_t>(bytes / static_cast<uint64_t>(figures.records));
    print(figures);
    return kDone;
  }

  int report(const std::string& name, Shared& shared, Clock::time_point begun) {
    Figures figures{name, durability_, replicas_, record_bytes_, shared.acknowledged};
    figures.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    figures.latency = shared.latency;
    print(figures);
    if (shared.error) return output_.fail(*shared.error);
    return pending_signal() != 0 ? 128 + pending_signal() : kDone;
  }

  void print(const Figures& figures) {
    double rate = figures.seconds > 0 ? static_cast<double>(figures.records) / figures.seconds : 0;
    double megabytes = rate * static_cast<double>(figures.record_bytes) / 1e6;
    auto ms = [&](double fraction) { return static_cast<double>(figures.latency.quantile(fraction)) / 1e6; };
    if (output_.json()) {
      JsonObject latency;
      if (figures.latency.count() > 0) {
        latency.add("p50", ms(0.5)).add("p95", ms(0.95)).add("p99", ms(0.99)).add("p999", ms(0.999)).add("max", ms(1));
      } else {
        for (const char* each : {"p50", "p95", "p99", "p999", "max"}) latency.add_null(each);
      }
      JsonObject object;
      object.add("name", std::string_view(figures.name)).add("durability", std::string_view(figures.durability));
      object.add("replicas", figures.replicas).add("record_bytes", static_cast<int64_t>(figures.record_bytes));
      object.add("records", figures.records).add("seconds", figures.seconds).add("records_per_second", rate);
      object.add("mb_per_second", megabytes).add("latency_ms", std::move(latency));
      object.add_null("limit_mb_per_second").add_null("share_of_limit").add_null("broker_cpu_seconds");
      output_.json_line(object);
      return;
    }
    char text[256];
    std::snprintf(text, sizeof(text), "%s · %s on %d · %lld records of %zu B in %.2f s · %.0f records/s · %.1f MB/s",
                  figures.name.c_str(), figures.durability.c_str(), figures.replicas,
                  static_cast<long long>(figures.records), figures.record_bytes, figures.seconds, rate, megabytes);
    output_.line(text);
    if (figures.latency.count() == 0) return;
    std::snprintf(text, sizeof(text), "  latency ms     p50 %.2f · p95 %.2f · p99 %.2f · p99.9 %.2f · max %.2f",
                  ms(0.5), ms(0.95), ms(0.99), ms(0.999), ms(1));
    output_.line(text);
  }

  const BenchOptions& options_;
  Output output_;
  std::unique_ptr<client::Client> client_;
  client::Admin admin_;
  size_t record_bytes_ = 0;
  size_t batch_bytes_ = 0;
  std::string durability_;
  int32_t replicas_ = 0;
};

}  // namespace

int bench_command(const CommonOptions& common, const BenchOptions& options) { return BenchRun(common, options).run(); }

}  // namespace trilog::cli
