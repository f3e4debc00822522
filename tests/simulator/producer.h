// A producer of the workload. It sends one batch after another to a topic and repeats a batch only when that is safe,
// as the C++ client does: with a producer id always, without one only after an answer that says NOT_WRITTEN.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulator/context.h"

namespace trilog::simulator {

struct ProducerPlan {
  std::string name;
  size_t topic = 0;                  // index into Context::topics
  std::optional<int32_t> partition;  // absent: by key, one record at a time, without a producer id
  bool idempotent = true;            // needs `partition`
  history::Acks acks = history::Acks::kAll;
  int64_t pause_ns = 100 * kMs;        // between batches, on average
  int records_max = 5;                 // of one batch
  size_t bytes_max = 200;              // of one value
  int64_t patience_ns = 10 * kSecond;  // until a batch is given up
};

class Producer {
 public:
  Producer(Context& context, ProducerPlan plan) : context_(context), plan_(std::move(plan)) {}
  void start() { pause_then_next(); }
  // One batch, also while all is winding down. Call when idle; then wait for idle().
  void send_one() {
    once_ = true;
    next();
  }
  bool last_was_acknowledged() const { return last_outcome_ == history::Outcome::kOk; }
  // Nothing is under way. Becomes so some time after winding_down.
  bool idle() const { return !send_ && !taking_id_; }

 private:
  struct Send {
    history::Produce told;
    std::shared_ptr<std::vector<std::string>> values;
    std::string key;
    int32_t base_sequence = 0;
    int attempts = 0;
    bool maybe_written = false;
    bool raw_batch = false;
    LeaderEpoch first_epoch = kNoLeaderEpoch;  // of the partition's leader when it was sent first
    int asked = 0;                             // the node of the last attempt
  };

  Topic& topic() { return context_.topics[plan_.topic]; }
  int64_t draw_pause();
  void pause_then_next();
  void next();
  void take_id();
  void attempt();
  api::ProduceRequest make_request();
  int choose_node();
  void on_reply(Reply<api::ProduceResult> reply);
  void on_written(const api::ProduceResult& result);
  void on_error(const api::Error& error);
  void again_or_give_up(bool safe, bool maybe_written, const std::string& why);
  void finish(history::Outcome outcome, const std::string& detail);

  Context& context_;
  const ProducerPlan plan_;
  std::optional<api::InitProducerResult> id_;
  int32_t next_sequence_ = 0;
  std::optional<Send> send_;
  bool once_ = false;
  bool taking_id_ = false;
  history::Outcome last_outcome_ = history::Outcome::kUnknown;
};

}  // namespace trilog::simulator
