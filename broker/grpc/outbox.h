// Outbox: what one Consume stream still has to write, in order. Records of a partition can be taken back until they are
// being written, so that nothing from before a seek follows it. Not thread-safe.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "storage/base/ids.h"

namespace trilog::grpc_edge {

class Outbox {
 public:
  // A partition whose end is to be told: where that was, and after how many seeks.
  struct Reached {
    size_t partition = 0;  // its index
    uint64_t version = 0;
    std::optional<Offset> next;
  };
  struct Item {
    grpc::ByteBuffer message;
    uint64_t bytes = 0;
    uint64_t credit = 0;
    std::optional<size_t> records_of;  // index of the partition, if these are records
    std::vector<Reached> caught_up;    // the message is made when it is written
    bool answers = false;              // a message of the client: not about where a partition stands
  };

  void push(Item item) {
    bytes_ += item.bytes;
    items_.push_back(std::move(item));
  }
  bool empty() const { return items_.empty(); }
  size_t size() const { return items_.size(); }
  uint64_t bytes() const { return bytes_; }
  Item& front() { return items_.front(); }
  void set_writing(bool writing) { writing_ = writing; }
  void pop() {
    bytes_ -= items_.front().bytes;
    items_.pop_front();
  }

  struct Removed {
    uint64_t bytes = 0;
    uint64_t credit = 0;
  };
  // Takes back the records of one partition; not what is being written.
  Removed remove_records(size_t partition) {
    return remove([&](const Item& item) { return item.records_of == partition; });
  }
  // Takes back all but answers: without the records, nobody may be told that a partition goes on behind them.
  Removed keep_answers() {
    return remove([](const Item& item) { return !item.answers; });
  }

 private:
  template <typename Goes>
  Removed remove(Goes goes) {
    Removed removed;
    size_t first = writing_ && !items_.empty() ? 1 : 0;
    std::deque<Item> kept;
    for (size_t i = 0; i < items_.size(); ++i) {
      Item& item = items_[i];
      if (i >= first && goes(item)) {
        removed.bytes += item.bytes;
        removed.credit += item.credit;
      } else if (i >= first) {
        kept.push_back(std::move(item));
      }
    }
    // The front stays where it is: gRPC holds a pointer to it while it is being written.
    items_.resize(first);
    for (Item& item : kept) items_.push_back(std::move(item));
    bytes_ -= removed.bytes;
    return removed;
  }

  std::deque<Item> items_;
  uint64_t bytes_ = 0;
  bool writing_ = false;
};

}  // namespace trilog::grpc_edge
