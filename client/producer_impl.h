// Inside of Producer. Private to the client library: producer.cc fills batches, producer_sender.cc sends them,
// producer_answers.cc takes the answers.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/connection.h"
#include "client/produce_batch.h"

namespace trilog::client {

constexpr int64_t kBackoffMs = 20;  // after a failure, where the broker asks for no longer pause

int64_t wall_ms();
int64_t steady_ms();

struct Producer::Impl {
 public:
  Impl(Client::Impl& client, ProducerOptions options);
  ~Impl();
  void send(const std::string& name, Record record, Callback done);
  void flush();

 private:
  using BatchPtr = std::unique_ptr<ProduceBatch>;
  struct Partition {
    int32_t index = 0;
    BatchPtr open;                   // being filled
    std::deque<BatchPtr> queued;     // closed, to be sent in this order
    std::deque<BatchPtr> in_flight;  // sent, answers expected in this order
    std::deque<BatchPtr> retry;      // failed in a way that is safe to repeat; go back to the front of `queued`
    int32_t next_sequence = 0;
    int64_t not_before_ms = 0;     // back-off after a failure
    bool failed = false;           // an answer failed: nothing is sent until all in flight came back
    std::optional<Error> refusal;  // what stopped this partition for good (skip_refused is off)
    bool resume_next = false;
    bool renumber = false;  // a refusal freed a sequence: those after it move up
  };
  struct Topic {
    std::vector<Partition> partitions;
    size_t message_bytes_max = 1 << 20;
    int32_t keyless = 0;  // where records without key go now
  };
  struct Sent {
    std::string topic;
    Partition* partition;
    uint64_t request_id;
  };
  struct Stream {
    grpc::ClientContext context;
    std::unique_ptr<v1::Broker::Stub> stub;
    std::unique_ptr<grpc::ClientReaderWriter<v1::ProduceRequest, v1::ProduceResponse>> calls;
    std::shared_ptr<grpc::Channel> channel;
    std::deque<Sent> expected;  // guarded by mutex_: answers come in the order of the requests
    std::thread reader;
    uint64_t requests = 0;  // guarded by mutex_: sent so far, which numbers them
    bool broken = false;    // guarded by mutex_
  };
  struct Finished {  // told to the callers after the mutex is released
    BatchPtr batch;
    std::string topic;
    Delivery delivery;
    std::string durability;
    std::optional<Error> error;
  };

  // producer.cc
  Outcome<Topic*> find_topic(const std::string& name);
  Outcome<TopicInfo> describe(const std::string& name);
  Partition& choose_partition(Topic& topic, const Record& record);
  void close_open(Topic& topic, Partition& partition);
  void create_with_first_record(const std::string& name, Record record, Callback done);
  void fill_record(v1::Record& to, const Record& record) const;
  v1::ProduceRequest::Acks wire_acks() const;

  // producer_sender.cc
  void send_loop();
  bool collect(std::unique_lock<std::mutex>& lock, std::vector<Finished>& finished, int64_t& next_wake_ms);
  bool prepare_partition(const std::string& name, Topic& topic, Partition& partition, std::vector<Finished>& finished,
                         int64_t now, int64_t& next_wake_ms);
  bool send_one(std::unique_lock<std::mutex>& lock, const std::string& name, Partition& partition);
  bool ensure_stream(std::unique_lock<std::mutex>& lock);
  bool ensure_producer_id(std::unique_lock<std::mutex>& lock, const ProduceBatch& batch);
  bool begin_new_sequences();
  void watch_loop();
  void cancel_overdue();
  void expire(const std::string& name, Topic& topic, Partition& partition, std::vector<Finished>& finished);
  void read_loop(std::shared_ptr<Stream> stream);
  void on_answer(Stream& stream, const v1::ProduceResponse& response, std::vector<Finished>& finished);
  std::optional<std::string> flaw_of(const v1::ProduceResponse& response, const Sent& sent) const;
  void on_failure(const std::string& name, Partition& partition, BatchPtr batch, Error error,
                  std::vector<Finished>& finished, bool may_repeat = true);
  void on_broken(Stream& stream, std::vector<Finished>& finished);
  void settle(Partition& partition);
  void fail(const std::string& name, BatchPtr batch, Error error, std::vector<Finished>& finished);
  void tell(std::vector<Finished>& finished);
  bool expired(const ProduceBatch& batch) const;

  Client::Impl& client_;
  ProducerOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;  // there may be something to send
  std::condition_variable space_;    // buffer space, or everything finished
  std::condition_variable watch_;    // something was handed over, or the end
  std::map<std::string, Topic> topics_;
  size_t buffered_ = 0;
  size_t unfinished_ = 0;  // records whose callbacks did not run yet
  int flushing_ = 0;
  bool closing_ = false;
  bool watching_ = false;  // the watcher looks at the clock; else it waits for something to watch
  std::optional<ProducerId> producer_id_;
  std::optional<Error> id_refusal_;  // why there was none at the last try
  ProducerEpoch producer_epoch_{0};
  bool renew_producer_ = false;  // after an unknown outcome: sequences begin anew under another id
  std::shared_ptr<Stream> stream_;
  grpc::ClientContext* asking_id_ = nullptr;  // of the call for a producer id that is under way
  std::thread sender_;
  std::thread watcher_;
};

}  // namespace trilog::client
