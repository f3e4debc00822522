#include "storage/base/bytes.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

namespace trilog {
namespace {

TEST(Bytes, CopyOfHoldsItsOwnBytes) {
  std::string text = "abc";
  Bytes bytes = Bytes::copy_of(text);
  text[0] = 'x';
  EXPECT_EQ(as_text(bytes), "abc");
}

TEST(Bytes, IsEmptyAfterBeingMovedFrom) {
  Bytes source = Bytes::copy_of("abc");
  Bytes target = std::move(source);
  EXPECT_EQ(as_text(target), "abc");
  EXPECT_TRUE(source.empty());     // NOLINT: the state after a move is promised
  source.append(as_bytes("new"));  // NOLINT: and it is usable again
  EXPECT_EQ(as_text(source), "new");
  EXPECT_EQ(as_text(target), "abc");
}

TEST(Bytes, AppendKeepsWhatWasThereWhileGrowing) {
  Bytes bytes;
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    std::string piece(static_cast<size_t>(i % 7), static_cast<char>('a' + i % 26));
    bytes.append(as_bytes(piece));
    expected += piece;
  }
  EXPECT_EQ(as_text(bytes), expected);
}

TEST(Bytes, AppendAnswersWhereTheBytesWent) {
  Bytes bytes = Bytes::copy_of("ab");
  std::byte* at = bytes.append(as_bytes("cd"));
  EXPECT_EQ(at, bytes.data() + 2);
}

TEST(Bytes, ShrinkingKeepsThePrefixAndClearKeepsTheRoom) {
  Bytes bytes = Bytes::copy_of("abcdef");
  const std::byte* buffer = bytes.data();
  bytes.resize_uninitialized(3);
  EXPECT_EQ(as_text(bytes), "abc");
  bytes.clear();
  EXPECT_TRUE(bytes.empty());
  bytes.append(as_bytes("xyz"));
  EXPECT_EQ(bytes.data(), buffer);
}

TEST(Bytes, ReserveNeverShrinksOrChangesTheContent) {
  Bytes bytes = Bytes::copy_of("abc");
  bytes.reserve(1000);
  const std::byte* buffer = bytes.data();
  bytes.reserve(1);
  bytes.resize_uninitialized(1000);
  EXPECT_EQ(bytes.data(), buffer);
  EXPECT_EQ(as_text(bytes).substr(0, 3), "abc");
}

TEST(Bytes, EqualityLooksAtLengthAndContent) {
  EXPECT_TRUE(bytes_equal({}, {}));
  EXPECT_TRUE(bytes_equal(as_bytes("ab"), Bytes::copy_of("ab")));
  EXPECT_FALSE(bytes_equal(as_bytes("ab"), as_bytes("abc")));
  EXPECT_FALSE(bytes_equal(as_bytes("ab"), as_bytes("ac")));
}

TEST(SharedBytes, SlicesKeepTheBufferAlive) {
  SharedBytes slice;
  {
    SharedBytes whole(Bytes::copy_of("hello world"));
    slice = whole.slice(6, 5);
  }
  EXPECT_EQ(as_text(slice), "world");
  EXPECT_EQ(as_text(slice.slice(1, 3)), "orl");
  EXPECT_TRUE(slice.slice(5, 0).empty());
}

TEST(SharedBytes, KeepsAnyOwnerAlive) {
  auto owner = std::make_shared<std::string>("text");
  std::weak_ptr<std::string> watch = owner;
  SharedBytes bytes(owner, as_bytes(*owner));
  owner.reset();
  EXPECT_EQ(as_text(bytes), "text");
  bytes = SharedBytes();
  EXPECT_TRUE(watch.expired());
}

TEST(SharedBytesDeathTest, ASliceOutsideTheBufferStopsTheProcess) {
  SharedBytes whole(Bytes::copy_of("abc"));
  EXPECT_DEATH(static_cast<void>(whole.slice(4, 0)), "check failed");
  EXPECT_DEATH(static_cast<void>(whole.slice(1, 3)), "check failed");
}

}  // namespace
}  // namespace trilog
