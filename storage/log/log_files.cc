#include "storage/log/log_files.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace trilog {

namespace {

constexpr size_t kDigits = 20;
constexpr std::string_view kDerivedSuffixes[] = {kIndexSuffix, kTimeIndexSuffix, kChecksumSuffix};

// The number in front of `suffix`, if the name is one that numbered_file() makes.
std::optional<Offset> parse_numbered(std::string_view name, std::string_view suffix) {
  if (name.size() != kDigits + suffix.size() || !name.ends_with(suffix)) return std::nullopt;
  int64_t number = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + kDigits, number);
  if (error != std::errc() || end != name.data() + kDigits || number < 0) return std::nullopt;
  return Offset(number);
}

}  // namespace

std::string numbered_file(Offset offset, std::string_view suffix) {
  std::string digits = std::to_string(offset.value());
  std::string name(kDigits - std::min(kDigits, digits.size()), '0');
  name += digits;
  name += suffix;
  return name;
}

std::string epochs_temporary(unsigned which) {
  std::string name(kEpochsFile);
  return name + (which % 2 == 0 ? ".tmp0" : ".tmp1");
}

Result<LogListing> list_log(FileSystem& files, const std::string& directory) {
  LogListing listing;
  auto entries = files.list(directory);
  if (!entries.ok()) {
    if (entries.status().code() == Errc::kNotFound) return listing;
    return entries.status();
  }
  listing.folder_exists = true;
  std::vector<Offset> derived;
  for (const DirectoryEntry& entry : *entries) {
    if (entry.is_directory) continue;
    if (auto base = parse_numbered(entry.name, kLogSuffix)) listing.segments.push_back(*base);
    if (auto offset = parse_numbered(entry.name, kSnapshotSuffix)) listing.snapshots.push_back(*offset);
    if (auto base = parse_numbered(entry.name, kRepairSuffix)) listing.repairs.push_back(*base);
    for (std::string_view suffix : kDerivedSuffixes) {
      if (auto base = parse_numbered(entry.name, suffix)) derived.push_back(*base);
    }
    listing.has_epochs |= entry.name == kEpochsFile;
    listing.has_epochs_temporary |= entry.name == epochs_temporary(0) || entry.name == epochs_temporary(1);
    listing.has_meta |= entry.name == kMetaFile;
  }
  std::sort(listing.segments.begin(), listing.segments.end());
  for (Offset base : derived) {
    if (!std::binary_search(listing.segments.begin(), listing.segments.end(), base)) listing.orphans.push_back(base);
  }
  return listing;
}

Status remove_derived_files(FileSystem& files, const std::string& directory, Offset base) {
  for (std::string_view suffix : kDerivedSuffixes) {
    Status removed = files.remove_file(join_path(directory, numbered_file(base, suffix)));
    if (!removed.ok() && removed.code() != Errc::kNotFound) return removed;
  }
  return ok_status();
}

}  // namespace trilog
