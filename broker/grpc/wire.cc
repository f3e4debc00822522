#include "broker/grpc/wire.h"

#include <algorithm>
#include <utility>

namespace trilog::grpc_edge {
namespace {

constexpr size_t kCopiedBelow = 1'024;
constexpr uint32_t kFieldNumberMax = (1u << 29) - 1;

std::optional<WireTag> tag_of(uint64_t key) {
  uint64_t number = key >> 3;
  auto type = static_cast<WireType>(key & 7);
  if (number == 0 || number > kFieldNumberMax || type > WireType::kFixed32) return std::nullopt;
  return WireTag{static_cast<uint32_t>(number), type};
}

ByteView view_of(const grpc::Slice& slice) { return {reinterpret_cast<const std::byte*>(slice.begin()), slice.size()}; }

// Length of the well-formed sequence at the front of `text`, 0 if there is none (Unicode, table 3-7).
size_t utf8_sequence(ByteView text) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t first = at(0);
  if (first < 0x80) return 1;
  size_t length = first >= 0xc2 && first < 0xe0   ? 2
                  : first >= 0xe0 && first < 0xf0 ? 3
                  : first >= 0xf0 && first < 0xf5 ? 4
                                                  : 0;
  if (length == 0 || text.size() < length) return 0;
  uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

std::optional<WireTag> WireReader::next() {
  if (reader_.at_end()) return std::nullopt;
  std::optional<WireTag> tag = tag_of(reader_.read_varint());
  if (!tag || !reader_.ok()) {
    reader_.fail();
    return std::nullopt;
  }
  return tag;
}

std::shared_ptr<ReceivedMessage> ReceivedMessage::of(const grpc::ByteBuffer& buffer) {
  auto message = std::make_shared<ReceivedMessage>();
  if (!buffer.Valid()) return message;  // an empty message
  if (!buffer.Dump(&message->slices_).ok()) return nullptr;
  for (const grpc::Slice& slice : message->slices_) message->size_ += slice.size();
  message->remaining_ = message->size_;
  return message;
}

void ReceivedMessage::fail() {
  ok_ = false;
  remaining_ = 0;
}

std::optional<std::byte> ReceivedMessage::next_byte() {
  if (remaining_ == 0) return std::nullopt;
  while (in_slice_ == slices_[slice_].size()) {
    ++slice_;
    in_slice_ = 0;
  }
  --remaining_;
  return view_of(slices_[slice_])[in_slice_++];
}

std::optional<WireTag> ReceivedMessage::next() {
  if (remaining_ == 0) return std::nullopt;
  std::optional<WireTag> tag = tag_of(varint());
  if (!tag || !ok_) {
    fail();
    return std::nullopt;
  }
  return tag;
}

uint64_t ReceivedMessage::varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    std::optional<std::byte> byte = next_byte();
    if (!byte || (shift == 63 && static_cast<uint8_t>(*byte) > 1)) break;
    value |= (static_cast<uint64_t>(*byte) & 0x7f) << shift;
    if ((static_cast<uint8_t>(*byte) & 0x80) == 0) return value;
  }
  fail();
  return 0;
}

bool ReceivedMessage::copy_out(MutableByteView out) {
  while (!out.empty()) {
    ByteView rest = view_of(slices_[slice_]).subspan(in_slice_);
    size_t size = std::min(rest.size(), out.size());
    if (size != 0) std::memcpy(out.data(), rest.data(), size);
    out = out.subspan(size);
    in_slice_ += size;
    remaining_ -= size;
    if (!out.empty()) {
      ++slice_;
      in_slice_ = 0;
    }
  }
  return true;
}

ByteView ReceivedMessage::bytes() {
  uint64_t size = varint();
  if (!ok_ || size > remaining_) {
    fail();
    return {};
  }
  if (size == 0) return ByteView(reinterpret_cast<const std::byte*>(""), 0);
  while (in_slice_ == slices_[slice_].size()) {
    ++slice_;
    in_slice_ = 0;
  }
  ByteView rest = view_of(slices_[slice_]).subspan(in_slice_);
  if (rest.size() >= size) {
    in_slice_ += size;
    remaining_ -= size;
    return rest.first(size);
  }
  Bytes& joined = joined_.emplace_back(static_cast<size_t>(size));
  copy_out(joined.mutable_view());
  return joined.view();
}

Bytes ReceivedMessage::copy_bytes() {
  uint64_t size = varint();
  if (!ok_ || size > remaining_) {
    fail();
    return {};
  }
  Bytes copy(static_cast<size_t>(size));
  copy_out(copy.mutable_view());
  return copy;
}

bool is_utf8(ByteView text) {
  while (!text.empty()) {
    size_t length = utf8_sequence(text);
    if (length == 0) return false;
    text = text.subspan(length);
  }
  return true;
}

std::string to_utf8(ByteView text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    size_t length = utf8_sequence(text);
    if (length == 0) {
      clean += "\xef\xbf\xbd";
      length = 1;
    } else {
      clean += as_text(text.first(length));
    }
    text = text.subspan(length);
  }
  return clean;
}

grpc::Slice slice_of(Bytes bytes) {
  if (bytes.size() < kCopiedBelow) return {bytes.data(), bytes.size()};
  auto* owner = new Bytes(std::move(bytes));
  return {owner->data(), owner->size(), [](void* p) { delete static_cast<Bytes*>(p); }, owner};
}

grpc::Slice slice_of(SharedBytes bytes) {
  ByteView view = bytes.view();
  if (view.size() < kCopiedBelow) return {view.data(), view.size()};
  auto* owner = new SharedBytes(std::move(bytes));
  return {const_cast<std::byte*>(view.data()), view.size(), [](void* p) { delete static_cast<SharedBytes*>(p); },
          owner};
}

grpc::ByteBuffer buffer_of(Bytes bytes) {
  grpc::Slice slice = slice_of(std::move(bytes));
  return {&slice, 1};
}

}  // namespace trilog::grpc_edge
