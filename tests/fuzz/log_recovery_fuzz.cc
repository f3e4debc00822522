// Any bytes as the files of a partition's folder (log_files.h): the log opens, gives back only batches that are sound,
// takes new ones, and opening it again finds the same.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "storage/base/crc32c.h"
#include "storage/log/checkpoint_file.h"
#include "storage/log/log.h"
#include "tests/fuzz/checksums.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/log_files.h"
#include "tests/sim/sim_env.h"
#include "tests/support/batches.h"
#include "tests/support/partition.h"

namespace trilog::fuzz {
namespace {

using testing::kLogFolder;
using testing::test_meta;

constexpr uint32_t kBatchBytesMax = 128u << 20;  // over malloc_limit_mb: believing a length is found out

constexpr Offset kLastOffset{INT64_MAX - 10};

LogConfig config() {
  LogConfig config;
  config.segment_bytes = 2'000;
  config.index_interval_bytes = 200;
  config.batch_bytes_max = kBatchBytesMax;
  return config;
}

FileForm form_of(const LogFileKind& kind) {
  return kind.name == kLogSuffix        ? FileForm::kBatches
         : kind.name == kSnapshotSuffix ? FileForm::kProducers
                                        : FileForm::kFrame;
}

struct Seen {
  Offset start;
  Offset end;
  std::map<Offset, uint32_t> batches;  // where each begins, and its checksum
  std::vector<EpochEntry> epochs;
  bool holes = false;
};

class Examination {
 public:
  explicit Examination(Input input) {
    how_ = input.byte();
    if ((how_ & kKnown) != 0) {
      LogMark& mark = mark_.emplace();
      mark.durable_end = offset(input.long_number());
      mark.high_watermark = std::min(offset(input.long_number()), mark.durable_end);
      mark.log_start = offset(input.long_number());
      mark.segment = Offset(std::max<int64_t>(input.long_number(), -1));
      mark.position = static_cast<uint64_t>(input.long_number());
    }
    disk_.put_file("data/topics/somebody", {});
    while (!input.empty()) put_file(input);
    find_offsets_held_twice();
    if (mark_ && !may_end_at(*mark_)) mark_->segment = Offset(-1);
  }
  ~Examination() { kill(); }

  void run() {
    open((how_ & kClean) != 0);
    Seen first = read_all();
    look_up(first);
    check_same(first, read_all(), "reading twice");
    std::optional<LogMark> found = log_->mark(log_->durable_end());
    kill();
    disk_.power_cut(sim::CrashPolicy::lose_all());
    if ((how_ & kMarkAnew) != 0) mark_ = found;
    open(false);
    check_same(first, read_all(), "recovering twice", (how_ & kMarkAnew) != 0);

    if (first.end >= kLastOffset) return;  // no offset is left to give
    Offset appended = append();
    held_twice_.erase(appended);  // what was acknowledged now is never replaced
    Seen longer = read_all();
    CHECK_EQ(longer.end, appended + 1);
    if (!longer.holes && (how_ & kKnown) == 0) log_->check_invariants();
    close();
    open(true);
    CHECK(!log_->recovery().scanned);
    check_same(longer, read_all(), "opening after a clean stop");
    truncate(longer);
  }

 private:
  // As in a marks file that passed its checks.
  static Offset offset(int64_t value) { return Offset(std::max<int64_t>(value, 0)); }

  // A mark tells the truth of the log as it was: only what lies below and above the place it names can be damaged.
  bool may_end_at(const LogMark& mark) {
    if (mark.segment < Offset(0)) return true;
    sim::InodeId inode = disk_.image().find(join_path(kLogFolder, numbered_file(mark.segment, kLogSuffix)));
    ByteView content = inode == sim::kNoInode ? ByteView() : disk_.image().content(inode);
    if (mark.position >= content.size()) return true;
    ByteView rest = content.subspan(static_cast<size_t>(mark.position));
    return rest.size() >= 8 && load_big_endian<int64_t>(rest.data()) == mark.durable_end.value();
  }

