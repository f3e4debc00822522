#include "broker/quorum/slot_file.h"

#include <utility>

#include "storage/base/codec.h"
#include "storage/log/log_directory.h"  // frames of small files

namespace trilog {

namespace {

constexpr uint32_t kSlotVersion = 1;
constexpr size_t kFrameHeaderBytes = 20;
constexpr size_t kLengthAt = 12;
constexpr size_t kSlots = 2;

struct Slot {
  uint64_t sequence = 0;
  Bytes value;
};

// `bytes` begin with the slot's frame and may go on behind it.
Result<Slot> read_slot(ByteView bytes) {
  if (bytes.size() < kFrameHeaderBytes) return Status(Errc::kCorruption, "a slot is cut off");
  size_t length = load_big_endian<uint32_t>(bytes.data() + kLengthAt);
  if (length > bytes.size() - kFrameHeaderBytes) return Status(Errc::kCorruption, "a slot is cut off");
  ByteReader in(TRY(unframe_checkpoint(bytes.first(kFrameHeaderBytes + length), kSlotVersion)));
  Slot slot;
  slot.sequence = in.read<uint64_t>();
  slot.value = Bytes::copy_of(in.read_bytes(in.remaining()));
  if (!in.ok()) return Status(Errc::kCorruption, "a slot is cut off");
  return slot;
}

Bytes encode_slot(uint64_t sequence, ByteView value) {
  CHECK_LE(value.size(), kSlotValueBytesMax);
  Bytes payload;
  ByteWriter out(payload);
  out.write<uint64_t>(sequence);
  out.write_bytes(value);
  Bytes slot = frame_checkpoint(kSlotVersion, payload);
  size_t used = slot.size();
  slot.resize_uninitialized(kSlotBytes);
  std::memset(slot.data() + used, 0, kSlotBytes - used);
  return slot;
}

}  // namespace

SlotFile::SlotFile(Env& env, std::string path)
    : env_(env), path_(std::move(path)), self_(std::make_shared<SlotFile*>(this)) {}

Result<std::optional<Bytes>> SlotFile::load() {
  auto opened = env_.files().open(path_, OpenMode::kReadWrite);
  if (!opened.ok()) {
    if (opened.status().code() == Errc::kNotFound) return std::optional<Bytes>();
    return opened.status();
  }
  file_ = std::move(*opened);
  // S3: what the page cache shows may never have reached the disk, and would be taken for durable from here on.
  TRY(file_->sync_now());
  file_->drop_cache();
  Bytes bytes(kSlots * kSlotBytes);
  bytes.resize_uninitialized(TRY(file_->read_at(0, bytes.mutable_view())));
  std::optional<Slot> newest;
  Status damage;
  size_t readable = 0;
  for (size_t i = 0; i < kSlots && i * kSlotBytes < bytes.size(); ++i) {
    ByteView rest = bytes.view().subspan(i * kSlotBytes);
    auto slot = read_slot(rest.first(std::min(rest.size(), kSlotBytes)));
    if (!slot.ok()) {
      if (slot.status().code() == Errc::kUnsupported) return slot.status().with_context(path_);
      damage = slot.status();
      continue;
    }
    ++readable;
    if (newest && !bytes_equal(newest->value, slot->value)) slots_differ_ = true;
    if (!newest || slot->sequence > newest->sequence) newest = std::move(*slot);
  }
  if (!newest) {
    return Status(Errc::kCorruption,
                  path_ + ": no slot can be read: " + (damage.ok() ? "it is empty" : std::string(damage.message())));
  }
  if (readable < kSlots) slots_differ_ = true;
  sequence_ = newest->sequence;
  return std::optional(std::move(newest->value));
}

void SlotFile::create(ByteView value, UniqueFunction<void(Status)> done) {
  CHECK(!std::exchange(writing_, true));
  std::string temporary = path_ + ".tmp";
  auto fail = [&](Status why) {
    writing_ = false;
    env_.executor().post([done = std::move(done), why = std::move(why)]() mutable { done(std::move(why)); });
  };
  auto opened = env_.files().open(temporary, OpenMode::kCreate);
  if (!opened.ok()) return fail(opened.status());
  file_ = std::move(*opened);
  Bytes even = encode_slot(2, value);
  Bytes odd = encode_slot(1, value);
  ByteView pieces[] = {even, odd};
  Status written = file_->truncate(0);
  if (written.ok()) written = file_->write_at(0, pieces);
  if (!written.ok()) return fail(written);
  sequence_ = 2;
  file_->sync([self = self_, file = file_, temporary, done = std::move(done)](Status status) mutable {
    if (*self == nullptr) return done(Status(Errc::kFailed, "stopped while making " + temporary));
    (*self)->writing_ = false;
    if (status.ok()) status = (*self)->env_.files().rename(temporary, (*self)->path_);
    done(std::move(status));
  });
}

// Slot 0 holds the even sequence numbers, slot 1 the odd ones.
Status SlotFile::put(ByteView value) {
  CHECK(file_ != nullptr);
  uint64_t next = sequence_ + 1;
  TRY(file_->write_at((next % kSlots) * kSlotBytes, encode_slot(next, value).view()));
  sequence_ = next;
  return ok_status();
}

void SlotFile::write(ByteView value, UniqueFunction<void(Status)> done) {
  CHECK(!std::exchange(writing_, true));
  Status written = put(value);
  if (!written.ok()) {
    writing_ = false;
    env_.executor().post([done = std::move(done), written]() mutable { done(written); });
    return;
  }
  file_->sync([self = self_, file = file_, done = std::move(done)](Status status) mutable {
    if (*self != nullptr) (*self)->writing_ = false;
    done(std::move(status));
  });
}

Status SlotFile::write_now(ByteView value) {
  CHECK(!writing_);
  TRY(put(value));
  return file_->sync_now();
}

}  // namespace trilog
