#include "broker/quorum/snapshot.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "storage/base/codec.h"
#include "storage/log/log_directory.h"  // frames of small files

namespace trilog {

namespace {

constexpr std::string_view kSuffix = ".snapshot";
constexpr std::string_view kTemporarySuffix = ".snapshot.tmp";
constexpr size_t kEndDigits = 20;
constexpr size_t kTermDigits = 10;
constexpr uint32_t kSnapshotVersion = 1;
constexpr size_t kFrameBytes = 20;
constexpr size_t kPrefixBytes = 12;
constexpr size_t kSnapshotsKept = 2;

std::string padded(int64_t number, size_t digits) {
  std::string text = std::to_string(number);
  return std::string(digits - std::min(digits, text.size()), '0') + text;
}

std::string name_of(Offset end, Term term) {
  return padded(end.value(), kEndDigits) + "-" + padded(term.value(), kTermDigits) + std::string(kSuffix);
}

template <typename T>
bool parse(std::string_view digits, T& number) {
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return error == std::errc() && end == digits.data() + digits.size() && number >= 0;
}

// The folder also holds the producer snapshots that storage::Log keeps, whose names have no term.
std::optional<SnapshotStore::Entry> parse_name(std::string_view name, const std::string& directory) {
  if (name.size() != kEndDigits + 1 + kTermDigits + kSuffix.size() || !name.ends_with(kSuffix)) return std::nullopt;
  int64_t end = 0;
  int32_t term = 0;
  if (!parse(name.substr(0, kEndDigits), end) || name[kEndDigits] != '-') return std::nullopt;
  if (!parse(name.substr(kEndDigits + 1, kTermDigits), term)) return std::nullopt;
  return SnapshotStore::Entry{Offset(end), Term(term), join_path(directory, name)};
}

}  // namespace

Result<std::unique_ptr<SnapshotStore>> SnapshotStore::open(Env& env, std::string directory) {
  std::unique_ptr<SnapshotStore> store(new SnapshotStore(env, std::move(directory)));
  auto listed = env.files().list(store->directory_);
  if (!listed.ok()) {
    if (listed.status().code() == Errc::kNotFound) return store;
    return listed.status();
  }
  for (const DirectoryEntry& file : *listed) {
    if (file.name.ends_with(kTemporarySuffix)) TRY(env.files().remove_file(join_path(store->directory_, file.name)));
    auto entry = parse_name(file.name, store->directory_);
    if (!entry) continue;
    auto content = store->read(*entry);
    if (content.ok()) {
      store->sound_.push_back(std::move(*entry));
    } else if (content.status().code() == Errc::kCorruption) {
      store->damaged_.emplace_back(content.status().message());
      store->damaged_paths_.push_back(entry->path);
    } else {
      return content.status();
    }
  }
  auto by_end = [](const Entry& a, const Entry& b) { return std::pair(a.end, a.term) < std::pair(b.end, b.term); };
  std::sort(store->sound_.begin(), store->sound_.end(), by_end);
  return store;
}

void SnapshotStore::reject(Offset end, std::string why) {
  auto entry = std::find_if(sound_.begin(), sound_.end(), [&](const Entry& e) { return e.end == end; });
  CHECK(entry != sound_.end());
  damaged_.push_back(entry->path + ": " + why);
  damaged_paths_.push_back(entry->path);
  sound_.erase(entry);
}

Result<RaftSnapshot> SnapshotStore::read(const Entry& entry) const {
  SharedBytes bytes(TRY(env_.files().read_file(entry.path, kCheckpointBytesMax + kFrameBytes)));
  auto payload = unframe_checkpoint(bytes, kSnapshotVersion);
  if (!payload.ok()) return payload.status().with_context(entry.path);
  ByteReader in(*payload);
  RaftSnapshot snapshot;
  snapshot.end = Offset(in.read<int64_t>());
  snapshot.last_term = Term(in.read<int32_t>());
  if (!in.ok() || snapshot.end != entry.end || snapshot.last_term != entry.term) {
    return Status(Errc::kCorruption, entry.path + ": its content belongs to another name");
  }
  snapshot.state = bytes.slice(kFrameBytes + kPrefixBytes, in.remaining());
  return snapshot;
}

std::optional<Term> SnapshotStore::term_at(Offset end) const {
  for (const Entry& entry : sound_) {
    if (entry.end == end) return entry.term;
  }
  return std::nullopt;
}

void SnapshotStore::save(RaftSnapshot snapshot, UniqueFunction<void(Status)> done) {
  CHECK(!std::exchange(saving_, true));
  CHECK(sound_.empty() || sound_.back().end < snapshot.end);
  std::string path = join_path(directory_, name_of(snapshot.end, snapshot.last_term));
  std::string temporary = path.substr(0, path.size() - kSuffix.size()) + std::string(kTemporarySuffix);
  auto fail = [&](Status why) {
    saving_ = false;
    env_.executor().post([done = std::move(done), why = std::move(why)]() mutable { done(std::move(why)); });
  };
  if (snapshot.state.size() > kCheckpointBytesMax - kPrefixBytes) {
    return fail(Status(Errc::kTooLarge, path + " would have " + std::to_string(snapshot.state.size()) + " bytes"));
  }
  Bytes payload;
  payload.reserve(kPrefixBytes + snapshot.state.size());
  ByteWriter out(payload);
  out.write<int64_t>(snapshot.end.value());
  out.write<int32_t>(snapshot.last_term.value());
  out.write_bytes(snapshot.state);
  auto opened = env_.files().open(temporary, OpenMode::kCreate);
  if (!opened.ok()) return fail(opened.status());
  std::shared_ptr<File> file = std::move(*opened);
  Status written = file->truncate(0);
  if (written.ok()) written = file->write_at(0, frame_checkpoint(kSnapshotVersion, payload).view());
  if (!written.ok()) {
    static_cast<void>(env_.files().remove_file(temporary));  // the next open() removes it if this did not
    return fail(written);
  }
  Entry entry{snapshot.end, snapshot.last_term, path};
  file->sync([self = self_, file, temporary, entry, done = std::move(done)](Status status) mutable {
    if (*self == nullptr) return done(Status(Errc::kFailed, "stopped while saving " + entry.path));
    SnapshotStore& store = **self;
    if (status.ok()) status = store.env_.files().rename(temporary, entry.path);
    if (!status.ok()) {
      store.saving_ = false;
      store.env_.fatal(status);
      return done(std::move(status));
    }
    store.named(std::move(entry), std::move(done));
  });
}

void SnapshotStore::named(Entry entry, UniqueFunction<void(Status)> done) {
  env_.files().sync_directory(directory_,
                              [self = self_, entry = std::move(entry), done = std::move(done)](Status status) mutable {
                                if (*self == nullptr)
                                  return done(Status(Errc::kFailed, "stopped while saving " + entry.path));
                                SnapshotStore& store = **self;
                                store.saving_ = false;
                                if (!status.ok()) store.env_.fatal(status);
                                if (status.ok()) status = store.keep(std::move(entry));
                                done(std::move(status));
                              });
}

// What was written is read back before anything older goes.
Status SnapshotStore::keep(Entry entry) {
  TRY(read(entry));
  sound_.push_back(std::move(entry));
  std::vector<std::string> old = std::exchange(damaged_paths_, {});
  damaged_.clear();
  while (sound_.size() > kSnapshotsKept) {
    old.push_back(sound_.front().path);
    sound_.erase(sound_.begin());
  }
  for (const std::string& path : old) {
    Status removed = env_.files().remove_file(path);
    if (!removed.ok()) env_.log().warning("an old snapshot stays: ", removed.to_string());
  }
  return ok_status();
}

}  // namespace trilog