  void put_file(Input& input) {
    uint8_t choice = input.byte();
    const LogFileKind& kind = kLogFileKinds[(choice & ~kChecksumsRight) % std::size(kLogFileKinds)];
    Offset base = offset(input.long_number());
    Bytes content = Bytes::copy_of(input.piece());
    if ((choice & kChecksumsRight) != 0) fix_checksums(form_of(kind), content.mutable_view());
    std::string name = kind.numbered ? numbered_file(base, kind.name) : std::string(kind.name);
    disk_.put_file(join_path(kLogFolder, name), content);
  }

  void find_offsets_held_twice() {
    const sim::DiskImage& image = disk_.image();
    sim::InodeId folder = image.find(kLogFolder);
    if (folder == sim::kNoInode) return;
    std::map<Offset, uint32_t> held;
    for (const auto& [name, inode] : image.node(folder)->entries) {
      if (!std::string_view(name).ends_with(kLogSuffix)) continue;
      ByteView content = image.content(inode);
      for (size_t at = 0; at + kBatchHeaderBytes <= content.size(); ++at) {
        if (content[at + 16] != std::byte{kBatchMagic}) continue;
        Result<RecordBatch> batch = RecordBatch::parse(content.subspan(at));
        if (!batch.ok() || !batch->crc_matches()) continue;
        uint32_t crc = crc32c(batch->bytes());
        if (held.emplace(batch->base_offset(), crc).first->second != crc) held_twice_.insert(batch->base_offset());
      }
    }
  }

  void open(bool clean) {
    env_ = world_.make_env(disk_);
    auto opened = Log::open(*env_, std::string(kLogFolder), test_meta(), config(), mark_, clean);
    CHECK(opened.ok());  // damage does not fail the opening, and the disk does not refuse
    log_ = std::move(*opened);
  }
  void kill() {
    env_.reset();
    log_.reset();
  }
  void close() {
    std::optional<Status> closed;
    log_->close([&](Status status) { closed = std::move(status); });
    world_.run_until_idle();
    CHECK(closed.has_value() && closed->ok());
    mark_ = log_->mark(log_->durable_end());
    kill();
  }

  // Where reading may go on behind damage at `at`. A batch that claims more offsets than are its own, `at` among them,
  // may be in the way of a sound one: then, once, at the same place.
  Offset step_over(Offset at, const Status& why, const LogSlice* slice) {
    if (log_->damage_at(at) == nullptr && slice != nullptr) {
      log_->report_damage({.first = slice->first,
                           .next_good = slice->first,
                           .file = slice->file,
                           .position = slice->slice.position,
                           .what = "found by reading"});
    }
    const DamagedRange* range = log_->damage_at(at);
    if (range == nullptr && slice != nullptr && slice->first < at && read_again_ != at) {
      CHECK(log_->damage_at(slice->first) != nullptr);
      return read_again_ = at;
    }
    if (range == nullptr)
      check_failed(__FILE__, __LINE__, "damage without a range", std::to_string(at.value()) + ": " + why.to_string());
    CHECK(!range->file.empty() && !range->what.empty());
    CHECK_GT(range->next_good, at);
    return range->next_good;
  }

