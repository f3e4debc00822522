#include "storage/log/checkpoint_file.h"

#include <algorithm>
#include <utility>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"

namespace trilog {

namespace {

constexpr std::string_view kMagic = "trilogCP";
constexpr size_t kFrameHeaderBytes = 20;
constexpr size_t kCrcAt = 16;

constexpr uint32_t kMarksVersion = 1;
constexpr uint32_t kCleanVersion = 1;
constexpr size_t kMarkBytes = 16 + 4 + 5 * 8;
constexpr uint64_t kSlotBytesMin = 4096;

uint32_t frame_crc(ByteView version_and_length, ByteView payload) {
  return crc32c(payload, crc32c(version_and_length));
}

void write_marks(ByteWriter& out, const Marks& marks) {
  out.write<uint32_t>(static_cast<uint32_t>(marks.size()));
  for (const auto& [partition, mark] : marks) {
    out.write<uint64_t>(partition.topic.high());
    out.write<uint64_t>(partition.topic.low());
    out.write<int32_t>(partition.partition.value());
    out.write<int64_t>(mark.durable_end.value());
    out.write<int64_t>(mark.high_watermark.value());
    out.write<int64_t>(mark.log_start.value());
    out.write<int64_t>(mark.segment.value());
    out.write<uint64_t>(mark.position);
  }
}

// Fails the reader if entries are missing, left over or out of order.
Marks read_marks(ByteReader& in) {
  Marks marks;
  uint32_t count = in.read<uint32_t>();
  if (in.remaining() != count * kMarkBytes) in.fail();
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    TopicPartition partition;
    uint64_t high = in.read<uint64_t>();
    partition.topic = TopicId(high, in.read<uint64_t>());
    partition.partition = PartitionId(in.read<int32_t>());
    LogMark mark;
    mark.durable_end = Offset(in.read<int64_t>());
    mark.high_watermark = Offset(in.read<int64_t>());
    mark.log_start = Offset(in.read<int64_t>());
    mark.segment = Offset(in.read<int64_t>());
    mark.position = in.read<uint64_t>();
    if (!marks.empty() && marks.rbegin()->first >= partition) in.fail();
    marks.emplace_hint(marks.end(), partition, mark);
  }
  return marks;
}

struct MarksSlot {
  uint64_t sequence = 0;
  Marks marks;
};

// `bytes` begin with the slot's frame and may go on behind it.
Result<MarksSlot> read_slot(ByteView bytes) {
  if (bytes.size() < kFrameHeaderBytes) return Status(Errc::kCorruption, "a slot is cut off");
  uint64_t length = load_big_endian<uint32_t>(bytes.data() + 12);
  if (length > bytes.size() - kFrameHeaderBytes) return Status(Errc::kCorruption, "a slot is cut off");
  ByteView payload =
      TRY(unframe_checkpoint(bytes.first(kFrameHeaderBytes + static_cast<size_t>(length)), kMarksVersion));
  ByteReader in(payload);
  MarksSlot slot;
  slot.sequence = in.read<uint64_t>();
  slot.marks = read_marks(in);
  if (!in.ok()) return Status(Errc::kCorruption, "the marks of a slot do not add up");
  return slot;
}

Bytes encode_slot(uint64_t sequence, const Marks& marks) {
  Bytes payload;
  payload.reserve(12 + marks.size() * kMarkBytes);
  ByteWriter out(payload);
  out.write<uint64_t>(sequence);
  write_marks(out, marks);
  return frame_checkpoint(kMarksVersion, payload);
}

}  // namespace

Bytes frame_checkpoint(uint32_t version, ByteView payload) {
  CHECK_LE(payload.size(), kCheckpointBytesMax);
  Bytes bytes;
  bytes.reserve(kFrameHeaderBytes + payload.size());
  ByteWriter out(bytes);
  out.write_bytes(as_bytes(kMagic));
  out.write<uint32_t>(version);
  out.write<uint32_t>(static_cast<uint32_t>(payload.size()));
  out.write<uint32_t>(frame_crc(bytes.view().subspan(kMagic.size()), payload));
  out.write_bytes(payload);
  return bytes;
}

Result<ByteView> unframe_checkpoint(ByteView bytes, uint32_t version_max) {
  if (bytes.size() < kFrameHeaderBytes) return Status(Errc::kCorruption, "too short for a checkpoint's header");
  if (as_text(bytes.first(kMagic.size())) != kMagic) return Status(Errc::kCorruption, "not a checkpoint file");
  auto version = load_big_endian<uint32_t>(bytes.data() + 8);
  auto length = load_big_endian<uint32_t>(bytes.data() + 12);
  ByteView payload = bytes.subspan(kFrameHeaderBytes);
  if (payload.size() != length) {
    return Status(Errc::kCorruption, "the header promises " + std::to_string(length) + " bytes of payload, there are " +
                                         std::to_string(payload.size()));
  }
  // The checksum comes before the version, so that a flipped bit is never mistaken for a newer format.
  if (frame_crc(bytes.subspan(8, 8), payload) != load_big_endian<uint32_t>(bytes.data() + kCrcAt)) {
    return Status(Errc::kCorruption, "checksum does not match");
  }
  if (version > version_max) {
    return Status(Errc::kUnsupported, "format version " + std::to_string(version) +
                                          " is newer than this program, which knows " + std::to_string(version_max));
  }
  return payload;
}

Status write_checkpoint(FileSystem& files, std::string_view path, uint32_t version, ByteView payload) {
  return files.replace_file(path, frame_checkpoint(version, payload));
}

Result<Bytes> read_checkpoint(FileSystem& files, std::string_view path, uint32_t version_max) {
  Bytes bytes = TRY(files.read_file(path, kCheckpointBytesMax + kFrameHeaderBytes));
  auto payload = unframe_checkpoint(bytes, version_max);
  if (!payload.ok()) return payload.status().with_context(path);
  return Bytes::copy_of(*payload);
}

