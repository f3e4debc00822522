#include "broker/replica/mark_keeper.h"

#include <utility>

#include "broker/replica/partition.h"
#include "storage/base/check.h"

namespace trilog {

MarkKeeper::MarkKeeper(Env& env, Limits limits, ReplicaManager::PersistMarks persist, Find find)
    : env_(env), limits_(limits), persist_(std::move(persist)), find_(std::move(find)) {}

void MarkKeeper::touched(const Partition& partition, uint64_t bytes) {
  if (stopped_) return;
  dirty_.insert(partition.id());
  (partition.synced() ? synced_bytes_ : replicated_bytes_) += bytes;
  if (synced_bytes_ >= limits_.synced_bytes_max || replicated_bytes_ >= limits_.replicated_bytes_max) {
    if (rounding_) {
      again_ = true;
    } else {
      begin_round();
    }
    return;
  }
  arm();
}

void MarkKeeper::stop(const Status& why) {
  stopped_ = true;
  alive_.reset();
  for (Done& done : std::exchange(handed_, {})) done(why);
  for (Done& done : std::exchange(waiting_, {})) done(why);
}

void MarkKeeper::arm() {
  if (stopped_ || armed_ || rounding_ || dirty_.empty()) return;
  armed_ = true;
  env_.executor().schedule_after(limits_.interval_ms * 1'000'000, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    armed_ = false;
    if (!rounding_ && !dirty_.empty()) begin_round();
  });
}

void MarkKeeper::persist_now(Done done) {
  if (idle()) {
    env_.executor().post([done = std::move(done)]() mutable { done(ok_status()); });
    return;
  }
  waiting_.push_back(std::move(done));
  if (rounding_) {
    // The round may have taken its marks already.
    again_ = true;
  } else {
    begin_round();
  }
}

void MarkKeeper::begin_round() {
  CHECK(!rounding_ && syncing_.empty());
  rounding_ = true;
  again_ = false;
  synced_bytes_ = 0;
  replicated_bytes_ = 0;
  for (const TopicPartition& id : dirty_) {
    Partition* partition = find_(id);
    if (partition == nullptr || partition->failed() || partition->log()->unsynced_bytes() == 0) continue;
    syncing_.emplace(id, partition->log_end());
    partition->log()->request_sync();
  }
  // Not from inside the caller's call: it may be in the middle of an append.
  if (syncing_.empty()) {
    env_.executor().post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) hand_over();
    });
  }
}

void MarkKeeper::durable_moved(const Partition& partition) {
  touched(partition);
  auto found = syncing_.find(partition.id());
  if (found == syncing_.end()) return;
  if (!partition.failed() && partition.log()->durable_end() < found->second) return;
  syncing_.erase(found);
  if (syncing_.empty()) hand_over();
}

void MarkKeeper::forget(const TopicPartition& partition) {
  dirty_.erase(partition);
  if (syncing_.erase(partition) > 0 && syncing_.empty()) hand_over();
}

void MarkKeeper::hand_over() {
  CHECK(rounding_);
  Marks marks;
  for (const TopicPartition& id : dirty_) {
    Partition* partition = find_(id);
    if (partition == nullptr || partition->failed()) continue;
    const LogMark mark = partition->mark();
    CHECK_LE(mark.high_watermark, mark.durable_end);  // R13
    marks.emplace(id, mark);
  }
  dirty_.clear();
  CHECK(handed_.empty());
  handed_ = std::exchange(waiting_, {});
  Marks changes = marks;
  persist_(std::move(changes),
           [this, marks = std::move(marks), alive = std::weak_ptr<bool>(alive_)](const Status& status) {
             if (!alive.expired()) handed_over(marks, status);
           });
}

void MarkKeeper::handed_over(const Marks& marks, const Status& status) {
  rounding_ = false;
  if (!status.ok()) {
    env_.log().error("the marks of the logs could not be written: ", status.to_string());
    for (const auto& [id, mark] : marks) dirty_.insert(id);
  }
  for (Done& done : std::exchange(handed_, {})) done(status);
  // The callbacks may have begun a round of their own, or ended everything.
  if (rounding_ || stopped_) return;
  if (again_ || !waiting_.empty()) {
    begin_round();
  } else {
    arm();
  }
}

}  // namespace trilog
