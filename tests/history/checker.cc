#include "tests/history/checker.h"

#include <utility>

#include "tests/history/checks.h"
#include "tests/history/history_json.h"
#include "tests/history/partition_history.h"

namespace trilog::history {

std::string text_of(const Partition& partition) { return partition.topic + "/" + std::to_string(partition.index); }

std::string text_of(const Record& record, const PartitionHistory& partition) {
  return "record " + std::to_string(record.token) + " at offset " + std::to_string(record.offset) + " of " +
         text_of(partition.partition);
}

void Violations::add(std::string_view id, const std::string& what, std::initializer_list<OperationPointer> proof) {
  Class& found = classes_[std::stoi(std::string(id.substr(1)))];
  if (found.kept.size() == kViolationsPerClassMax) {
    ++found.not_kept;
    return;
  }
  Violation& violation = found.kept.emplace_back(Violation{std::string(id), what, {}});
  for (const OperationPointer& operation : proof) {
    std::string line = to_json(operation);
    if (line.size() > kProofBytesMax) line = line.substr(0, kProofBytesMax) + "…";
    violation.operations.push_back(std::move(line));
  }
}

std::vector<Violation> Violations::take() {
  std::vector<Violation> all;
  for (auto& [number, found] : classes_) {
    for (Violation& violation : found.kept) all.push_back(std::move(violation));
    if (found.not_kept > 0) {
      all.push_back(
          {"X" + std::to_string(number), "and " + std::to_string(found.not_kept) + " more of this class", {}});
    }
  }
  classes_.clear();
  return all;
}

Result<std::vector<Violation>> check(const History& history) {
  const std::vector<PartitionHistory> partitions = TRY(by_partition(history));
  Violations violations;
  for (const PartitionHistory& partition : partitions) {
    for (const auto check : {check_lost_writes, check_unseen_writes, check_inconsistent_offsets, check_duplicates,
                             check_refused_writes, check_dirty_reads, check_phantom_reads, check_positions,
                             check_skipped_records, check_order_of_sends, check_ends, check_replicas}) {
      check(partition, violations);
    }
  }
  for (const auto check : {check_committed_offsets, check_zombie_commits, check_objects, check_progress}) {
    check(history, violations);
  }
  return violations.take();
}

std::string to_text(const std::vector<Violation>& violations) {
  std::string text;
  for (const Violation& violation : violations) {
    text += violation.id + ": " + violation.what + "\n";
    for (const std::string& operation : violation.operations) text += "  " + operation + "\n";
  }
  return text;
}

}  // namespace trilog::history
