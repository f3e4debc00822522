#include "storage/state/manifest_guard.h"

#include <charconv>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"

namespace trilog {
namespace {

constexpr uint32_t kVersion = 1;
constexpr size_t kManifestBytesMax = 64u << 20;
constexpr std::string_view kPrefix = "MANIFEST-";

struct Note {
  std::string manifest;
  uint64_t size = 0;
  uint32_t checksum = 0;
};

// The number in "MANIFEST-000010"; manifests are numbered upwards.
std::optional<uint64_t> number_of(std::string_view manifest) {
  if (!manifest.starts_with(kPrefix)) return std::nullopt;
  manifest.remove_prefix(kPrefix.size());
  uint64_t number = 0;
  auto [end, error] = std::from_chars(manifest.data(), manifest.data() + manifest.size(), number);
  if (error != std::errc() || end != manifest.data() + manifest.size()) return std::nullopt;
  return number;
}

std::optional<Note> decode(ByteView bytes) {
  ByteReader reader(bytes);
  auto checksum = reader.read<uint32_t>();
  if (!reader.ok() || checksum != crc32c(bytes.subspan(sizeof(checksum)))) return std::nullopt;
  auto version = reader.read<uint32_t>();
  Note note;
  note.size = reader.read<uint64_t>();
  note.checksum = reader.read<uint32_t>();
  note.manifest = reader.read_text();
  if (!reader.ok() || version != kVersion) return std::nullopt;
  return note;
}

Bytes encode(const Note& note) {
  Bytes bytes;
  ByteWriter writer(bytes);
  writer.write<uint32_t>(0);
  writer.write<uint32_t>(kVersion);
  writer.write<uint64_t>(note.size);
  writer.write<uint32_t>(note.checksum);
  writer.write_text(note.manifest);
  store_big_endian<uint32_t>(bytes.data(), crc32c(bytes.view().subspan(sizeof(uint32_t))));
  return bytes;
}

}  // namespace

Status ManifestGuard::check_current() {
  Result<std::vector<DirectoryEntry>> entries = files_.list(directory_);
  if (!entries.ok() || files_.exists(join_path(directory_, "CURRENT"))) return ok_status();
  for (const DirectoryEntry& entry : *entries) {
    std::string_view name = entry.name;
    if (name.starts_with(kPrefix) || name.ends_with(".log") || name.ends_with(".sst")) {
      return Status(Errc::kCorruption, "state store " + directory_ + ": CURRENT is missing beside " + entry.name);
    }
  }
  return ok_status();
}

Status ManifestGuard::check() {
  TRY(check_current());
  Result<Bytes> guard = files_.read_file(join_path(directory_, "GUARD"));
  std::optional<Note> note = guard.ok() ? decode(*guard) : std::nullopt;
  if (!note.has_value()) return ok_status();
  auto damaged = [this](std::string_view why) {
    return Status(Errc::kCorruption, "state store " + directory_ + ": " + std::string(why));
  };
  Result<Bytes> current = files_.read_file(join_path(directory_, "CURRENT"));
  if (!current.ok()) return damaged("CURRENT cannot be read: " + std::string(current.status().message()));
  std::string_view manifest = as_text(*current);
  if (manifest.ends_with('\n')) manifest.remove_suffix(1);
  std::optional<uint64_t> number = number_of(manifest);
  if (!number.has_value()) return damaged("CURRENT names no manifest");
  if (*number > number_of(note->manifest).value_or(0)) {
    // RocksDB went on to a new one and was stopped before that was noted.
    return files_.exists(join_path(directory_, manifest)) ? ok_status() : damaged("CURRENT names a missing manifest");
  }
  if (manifest != note->manifest) return damaged("CURRENT names an old manifest");

  Result<Bytes> content = files_.read_file(join_path(directory_, manifest), kManifestBytesMax);
  if (!content.ok()) return damaged("the manifest cannot be read: " + std::string(content.status().message()));
  if (content->size() < note->size) {
    return damaged(std::string(manifest) + " has " + std::to_string(content->size()) + " bytes and had " +
                   std::to_string(note->size));
  }
  if (crc32c(content->view().subspan(0, static_cast<size_t>(note->size))) != note->checksum) {
    return damaged(std::string(manifest) + " has changed");
  }
  return ok_status();
}

void ManifestGuard::note(std::string_view manifest, uint64_t size) {
  auto write = [&]() -> Status {
    Bytes content = TRY(files_.read_file(join_path(directory_, manifest), kManifestBytesMax));
    if (content.size() < size) return Status(Errc::kOutOfRange, "the manifest is shorter than told");
    Note note{std::string(manifest), size, crc32c(content.view().subspan(0, static_cast<size_t>(size)))};
    std::string path = join_path(directory_, "GUARD");
    std::string temporary = path + ".tmp";
    {
      std::unique_ptr<File> file = TRY(files_.open(temporary, OpenMode::kCreate));
      TRY(file->truncate(0));
      TRY(file->write_at(0, encode(note)));
    }
    return files_.rename(temporary, path);
  };
  static_cast<void>(write().ok());
}

}  // namespace trilog
