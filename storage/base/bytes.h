// Byte buffers: ByteView (borrowed), Bytes (owned), SharedBytes (a counted slice of one immutable buffer).
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

using ByteView = std::span<const std::byte>;
using MutableByteView = std::span<std::byte>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline bool bytes_equal(ByteView a, ByteView b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// An owned, growable, movable run of bytes. Unlike std::vector it does not zero what resize_uninitialized() adds,
// because a megabyte that is about to be overwritten should be touched once. Copying is explicit: Bytes::copy_of().
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(size_t size) { resize_uninitialized(size); }
  static Bytes copy_of(ByteView bytes) {
    Bytes result(bytes.size());
    if (!bytes.empty()) std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  }
  static Bytes copy_of(std::string_view text) { return copy_of(as_bytes(text)); }

  Bytes(Bytes&& other) noexcept
      : data_(std::move(other.data_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Bytes& operator=(Bytes&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  ByteView view() const { return {data_.get(), size_}; }
  MutableByteView mutable_view() { return {data_.get(), size_}; }
  operator ByteView() const { return view(); }  // NOLINT: a Bytes is readable wherever a view is wanted

  void reserve(size_t capacity) {
    if (capacity <= capacity_) return;
    auto* grown = static_cast<std::byte*>(::operator new(capacity));
    if (size_ != 0) std::memcpy(grown, data_.get(), size_);
    data_.reset(grown);
    capacity_ = capacity;
  }
  // New bytes hold garbage.
  void resize_uninitialized(size_t size) {
    if (size > capacity_) reserve(size > 2 * capacity_ ? size : 2 * capacity_);
    size_ = size;
  }
  // Returns where the bytes went. `bytes` must not lie inside this buffer.
  std::byte* append(ByteView bytes) {
    size_t old_size = size_;
    resize_uninitialized(size_ + bytes.size());
    if (!bytes.empty()) std::memcpy(data_.get() + old_size, bytes.data(), bytes.size());
    return data_.get() + old_size;
  }
  void clear() { size_ = 0; }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

// A view that keeps its buffer alive. Copies share; the bytes never change. May cross threads.
class SharedBytes {
 public:
  SharedBytes() = default;
  explicit SharedBytes(Bytes bytes) {
    auto owner = std::make_shared<const Bytes>(std::move(bytes));
    view_ = owner->view();
    owner_ = std::move(owner);
  }
  // Any owner that keeps `view` valid, e.g. a decoded request.
  SharedBytes(std::shared_ptr<const void> owner, ByteView view) : owner_(std::move(owner)), view_(view) {}

  ByteView view() const { return view_; }
  operator ByteView() const { return view_; }  // NOLINT: as Bytes
  size_t size() const { return view_.size(); }
  bool empty() const { return view_.empty(); }
  SharedBytes slice(size_t offset, size_t length) const {
    CHECK_LE(offset, view_.size());
    CHECK_LE(length, view_.size() - offset);
    return {owner_, view_.subspan(offset, length)};
  }

 private:
  std::shared_ptr<const void> owner_;
  ByteView view_;
};

}  // namespace trilog
