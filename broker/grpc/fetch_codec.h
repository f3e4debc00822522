// Fetched batches to FetchedPartition on the wire: as single records, or as raw batches that leave from the memory they
// were read into. Used by Fetch and by Consume.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "broker/api/requests.h"
#include "storage/base/bytes.h"
#include "trilog/v1/broker.pb.h"

namespace trilog::grpc_edge {

// What one decompressed batch may take; a larger one is a bomb (fault F25) and DATA_DAMAGED for readers of records.
inline constexpr size_t kDecompressedBatchBytesMax = 64u << 20;

// How much may still go out. `bytes` counts encoded bytes; `credit`, if given, key, value and header bytes.
struct EncodeLimit {
  int64_t bytes = 0;
  std::optional<int64_t> credit;
  bool one_at_least = true;  // the first record (batch) goes whatever its size, else an answer could not move on
};

// What became of one partition's batches. Pieces are slices of the message, in order.
struct EncodedRecords {
  std::vector<grpc::Slice> pieces;
  size_t bytes = 0;                 // of all pieces
  uint64_t credit_used = 0;         // key, value and header bytes
  size_t count = 0;                 // records, or batches
  Offset next_offset{0};            // where to go on
  std::optional<api::Error> error;  // DATA_DAMAGED: the batch at next_offset does not decode; nothing was encoded
};

// Field 8 of FetchedPartition for every record from `fetched.asked_offset` on, while the limit allows. A batch that
// does not decode ends the run before it; if it is the first, it is the error.
EncodedRecords encode_records(const api::FetchedPartition& fetched, EncodeLimit limit);

// Which codecs a client can read; none named: all.
class CodecSet {
 public:
  // False if a name is unknown.
  bool add(std::string_view name);
  bool has(Codec codec) const { return mask_ == 0 || (mask_ & (1u << static_cast<unsigned>(codec))) != 0; }

 private:
  unsigned mask_ = 0;
};
// Field 9, one per batch. A batch in a codec the client cannot read is sent uncompressed.
EncodedRecords encode_batches(const api::FetchedPartition& fetched, const CodecSet& codecs, EncodeLimit limit);

// All fields of FetchedPartition but the records; `next_offset` in place of the fetched one.
Bytes encode_partition_head(const api::FetchedPartition& fetched, Offset next_offset,
                            const std::optional<api::Error>& error, BrokerId node);

// A whole message: slices that are kept together.
class MessageBuilder {
 public:
  // Field `number` holding the head and the pieces.
  void add_submessage(uint32_t number, Bytes head, EncodedRecords records);
  void add(Bytes bytes);
  size_t size() const { return size_; }
  grpc::ByteBuffer build();

 private:
  std::vector<grpc::Slice> slices_;
  size_t size_ = 0;
};

}  // namespace trilog::grpc_edge
