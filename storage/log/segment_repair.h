// SegmentRepair: makes a sealed segment whole again (S9). Checks it first: what the disk refused once it may give now.
// If offsets are missing, a new file is written beside it, out of its own sound batches and what another copy has of
// the rest, then checked, synced, and given the old one's name: a crash anywhere leaves one of the two, whole.
//
// Works in small steps, so that nobody waits for it. Destroying it ends it; `done` then never runs, and the new file
// may stay where it is.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "storage/env/env.h"
#include "storage/log/log.h"
#include "storage/log/segment_walk.h"

namespace trilog {

class SegmentRepair {
 public:
  // `file` null: it is missing. `done`: a Status, and whether `path` is another file now, whose name is not durable
  // yet.
  using Done = UniqueFunction<void(Status status, bool replaced)>;
  SegmentRepair(Env& env, const SegmentContext& context, std::shared_ptr<const File> file, uint64_t size, Offset base,
                Offset end, std::string path, Log::FetchBatches fetch, Done done);
  ~SegmentRepair() { *self_ = nullptr; }

  // Removes the new file; it is destroyed next.
  void discard();

  Offset base() const { return base_; }
  uint64_t size() const { return written_; }           // of the new file
  uint64_t bytes_fetched() const { return fetched_; }  // from elsewhere

  static constexpr uint64_t kStepBytes = 1u << 20;

 private:
  enum class Phase { kCheck, kWrite, kVerify };
  void step_later();
  void step();
  Status take(const SegmentWalk::Piece& piece);
  void ask_first(Offset from);
  void fetch(Offset from);
  Status take_fetched(Offset from, ByteView batches);
  Status begin_writing();
  void walk_ended();
  void replace(const Status& synced);
  void finish(Status status, bool replaced);
  std::string temporary() const;

  Env& env_;
  const SegmentContext& context_;
  const std::shared_ptr<const File> old_;
  const uint64_t old_size_;
  const Offset base_;
  const Offset end_;
  const std::string path_;
  const Log::FetchBatches fetch_;
  Done done_;
  Phase phase_ = Phase::kCheck;
  std::unique_ptr<SegmentWalk> walk_;
  std::shared_ptr<File> file_;
  uint64_t written_ = 0;
  uint64_t fetched_ = 0;
  uint64_t checked_ = 0;                                                           // bytes that followed one another
  std::shared_ptr<SegmentRepair*> self_ = std::make_shared<SegmentRepair*>(this);  // null inside once this is gone
};

}  // namespace trilog
