// PeerDelivery: from the transport's thread to the listeners on their shards' threads, in order. A listener hears the
// present state first and nothing from before its registration; bytes that wait for a slow shard are counted, so that
// their connection can stop reading.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "broker/api/peer_transport.h"
#include "storage/env/env.h"

namespace trilog {

// Bytes of one connection that were posted to shards and not taken yet. Any thread.
class PeerUnread {
 public:
  // `resume` runs on a shard's thread when a paused connection may read again.
  PeerUnread(size_t bytes_max, std::function<void()> resume) : bytes_max_(bytes_max), resume_(std::move(resume)) {}
  void add(size_t bytes) { bytes_ += bytes; }
  void taken(size_t bytes) {
    size_t left = bytes_ -= bytes;
    if (left <= bytes_max_ / 2 && paused_.exchange(false)) resume_();
  }
  // True: the connection must not read before `resume`.
  bool pause_if_full() {
    if (bytes_ <= bytes_max_) return false;
    paused_ = true;
    // It may have become empty in between, when nobody saw the flag.
    return bytes_ > bytes_max_ / 2 || !paused_.exchange(false);
  }
  bool paused() const { return paused_; }

 private:
  const size_t bytes_max_;
  const std::function<void()> resume_;
  std::atomic<size_t> bytes_ = 0;
  std::atomic<bool> paused_ = false;
};

class PeerDelivery : public std::enable_shared_from_this<PeerDelivery> {
 public:
  explicit PeerDelivery(const std::vector<Env*>& shards);

  // Any thread. The number of the registration, for begin().
  uint64_t listen(size_t shard, PeerListener* listener);

  // --- on the transport's thread ---
  size_t shards() const { return slots_.size(); }
  // From now on this registration hears what happens; 0: nobody does.
  void begin(size_t shard, uint64_t registration) { slots_[shard]->heard_by = registration; }
  void deliver(size_t shard, BrokerId from, PeerChannel channel, std::vector<PeerFrame> frames,
               std::shared_ptr<PeerUnread> unread);
  void tell_connected(size_t shard, const PeerIdentity& peer, PeerChannel channel);
  void tell_disconnected(size_t shard, BrokerId peer, PeerChannel channel, bool refused);

 private:
  struct Slot {
    Executor* executor = nullptr;
    uint64_t heard_by = 0;  // the transport's thread only
    std::mutex mutex;       // of what follows
    PeerListener* listener = nullptr;
    uint64_t registration = 0;
  };
  // Null if the registration has ended.
  static PeerListener* current(Slot& slot, uint64_t registration);
  template <typename Call>
  void tell(size_t shard, Call call);

  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace trilog
