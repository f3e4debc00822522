// OffsetsPartition: one partition of the offsets topic that this shard leads: its records, its view in the state store,
// and what waits for either.
//
//   unloaded --first use--> loading --view is at the high watermark--> ready
//                              |  any failure: everything that waits is answered with it (G1), tried again on use
//                              v
//                           failed
//
// Writes are appended to the log, applied to the view when the high watermark has passed them, and then answered. One
// append is in flight at a time; writes that arrive meanwhile share the next one. So whatever is computed from the view
// is computed from all that was written before it, and appending to the log and applying to the view have one order. An
// append is one batch, so that a power cut leaves no gap in the log: what was not synced is the last batch at most.
//
// The log is kept small without compaction (G3): when it has grown by a segment, every live offset is appended again,
// piece by piece, and when all of that is committed the log start moves up to the first piece. A crash in between
// leaves records twice, which changes nothing.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/group/deadlines.h"
#include "broker/group/group_coordinator.h"
#include "broker/group/group_record.h"
#include "broker/group/offset_store.h"

namespace trilog {

class OffsetsPartition : public std::enable_shared_from_this<OffsetsPartition> {
 public:
  struct Context {
    Env& env;
    const GroupOptions& options;
    ReplicaManager& replicas;
    Deadlines& deadlines;
    GroupCoordinator::OpenStore open_store;
    std::function<bool(const TopicId&)> topic_lives;
  };
  // What `context` refers to must outlive this until close().
  OffsetsPartition(const Context& context, TopicPartition id, LeaderEpoch epoch);

  // Called with null when the view is loaded, else with why it cannot be. A failure of the view is returned by the
  // task: the view is then rebuilt and the task called once more.
  using Task = UniqueFunction<Status(const api::Error*)>;
  void when_ready(Task task);

  struct Made {
    std::vector<GroupRecord> records;  // none: nothing to write, the answer is success
    bool more = false;                 // make() is to be called again when these are applied
    std::optional<api::Error> error;
  };
  struct Write {
    // Called when it is this write's turn, possibly again after the view was rebuilt.
    std::function<Result<Made>()> make;
    // Whether make() looks at the view for more than its own group's existence, and so needs all before it applied.
    bool reads_view = false;
    int64_t deadline_ns = INT64_MAX;
    UniqueFunction<void(std::optional<api::Error>)> done;
  };
  void write(Write write);
  // Writes and tasks that wait.
  size_t waiting() const { return queue_.size() + tasks_.size(); }

  // Only while ready: inside a task that got null, or make().
  OffsetStore& view() { return *view_; }
  size_t group_count() const { return group_count_; }
  Result<bool> has_group(std::string_view group);

  const TopicId& topic() const { return id_.topic; }
  LeaderEpoch epoch() const { return epoch_; }
  int64_t begun_ns() const { return begun_ns_; }  // since when this process coordinates, monotonic
  // Another term of leadership: the view is checked against the log again before the next use.
  void epoch_changed(LeaderEpoch epoch);
  // Offsets of topics that are gone are removed, in the background; nothing happens if the view is not loaded.
  void sweep();
  // Everything that waits is answered with `why`; an append in flight is answered when it ends. Nothing is done later.
  void close(const api::Error& why);
  void check_invariants();

 private:
  enum class State { kUnloaded, kLoading, kReady, kFailed };
  struct Queued {
    Write write;
    Deadlines::Id deadline;
    bool in_flight = false;
    bool more = false;
  };
  struct Flight {
    std::vector<std::shared_ptr<Queued>> writes;
    std::vector<GroupRecord> records;
    uint64_t bytes = 0;
    bool has_piece = false;
  };
  // A walk over the view that appends what it finds: all offsets (G3), or only the end of those of dead topics.
  struct Pass {
    bool full_set = false;
    Offset start;                 // log end when it began
    uint64_t bytes_before = 0;    // bytes_since_ at that time
    uint64_t bytes = 0;           // of its own records
    std::optional<OffsetKey> at;  // the last entry dealt with
    bool exhausted = false;
  };

  void schedule_step();
  void step();
  void answer(Queued& write, std::optional<api::Error> error);
  static std::optional<api::Error> left_undone(const Queued& queued);
  void run_tasks();

  // Loading.
  void begin_load();
  Result<bool> position_fits(const AppliedPosition& position) const;
  void load_piece();
  Status replay(const std::vector<RecordBatch>& batches);
  void loaded();
  void fail(api::Error error);
  void view_failed(const Status& why);

  // Writing.
  void begin_append();
  bool take_piece(Flight& flight);
  bool take_writes(Flight& flight);
  Result<Bytes> build(const Flight& flight) const;
  void appended(Flight flight, const AppendResult& result);
  Status apply(const std::vector<GroupRecord>& records, const AppliedPosition& position);
  void advance_pass(const Flight& flight);
  void finish_pass();

  Context context_;
  const TopicPartition id_;
  const int64_t begun_ns_;
  LeaderEpoch epoch_;
  State state_ = State::kUnloaded;
  bool closed_ = false;
  bool step_posted_ = false;
  bool in_flight_ = false;
  bool reset_view_ = false;  // the next load starts from an empty view
  api::Error load_error_;
  int64_t failed_ns_ = 0;
  std::optional<OffsetStore> view_;
  AppliedPosition applied_;
  size_t group_count_ = 0;
  std::deque<Task> tasks_;
  std::deque<std::shared_ptr<Queued>> queue_;
  std::optional<Pass> pass_;
  uint64_t bytes_since_ = 0;          // in the log since the last full set began
  uint64_t last_full_set_bytes_ = 0;  // a set larger than a segment must not be written again for every segment
};

}  // namespace trilog
