#include "storage/log/log_slice.h"

#include <utility>

#include "storage/log/batch_scanner.h"

namespace trilog {

namespace {

// Why the batch at the front of `rest` must not be served, or null. `rest` holds at least a header.
const char* batch_problem(const LogSlice& slice, const BatchHeader& header, Offset expected) {
  if (header.magic != kBatchMagic) return "the magic byte is not 2";
  if (header.size < kBatchHeaderBytes) return "the length is too small";
  if (header.base_offset != expected) return "the base offset is not the expected one";
  if (header.leader_epoch < slice.epoch_min || header.leader_epoch > slice.epoch_max) {
    return "the leader epoch is not the one of this offset";
  }
  return nullptr;
}

Result<BatchRun> check_run(const LogSlice& slice, Bytes bytes) {
  BatchRun run;
  run.next_offset = slice.first;
  size_t good = 0;
  const char* problem = nullptr;
  while (good < bytes.size()) {
    ByteView rest = bytes.view().subspan(good);
    problem = "the batch is cut off";
    if (rest.size() < kBatchHeaderBytes) break;
    BatchHeader header = BatchHeader::decode(rest);
    problem = batch_problem(slice, header, run.next_offset);
    if (problem != nullptr) break;
    problem = "the batch is cut off";
    if (header.size > rest.size()) break;
    auto batch = RecordBatch::parse(rest);
    problem = !batch.ok() ? "the header is not sound" : batch->crc_matches() ? nullptr : "the checksum does not match";
    // A batch that reaches past the limit is not served either: some of its records are not committed.
    if (problem != nullptr || batch->next_offset() > slice.limit) break;
    run.batches.push_back(*batch);
    run.next_offset = batch->next_offset();
    good += batch->size();
  }
  if (bytes.empty()) problem = "the file ends too early";
  if (run.batches.empty() && problem != nullptr) {
    return Status(Errc::kCorruption, slice.file + " at byte " + std::to_string(slice.slice.position) + ": " + problem);
  }
  SharedBytes shared{std::move(bytes)};
  run.bytes = shared.slice(0, good);
  return run;
}

BatchRun empty_run(const LogSlice& slice) {
  BatchRun run;
  run.next_offset = slice.first;
  return run;
}

}  // namespace

Result<BatchRun> read_slice(const LogSlice& slice) {
  if (slice.empty()) return empty_run(slice);
  Bytes bytes(slice.slice.length);
  bytes.resize_uninitialized(TRY(slice.slice.file->read_at(slice.slice.position, bytes.mutable_view())));
  return check_run(slice, std::move(bytes));
}

Result<std::optional<BatchRun>> read_slice_cached(const LogSlice& slice) {
  if (slice.empty()) return std::optional(empty_run(slice));
  Bytes bytes(slice.slice.length);
  std::optional<size_t> size = TRY(slice.slice.file->read_cached(slice.slice.position, bytes.mutable_view()));
  if (!size) return std::optional<BatchRun>();
  bytes.resize_uninitialized(*size);
  return std::optional(TRY(check_run(slice, std::move(bytes))));
}

}  // namespace trilog
