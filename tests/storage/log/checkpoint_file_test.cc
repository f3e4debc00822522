#include "storage/log/checkpoint_file.h"

#include <gtest/gtest.h>

#include "tests/storage/log/state_files/support.h"

namespace trilog {
namespace {

using testing::expect_every_bad_case_is_found;

constexpr uint32_t kVersion = 1;

TopicPartition partition(uint64_t topic, int32_t index) { return {TopicId(1, topic), PartitionId(index)}; }

Marks some_marks(int32_t count, int64_t base = 100) {
  Marks marks;
  for (int32_t i = 0; i < count; ++i) {
    marks[partition(7, i)] = {Offset(base + i), Offset(base / 2 + i), Offset(i), Offset(i - 1),
                              61u * static_cast<uint64_t>(i)};
  }
  return marks;
}

class CheckpointFile : public testing::InFolder {};
class MarksFileTest : public testing::InFolder {
 protected:
  MarksFile open() { return MarksFile::open(files(), path("marks")).value(); }
};
class CleanMarkerTest : public testing::InFolder {
 protected:
  std::optional<CleanMarker> take() { return take_clean_marker(files(), path("clean")).value(); }
};

TEST_F(CheckpointFile, GivesBackItsPayload) {
  ASSERT_TRUE(write_checkpoint(files(), path("x"), kVersion, as_bytes("payload")).ok());
  EXPECT_EQ(as_text(read_checkpoint(files(), path("x"), kVersion).value()), "payload");
}

TEST_F(CheckpointFile, AnEmptyPayloadIsNotAnEmptyFile) {
  ASSERT_TRUE(write_checkpoint(files(), path("x"), kVersion, {}).ok());
  EXPECT_TRUE(read_checkpoint(files(), path("x"), kVersion).value().empty());
  put("x", {});
  EXPECT_EQ(read_checkpoint(files(), path("x"), kVersion).status().code(), Errc::kCorruption);
}

TEST_F(CheckpointFile, AMissingFileIsNotFound) {
  EXPECT_EQ(read_checkpoint(files(), path("x"), kVersion).status().code(), Errc::kNotFound);
}

TEST_F(CheckpointFile, NamesTheFileThatIsDamaged) {
  put("x", as_bytes("garbage that is longer than a header"));
  Status status = read_checkpoint(files(), path("x"), kVersion).status();
  EXPECT_NE(status.message().find(path("x")), std::string::npos) << status.to_string();
}

TEST_F(CheckpointFile, HasTheDocumentedLayout) {
  Bytes framed = frame_checkpoint(3, as_bytes("abc"));
  ASSERT_EQ(framed.size(), 23u);
  EXPECT_EQ(as_text(framed.view().first(8)), "trilogCP");
  EXPECT_EQ(load_big_endian<uint32_t>(framed.data() + 8), 3u);
  EXPECT_EQ(load_big_endian<uint32_t>(framed.data() + 12), 3u);
  Bytes covered = Bytes::copy_of(framed.view().subspan(8, 8));
  covered.append(as_bytes("abc"));
  EXPECT_EQ(load_big_endian<uint32_t>(framed.data() + 16), crc32c(covered));
  EXPECT_EQ(as_text(framed.view().subspan(20)), "abc");
}

TEST_F(CheckpointFile, EveryBadCaseIsFound) {
  expect_every_bad_case_is_found(frame_checkpoint(kVersion, as_bytes("some payload")),
                                 [](ByteView bytes) { return unframe_checkpoint(bytes, kVersion).status().code(); });
}

TEST_F(CheckpointFile, AFailedReplacementLeavesTheOldFile) {
  ASSERT_TRUE(write_checkpoint(files(), path("x"), kVersion, as_bytes("old")).ok());
  files().rename_status = Status(Errc::kIo, "no");
  EXPECT_EQ(write_checkpoint(files(), path("x"), kVersion, as_bytes("new")).code(), Errc::kIo);
  EXPECT_EQ(as_text(read_checkpoint(files(), path("x"), kVersion).value()), "old");
}

TEST_F(MarksFileTest, AMissingFileHasNoMarksAndIsNotDamaged) {
  MarksFile file = open();
  EXPECT_TRUE(file.marks().empty());
  EXPECT_FALSE(file.damaged());
  EXPECT_FALSE(files().exists(path("marks"))) << "opening creates nothing";
}

TEST_F(MarksFileTest, GivesBackTheLatestOfManyWrites) {
  MarksFile file = open();
  for (int64_t round = 1; round <= 5; ++round) {
    ASSERT_TRUE(file.write_now(some_marks(3, 100 * round)).ok());
    EXPECT_EQ(open().marks(), some_marks(3, 100 * round));
    EXPECT_EQ(file.marks(), some_marks(3, 100 * round));
  }
  MarksFile reopened = open();
  ASSERT_TRUE(reopened.write_now(some_marks(2)).ok());
  EXPECT_EQ(open().marks(), some_marks(2)) << "the sequence goes on after opening";
}

TEST_F(MarksFileTest, AnEmptySetIsASet) {
  MarksFile file = open();
  ASSERT_TRUE(file.write_now(some_marks(3)).ok());
  ASSERT_TRUE(file.write_now({}).ok());
  MarksFile reopened = open();
  EXPECT_TRUE(reopened.marks().empty());
  EXPECT_FALSE(reopened.damaged());
}

TEST_F(MarksFileTest, GrowsWithTheNumberOfLogs) {
  MarksFile file = open();
  for (int32_t count : {1, 40, 200, 3000, 100}) {
    ASSERT_TRUE(file.write_now(some_marks(count)).ok());
    EXPECT_EQ(open().marks(), some_marks(count));
  }
}

TEST_F(MarksFileTest, TellsWhenAWriteIsDurable) {
  MarksFile file = open();
  for (int64_t round = 1; round <= 3; ++round) {
    int called = 0;
    bool writing_inside = true;
    file.write(some_marks(2, round), [&](const Status& status) {
      EXPECT_TRUE(status.ok()) << status.to_string();
      writing_inside = file.writing();
      ++called;
    });
    EXPECT_EQ(called, 1);
    EXPECT_FALSE(writing_inside) << "the callback may write again";
    EXPECT_EQ(open().marks(), some_marks(2, round));
  }
}

TEST_F(MarksFileTest, AFailedFirstWriteIsReportedAndMayBeRepeated) {
  MarksFile file = open();
  files().rename_status = Status(Errc::kDiskFull, "no room");
  Errc answer = Errc::kOk;
  file.write(some_marks(2), [&](const Status& status) { answer = status.code(); });
  EXPECT_EQ(answer, Errc::kDiskFull);
  EXPECT_FALSE(file.writing());
  EXPECT_EQ(file.write_now(some_marks(2)).code(), Errc::kDiskFull);
  files().rename_status = ok_status();
  EXPECT_TRUE(file.write_now(some_marks(2)).ok());
  EXPECT_EQ(open().marks(), some_marks(2));
}

// Two rounds, so that each slot holds one: whatever happens to one slot, the other's set is what opening gives.
TEST_F(MarksFileTest, AnyFlippedByteOrTornSlotLeavesTheOtherSlot) {
  const Marks older = some_marks(2, 100);
  const Marks newer = some_marks(2, 200);
  MarksFile file = open();
  ASSERT_TRUE(file.write_now(older).ok());
  ASSERT_TRUE(file.write_now(newer).ok());
  Bytes good = content("marks");
  const size_t slot_used = 20 + 8 + 4 + 2 * 60;
  size_t fell_back = 0;
  for (size_t at = 0; at < good.size(); at += at % (good.size() / 2) < slot_used ? 1 : 64) {
    Bytes flipped = Bytes::copy_of(good.view());
    flipped.data()[at] ^= std::byte{0x10};
    put("marks", flipped);
    MarksFile reopened = open();
    EXPECT_FALSE(reopened.damaged());
    bool is_older = reopened.marks() == older;
    EXPECT_TRUE(is_older || reopened.marks() == newer) << at;
    fell_back += is_older;
  }
  EXPECT_EQ(fell_back, slot_used);
}

TEST_F(MarksFileTest, AFileCutAnywhereGivesOneOfItsSetsOrSaysDamaged) {
  MarksFile file = open();
  ASSERT_TRUE(file.write_now(some_marks(2, 100)).ok());
  ASSERT_TRUE(file.write_now(some_marks(2, 200)).ok());
  Bytes good = content("marks");
  for (size_t size = 0; size < good.size(); size += size < 200 ? 1 : 61) {
    put("marks", good.view().first(size));
    MarksFile reopened = open();
    if (reopened.damaged()) {
      EXPECT_TRUE(reopened.marks().empty());
    } else {
      EXPECT_TRUE(reopened.marks() == some_marks(2, 100) || reopened.marks() == some_marks(2, 200)) << size;
    }
    ASSERT_TRUE(reopened.write_now(some_marks(3, 300)).ok()) << "a bad file is replaced by the next write";
    EXPECT_EQ(open().marks(), some_marks(3, 300));
  }
}

TEST_F(MarksFileTest, GarbageIsDamagedAndTheNextWriteReplacesIt) {
  for (const std::string& bad : {std::string(), std::string("x"), std::string(8192, '\0'), std::string(9000, 'g')}) {
    put("marks", as_bytes(bad));
    MarksFile file = open();
    EXPECT_TRUE(file.damaged());
    EXPECT_TRUE(file.marks().empty());
    ASSERT_TRUE(file.write_now(some_marks(1)).ok());
    EXPECT_FALSE(open().damaged());
    EXPECT_EQ(open().marks(), some_marks(1));
  }
}

TEST_F(MarksFileTest, ANewerVersionIsRefusedNotTakenForDamage) {
  MarksFile file = open();
  ASSERT_TRUE(file.write_now(some_marks(1)).ok());
  ASSERT_TRUE(file.write_now(some_marks(1)).ok());
  Bytes newer = content("marks");
  Bytes slot = frame_checkpoint(2, as_bytes("unknown"));
  std::memcpy(newer.data(), slot.data(), slot.size());
  put("marks", newer);
  EXPECT_EQ(MarksFile::open(files(), path("marks")).status().code(), Errc::kUnsupported);
}

TEST_F(MarksFileTest, MarksThatDoNotAddUpAreDamage) {
  Bytes payload;
  ByteWriter out(payload);
  out.write<uint64_t>(1);
  out.write<uint32_t>(0xffffffff);
  put("marks", frame_checkpoint(1, payload));
  EXPECT_TRUE(open().damaged());
}

TEST_F(CleanMarkerTest, IsReadOnceAndGoneForGood) {
  ASSERT_TRUE(write_clean_marker(files(), path("clean"), {42, some_marks(3)}).ok());
  int syncs = files().directory_syncs;
  auto marker = take();
  ASSERT_TRUE(marker.has_value());
  EXPECT_EQ(marker->broker_epoch, 42);
  EXPECT_EQ(marker->marks, some_marks(3));
  EXPECT_FALSE(files().exists(path("clean")));
  EXPECT_GT(files().directory_syncs, syncs);
  EXPECT_FALSE(take().has_value());
}

TEST_F(CleanMarkerTest, AMissingMarkerIsNothingAndStillSyncsTheFolder) {
  EXPECT_FALSE(take().has_value());
  EXPECT_EQ(files().directory_syncs, 1) << "an earlier removal may not have reached the disk";
}

TEST_F(CleanMarkerTest, AMissingFolderIsNothing) {
  EXPECT_FALSE(take_clean_marker(files(), path("no/clean")).value().has_value());
}

TEST_F(CleanMarkerTest, EveryBadCaseIsNothingAndRemoved) {
  ASSERT_TRUE(write_clean_marker(files(), path("clean"), {42, some_marks(2)}).ok());
  Bytes good = content("clean");
  auto bad_is_nothing = [&](ByteView bytes) {
    put("clean", bytes);
    bool nothing = !take().has_value() && !files().exists(path("clean"));
    return nothing ? Errc::kCorruption : Errc::kOk;
  };
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(bad_is_nothing(good.view().first(size)), Errc::kCorruption) << size;
  }
  for (size_t at = 0; at < good.size(); ++at) {
    Bytes flipped = Bytes::copy_of(good.view());
    flipped.data()[at] ^= std::byte{1};
    EXPECT_EQ(bad_is_nothing(flipped), Errc::kCorruption) << at;
  }
  EXPECT_EQ(bad_is_nothing(as_bytes("a foreign file, longer than the header")), Errc::kCorruption);
  EXPECT_EQ(bad_is_nothing(frame_checkpoint(2, unframe_checkpoint(good, 1).value())), Errc::kCorruption);
  EXPECT_EQ(bad_is_nothing(good), Errc::kOk);
}

}  // namespace
}  // namespace trilog