  Seen read_all() {
    read_again_ = Offset(-1);
    Seen seen{log_->log_start(), log_->log_end(), {}, log_->epochs().entries(), false};
    CHECK_LE(seen.start, seen.end);
    for (Offset at = seen.start; at < seen.end;) {
      Result<LogSlice> slice = log_->read(at, 1'000, seen.end);
      if (!slice.ok()) {
        CHECK(slice.status().code() == Errc::kCorruption);
        at = step_over(at, slice.status(), nullptr);
        continue;
      }
      CHECK(!slice->empty());
      Result<BatchRun> run = read_slice(*slice);
      if (!run.ok()) {
        CHECK(run.status().code() == Errc::kCorruption);
        at = step_over(at, run.status(), &*slice);
        continue;
      }
      CHECK(!run->batches.empty());
      for (const RecordBatch& batch : run->batches) {
        CHECK(batch.crc_matches());
        CHECK_LE(batch.next_offset(), seen.end);
        seen.batches[batch.base_offset()] = crc32c(batch.bytes());
      }
      CHECK_GT(run->next_offset, at);
      at = run->next_offset;
    }
    seen.holes = !log_->damaged_ranges().empty();
    return seen;
  }

  static std::string text(const Seen& seen) {
    std::string text = std::to_string(seen.start.value()) + " to " + std::to_string(seen.end.value()) + ", " +
                       std::to_string(seen.batches.size()) + " batches, epochs";
    for (const EpochEntry& entry : seen.epochs) {
      text += " " + std::to_string(entry.epoch.value()) + "@" + std::to_string(entry.start.value());
    }
    return text + (seen.holes ? ", holes" : "");
  }

  // Around holes the epochs are guessed at where their file is lost too, and with what is left of the log the guess may
  // become another: then a batch may be held back that was there before, or one be found that was not, but what a mark
  // says was promised stays. No batch becomes another, unless the files came with two sound ones that claim the same
  // offset, as no log writes them: it depends on the way to the hole between them which one is met. A hole below a mark
  // that was believed shows only when reading comes by.
  void check_same(const Seen& first, const Seen& again, const std::string& when, bool marked = true) {
    bool holes = first.holes || (again.holes && (how_ & kKnown) != 0);
    bool same = (first.start == again.start || holes) &&
                (first.end == again.end || (holes && (!marked || again.end > first.end)));
    if (!holes) same = same && first.batches == again.batches;
    // An empty log has no use for them.
    if (!holes && first.start < first.end) same = same && first.epochs == again.epochs;
    std::string other;
    for (const auto& [base, crc] : first.batches) {
      auto found = again.batches.find(base);
      if (found != again.batches.end() && found->second != crc && !(holes && held_twice_.contains(base))) {
        other += "; another at " + std::to_string(base.value());
      }
    }
    if (same && other.empty()) return;
    check_failed(__FILE__, __LINE__, when.c_str(), "first " + text(first) + "; then " + text(again) + other);
  }

  void look_up(const Seen& seen) {
    if (seen.end >= kLastOffset) return;
    for (int64_t timestamp : {int64_t{0}, testing::kTestTimestampMs, testing::kTestTimestampMs + 3, INT64_MAX}) {
      auto found = log_->find_timestamp(timestamp, seen.end);
      CHECK(found.ok() || found.status().code() == Errc::kCorruption);
      if (found.ok() && found->has_value()) CHECK(seen.start <= (*found)->offset && (*found)->offset < seen.end);
    }
    CHECK(log_->read(seen.end + 1, 1, seen.end + 1).status().code() == Errc::kOutOfRange);
  }

  // One batch of one record; where it is.
  Offset append() {
    Offset end = log_->log_end();
    auto latest = log_->epochs().latest();
    LeaderEpoch epoch = latest ? std::max(latest->epoch, LeaderEpoch(0)) : LeaderEpoch(0);
    Bytes batch = testing::make_batch({{"new", "record"}}, {.base_offset = end, .leader_epoch = epoch});
    auto appended = log_->append(batch);
    CHECK(appended.ok());
    log_->request_sync();
    world_.run_until_idle();
    CHECK_EQ(log_->durable_end(), end + 1);
    // A mark may name a place that bytes before it were moved away from: nothing leads there.
    if ((how_ & kKnown) != 0 && !log_->damaged_ranges().empty()) return end;
    BatchRun run = read_slice(log_->read(end, 1, end + 1).value()).value();
    CHECK(run.batches.size() == 1 && bytes_equal(run.batches[0].bytes(), batch));
    return end;
  }

  void truncate(const Seen& seen) {
    Offset middle = seen.start + (seen.end - seen.start) / 2;
    Status cut = log_->truncate_to(middle);
    if (!cut.ok()) {
      CHECK(cut.code() == Errc::kCorruption);
      return;
    }
    CHECK_LE(log_->log_end(), middle);
    append();
    CHECK_LE(read_all().end, middle + 1);
  }

  sim::World world_{1};
  sim::SimDisk disk_{world_.scheduler()};
  std::unique_ptr<sim::SimEnv> env_;
  std::unique_ptr<Log> log_;
  uint8_t how_ = 0;
  std::optional<LogMark> mark_;
  Offset read_again_{-1};
  std::set<Offset> held_twice_;  // the files hold two different sound batches that begin there
};

}  // namespace
}  // namespace trilog::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trilog::fuzz::Examination(trilog::fuzz::Input(data, size)).run();
  return 0;
}
