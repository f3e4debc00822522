// Protobuf's wire format by hand, for the messages that carry records: read as views into the slices that gRPC received
// and written once, so that a megabyte of records is not copied into and out of message objects. Format source:
// "Encoding" in the Protocol Buffers documentation. All other messages use the generated code.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/codec.h"

namespace trilog::grpc_edge {

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kGroupStart = 3, kGroupEnd = 4, kFixed32 = 5 };

struct WireTag {
  uint32_t number = 0;
  WireType type = WireType::kVarint;
};

// Reads one message from a contiguous run. The first malformed byte makes it fail for good (ByteReader's manner).
class WireReader {
 public:
  explicit WireReader(ByteView message) : reader_(message) {}

  // The next field, nothing at the end or after a failure.
  std::optional<WireTag> next();
  uint64_t varint() { return reader_.read_varint(); }
  ByteView bytes() { return reader_.read_sized_bytes(); }
  bool ok() const { return reader_.ok(); }
  void fail() { reader_.fail(); }

 private:
  ByteReader reader_;
};

// A received message as the slices it came in. Keeps them, and what had to be joined, alive: views it hands out are
// good as long as this is.
class ReceivedMessage {
 public:
  // Empty if the buffer cannot be read (gRPC failed to decompress it).
  static std::shared_ptr<ReceivedMessage> of(const grpc::ByteBuffer& buffer);

  size_t size() const { return size_; }

  // The fields of the message, in order. As WireReader, over several slices.
  std::optional<WireTag> next();
  uint64_t varint();
  // A view into the slice where the bytes lie in one, else a joined copy.
  ByteView bytes();
  // One copy into memory of the caller's own.
  Bytes copy_bytes();
  bool ok() const { return ok_; }

 private:
  std::optional<std::byte> next_byte();
  bool copy_out(MutableByteView out);
  void fail();

  std::vector<grpc::Slice> slices_;
  std::list<Bytes> joined_;
  size_t size_ = 0;
  size_t slice_ = 0;  // where the cursor is
  size_t in_slice_ = 0;
  size_t remaining_ = 0;
  bool ok_ = true;
};

// Writes fields; the caller knows their numbers. Fields with the default value of proto3 are left out by the *_field
// functions.
class WireWriter {
 public:
  explicit WireWriter(Bytes& out) : writer_(out) {}

  void tag(uint32_t number, WireType type) { writer_.write_varint(number << 3 | static_cast<uint32_t>(type)); }
  void int_field(uint32_t number, int64_t value) {
    if (value != 0) present_int_field(number, value);
  }
  void present_int_field(uint32_t number, int64_t value) {
    tag(number, WireType::kVarint);
    writer_.write_varint(static_cast<uint64_t>(value));
  }
  void bytes_field(uint32_t number, ByteView value) {
    if (!value.empty()) present_bytes_field(number, value);
  }
  void present_bytes_field(uint32_t number, ByteView value) {
    tag(number, WireType::kBytes);
    writer_.write_sized_bytes(value);
  }
  // Tag and length of bytes that the caller appends.
  void bytes_header(uint32_t number, size_t size) {
    tag(number, WireType::kBytes);
    writer_.write_varint(size);
  }

 private:
  ByteWriter writer_;
};

inline size_t int_field_size(uint32_t number, int64_t value) {
  return varint_size(number << 3) + varint_size(static_cast<uint64_t>(value));
}
inline size_t bytes_field_size(uint32_t number, size_t size) {
  return varint_size(number << 3) + varint_size(size) + size;
}

bool is_utf8(ByteView text);
// `text` with U+FFFD for every byte that is not part of well-formed UTF-8.
std::string to_utf8(ByteView text);

// A slice that owns the bytes: nothing is copied, except when they are so few that copying is cheaper.
grpc::Slice slice_of(Bytes bytes);
grpc::Slice slice_of(SharedBytes bytes);
grpc::ByteBuffer buffer_of(Bytes bytes);

}  // namespace trilog::grpc_edge