Result<MarksFile> MarksFile::open(FileSystem& files, std::string path) {
  MarksFile result(files, std::move(path));
  auto opened = files.open(result.path_, OpenMode::kReadWrite);
  if (!opened.ok()) {
    if (opened.status().code() == Errc::kNotFound) return result;
    return opened.status();
  }
  result.file_ = std::move(*opened);
  // S3: what the page cache shows may never have reached the disk, and the next write would overwrite the other slot.
  TRY(result.file_->sync_now());
  result.file_->drop_cache();
  uint64_t size = TRY(result.file_->size());
  if (size > 2 * (kCheckpointBytesMax + kFrameHeaderBytes + kSlotBytesMin)) {
    return Status(Errc::kTooLarge, result.path_ + " has " + std::to_string(size) + " bytes");
  }
  Bytes bytes(static_cast<size_t>(size));
  bytes.resize_uninitialized(TRY(result.file_->read_at(0, bytes.mutable_view())));
  TRY(result.take_newest_slot(bytes));
  return result;
}

Status MarksFile::take_newest_slot(ByteView bytes) {
  size_t half = bytes.size() / 2;
  bool found = false;
  for (size_t at : {size_t{0}, half}) {
    if (half == 0) break;
    auto slot = read_slot(bytes.subspan(at, at == 0 ? bytes.size() : half));
    if (!slot.ok() && slot.status().code() == Errc::kUnsupported) return slot.status().with_context(path_);
    if (!slot.ok() || (found && slot->sequence < sequence_)) continue;
    found = true;
    sequence_ = slot->sequence;
    marks_ = std::move(slot->marks);
  }
  damaged_ = !found;
  // A file of another length was cut or padded by somebody: the next write replaces it as a whole.
  slot_bytes_ = found && bytes.size() % (2 * kSlotBytesMin) == 0 ? half : 0;
  return ok_status();
}

Result<bool> MarksFile::put(const Marks& marks) {
  if (flight_->failed) return Status(Errc::kFailed, path_ + ": an earlier sync failed");
  Bytes slot = encode_slot(sequence_ + 1, marks);
  bool grown = file_ == nullptr || slot.size() > slot_bytes_;
  if (grown) {
    TRY(replace(slot));
  } else {
    TRY(file_->write_at((sequence_ + 1) % 2 * slot_bytes_, slot.view()));
  }
  ++sequence_;
  marks_ = marks;
  return grown;
}

// Twice the room that is needed now, so that a growing set of partitions costs few replacements.
Status MarksFile::replace(ByteView slot) {
  uint64_t wanted = std::max(kSlotBytesMin, (2 * slot.size() + kSlotBytesMin - 1) / kSlotBytesMin * kSlotBytesMin);
  Bytes content(static_cast<size_t>(2 * wanted));
  std::memset(content.data(), 0, content.size());
  std::memcpy(content.data() + (sequence_ + 1) % 2 * wanted, slot.data(), slot.size());
  file_.reset();
  slot_bytes_ = 0;
  TRY(files_->replace_file(path_, content));
  file_ = TRY(files_->open(path_, OpenMode::kReadWrite));
  slot_bytes_ = wanted;
  return ok_status();
}

void MarksFile::write(const Marks& marks, UniqueFunction<void(Status)> done) {
  CHECK(!writing());
  flight_->writing = true;
  Status put_status = put(marks).status();
  auto finish = [flight = flight_, put_status, done = std::move(done)](Status synced) mutable {
    flight->writing = false;
    flight->failed = put_status.ok() && !synced.ok();
    done(put_status.ok() ? std::move(synced) : std::move(put_status));
  };
  if (file_ != nullptr) {
    file_->sync(std::move(finish));
  } else {
    // Nothing is open to sync; this call only carries the failure, which must be posted like any other answer.
    files_->sync_directory(parent_path(path_), std::move(finish));
  }
}

Status MarksFile::write_now(const Marks& marks) {
  CHECK(!writing());
  bool already_durable = TRY(put(marks));
  if (already_durable) return ok_status();
  Status synced = file_->sync_now();
  flight_->failed = !synced.ok();
  return synced;
}

Status write_clean_marker(FileSystem& files, std::string_view path, const CleanMarker& marker) {
  Bytes payload;
  ByteWriter out(payload);
  out.write<int64_t>(marker.broker_epoch);
  write_marks(out, marker.marks);
  return write_checkpoint(files, path, kCleanVersion, payload);
}

Result<std::optional<CleanMarker>> take_clean_marker(FileSystem& files, std::string_view path) {
  std::optional<CleanMarker> marker;
  auto payload = read_checkpoint(files, path, kCleanVersion);
  if (payload.ok()) {
    ByteReader in(*payload);
    CleanMarker read;
    read.broker_epoch = in.read<int64_t>();
    read.marks = read_marks(in);
    if (in.ok()) marker = std::move(read);
  } else if (payload.status().code() != Errc::kNotFound && payload.status().code() != Errc::kCorruption &&
             payload.status().code() != Errc::kUnsupported && payload.status().code() != Errc::kTooLarge) {
    return payload.status();
  }
  Status removed = files.remove_file(path);
  if (!removed.ok() && removed.code() != Errc::kNotFound) return removed;
  // Also when it was missing: an earlier start may have removed it and died before its directory sync; a power cut
  // would then bring back a marker that is no longer true (KAFKA-10471).
  Status synced = files.sync_directory_now(parent_path(path));
  if (!synced.ok() && synced.code() != Errc::kNotFound) return synced;
  return marker;
}

}  // namespace trilog
