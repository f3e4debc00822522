#include "storage/log/producer_snapshots.h"

#include <algorithm>
#include <array>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"
#include "storage/log/log_files.h"

namespace trilog {

namespace {
// 8 segment | 8 position | 4 crc32c of both | producer state in its own frame
constexpr size_t kPrefixBytes = 20;
constexpr size_t kCrcAt = 16;
}  // namespace

std::string ProducerSnapshots::path(Offset offset) const {
  return join_path(directory_, numbered_file(offset, kSnapshotSuffix));
}

void ProducerSnapshots::remove(Offset offset) {
  // One that stays is replaced or overlooked later: it is tied to an offset and checked when read.
  static_cast<void>(files_.remove_file(path(offset)));
  std::erase(offsets_, offset);
}

std::optional<Offset> ProducerSnapshots::newest() const {
  if (offsets_.empty()) return std::nullopt;
  return offsets_.back();
}

Result<ReplayStart> ProducerSnapshots::read(Offset offset, ProducerStateManager& state) {
  const Status bad(Errc::kCorruption, "the prefix of a producer snapshot does not fit");
  Bytes bytes = TRY(files_.read_file(path(offset)));
  if (bytes.size() < kPrefixBytes) return bad;
  ByteView prefix = bytes.view().first(kCrcAt);
  if (load_big_endian<uint32_t>(bytes.data() + kCrcAt) != crc32c(prefix)) return bad;
  ByteReader in(prefix);
  ReplayStart start;
  start.segment = Offset(in.read<int64_t>());
  start.position = in.read<uint64_t>();
  start.offset = TRY(state.decode(bytes.view().subspan(kPrefixBytes)));
  if (start.offset != offset) return bad;
  last_bytes_ = bytes.size();
  return start;
}

Result<std::optional<ReplayStart>> ProducerSnapshots::load(Offset log_end, ProducerStateManager& state) {
  TRY(remove_above(log_end));
  while (!offsets_.empty()) {
    auto start = read(offsets_.back(), state);
    if (start.ok()) return std::optional(*start);
    remove(offsets_.back());
  }
  state.clear();
  return std::optional<ReplayStart>();
}

Result<std::shared_ptr<File>> ProducerSnapshots::write(const ReplayStart& at, const ProducerStateManager& state,
                                                       Offset durable_end) {
  std::array<std::byte, kPrefixBytes> prefix;
  store_big_endian<int64_t>(prefix.data(), at.segment.value());
  store_big_endian<uint64_t>(prefix.data() + 8, at.position);
  store_big_endian<uint32_t>(prefix.data() + kCrcAt, crc32c(ByteView(prefix).first(kCrcAt)));
  Bytes content = state.encode(at.offset);
  std::shared_ptr<File> file = TRY(files_.open(path(at.offset), OpenMode::kCreate));
  TRY(file->truncate(0));
  std::array<ByteView, 2> pieces{ByteView(prefix), content.view()};
  Status written = file->write_at(0, pieces);
  if (!written.ok()) {
    remove(at.offset);
    return written;
  }
  last_bytes_ = kPrefixBytes + content.size();
  std::erase_if(offsets_, [&](Offset known) { return known == at.offset; });
  offsets_.push_back(at.offset);
  std::sort(offsets_.begin(), offsets_.end());
  // A crash may take the log back to durable_end: one snapshot must remain that is not above it.
  auto above = std::upper_bound(offsets_.begin(), offsets_.end(), durable_end);
  std::optional<Offset> kept = above == offsets_.begin() ? std::nullopt : std::optional(*std::prev(above));
  std::vector<Offset> old(offsets_.begin(), offsets_.size() > 2 ? offsets_.end() - 2 : offsets_.begin());
  for (Offset offset : old) {
    if (offset != kept) remove(offset);
  }
  return file;
}

Status ProducerSnapshots::remove_above(Offset end) {
  if (offsets_.empty() || offsets_.back() <= end) return ok_status();
  while (!offsets_.empty() && offsets_.back() > end) {
    Status removed = files_.remove_file(path(offsets_.back()));
    if (!removed.ok() && removed.code() != Errc::kNotFound) return removed;
    offsets_.pop_back();
  }
  return files_.sync_directory_now(directory_);
}

}  // namespace trilog
