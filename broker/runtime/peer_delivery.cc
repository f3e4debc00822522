#include "broker/runtime/peer_delivery.h"

#include <utility>

#include "broker/runtime/peer_wire.h"

namespace trilog {

PeerDelivery::PeerDelivery(const std::vector<Env*>& shards) {
  for (Env* env : shards) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->executor = &env->executor();
  }
}

uint64_t PeerDelivery::listen(size_t shard, PeerListener* listener) {
  Slot& slot = *slots_[shard];
  std::lock_guard lock(slot.mutex);
  slot.listener = listener;
  return ++slot.registration;
}

PeerListener* PeerDelivery::current(Slot& slot, uint64_t registration) {
  std::lock_guard lock(slot.mutex);
  return slot.registration == registration ? slot.listener : nullptr;
}

void PeerDelivery::deliver(size_t shard, BrokerId from, PeerChannel channel, std::vector<PeerFrame> frames,
                           std::shared_ptr<PeerUnread> unread) {
  Slot& slot = *slots_[shard];
  if (slot.heard_by == 0) return;
  size_t bytes = 0;
  for (const PeerFrame& frame : frames) bytes += peer_frame_bytes(frame);
  unread->add(bytes);
  auto task = [self = shared_from_this(), &slot, registration = slot.heard_by, from, channel,
               frames = std::move(frames), unread = std::move(unread)]() mutable {
    for (PeerFrame& frame : frames) {
      size_t size = peer_frame_bytes(frame);
      // Asked for each one: a listener may take its leave in the middle.
      if (PeerListener* listener = current(slot, registration)) listener->on_frame(from, channel, std::move(frame));
      unread->taken(size);
    }
  };
  slot.executor->post(std::move(task));
}

template <typename Call>
void PeerDelivery::tell(size_t shard, Call call) {
  Slot& slot = *slots_[shard];
  if (slot.heard_by == 0) return;
  slot.executor->post([self = shared_from_this(), &slot, registration = slot.heard_by, call = std::move(call)] {
    if (PeerListener* listener = current(slot, registration)) call(*listener);
  });
}

void PeerDelivery::tell_connected(size_t shard, const PeerIdentity& peer, PeerChannel channel) {
  tell(shard, [peer, channel](PeerListener& listener) { listener.on_connected(peer, channel); });
}

void PeerDelivery::tell_disconnected(size_t shard, BrokerId peer, PeerChannel channel, bool refused) {
  tell(shard, [peer, channel, refused](PeerListener& listener) { listener.on_disconnected(peer, channel, refused); });
}

}  // namespace trilog
