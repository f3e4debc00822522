#include "tests/storage/crash/log_node.h"

#include <algorithm>
#include <utility>

namespace trilog::crash {
namespace {
constexpr const char* kMarksPath = "data/marks";
constexpr const char* kCleanPath = "data/clean";
}  // namespace

Status LogNode::start(const std::vector<LogSpec>& specs) {
  std::optional<CleanMarker> marker = TRY(take_clean_marker(env_.files(), kCleanPath));
  marks_ = TRY(MarksFile::open(env_.files(), kMarksPath));
  if (marks_->damaged()) return Status(Errc::kCorruption, "the marks file is damaged");
  clean_ = marker.has_value();
  found_ = clean_ ? marker->marks : marks_->marks();
  directory_.emplace(env_, kTopicsFolder, LogStartState{clean_, found_});
  for (const LogSpec& spec : specs) TRY(open(spec));
  directory_->remove_leftovers();
  return clean_ ? ok_status() : marks_->write_now(marks());
}

Status LogNode::open(const LogSpec& spec) {
  Entry& entry = entries_[spec.id()];
  entry.spec = spec;
  entry.log = TRY(directory_->open(spec.meta, spec.config));
  if (auto mark = found_.find(spec.id()); mark != found_.end()) {
    entry.high_watermark = std::min(mark->second.high_watermark, entry.log->log_end());
  }
  return ok_status();
}

Marks LogNode::marks() const {
  Marks marks;
  for (const auto& [id, entry] : entries_) {
    if (entry.log != nullptr) marks[id] = entry.log->mark(entry.high_watermark);
  }
  return marks;
}

// The marks as well, since the marker is gone with the next start: a crash soon after that would fall back to marks
// from before the stop, and bring back records that were deleted.
Status LogNode::write_clean_marker() {
  TRY(marks_->write_now(marks()));
  return trilog::write_clean_marker(env_.files(), kCleanPath, {.broker_epoch = 1, .marks = marks()});
}

}  // namespace trilog::crash
