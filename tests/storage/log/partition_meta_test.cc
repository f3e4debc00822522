#include "storage/log/partition_meta.h"

#include <gtest/gtest.h>

#include "tests/storage/log/state_files/support.h"

namespace trilog {
namespace {

PartitionMeta invoices() {
  return {.topic_id = TopicId(0x0123456789abcdef, 0xfedcba9876543210),
          .topic = "invoices",
          .partition = PartitionId(3),
          .partition_count = 6,
          .replicas = {BrokerId(1), BrokerId(2), BrokerId(30)},
          .settings = {{"durability", "synced"}, {"retention.ms", "604800000"}}};
}

Errc decode(ByteView bytes) { return decode_partition_meta(bytes).status().code(); }

Errc decode_text(std::string_view text) { return decode(frame_checkpoint(1, as_bytes(text))); }

TEST(PartitionMeta, GivesBackWhatWasWritten) {
  EXPECT_EQ(decode_partition_meta(encode_partition_meta(invoices())).value(), invoices());
}

TEST(PartitionMeta, IsTextThatAPersonCanRead) {
  Bytes encoded = encode_partition_meta(invoices());
  EXPECT_EQ(as_text(unframe_checkpoint(encoded, 1).value()),
            "topic_id=0123456789abcdeffedcba9876543210\ntopic=invoices\npartition=3\npartition_count=6\n"
            "replicas=1,2,30\nsetting.durability=synced\nsetting.retention.ms=604800000\n");
}

TEST(PartitionMeta, KeepsEmptyAndAwkwardText) {
  PartitionMeta meta = invoices();
  meta.topic = "a=b\\n\n\\";
  meta.replicas.clear();
  meta.settings = {{"", ""}, {"x=y", "line\nline"}, {"\\e", "\\=\n"}, {"zero", std::string("\0\xff", 2)}};
  EXPECT_EQ(decode_partition_meta(encode_partition_meta(meta)).value(), meta);
}

TEST(PartitionMeta, ADefaultOneSurvivesToo) {
  EXPECT_EQ(decode_partition_meta(encode_partition_meta({})).value(), PartitionMeta{});
}

TEST(PartitionMeta, EveryBadCaseIsFound) {
  testing::expect_every_bad_case_is_found(encode_partition_meta(invoices()), decode);
}

TEST(PartitionMeta, NoFlippedBitCrashesTheDecoder) {
  Bytes encoded = encode_partition_meta(invoices());
  Bytes text = Bytes::copy_of(unframe_checkpoint(encoded, 1).value());
  for (size_t at = 0; at < text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      text.data()[at] ^= static_cast<std::byte>(1 << bit);
      Errc answer = decode(frame_checkpoint(1, text));
      EXPECT_TRUE(answer == Errc::kOk || answer == Errc::kCorruption);
      text.data()[at] ^= static_cast<std::byte>(1 << bit);
    }
  }
}

TEST(PartitionMeta, RefusesLinesItDoesNotUnderstand) {
  const std::string head = "topic_id=0123456789abcdeffedcba9876543210\ntopic=t\npartition=0\npartition_count=1\n";
  EXPECT_EQ(decode_text(head + "replicas=1\n"), Errc::kOk);
  EXPECT_EQ(decode_text(head + "replicas=1\nadded.later=x\n"), Errc::kOk) << "an unknown key is not an error";
  EXPECT_EQ(decode_text(head), Errc::kCorruption) << "replicas are missing";
  EXPECT_EQ(decode_text(""), Errc::kCorruption);
  for (const char* bad : {"replicas=1", "replicas=1,\n", "replicas=,1\n", "replicas=x\n", "replicas=-1\n",
                          "replicas=1 2\n", "replicas=99999999999\n", "replicas\n", "replicas=1\nreplicas=1\n",
                          "replicas=1\npartition=0\n", "replicas=1\nx=\\\n", "replicas=1\nx=\\q\n"}) {
    EXPECT_EQ(decode_text(head + bad), Errc::kCorruption) << bad;
  }
  EXPECT_EQ(decode_text("topic_id=xyz\ntopic=t\npartition=0\npartition_count=1\nreplicas=\n"), Errc::kCorruption);
  EXPECT_EQ(decode_text("topic_id=0123456789abcdeffedcba9876543210\ntopic=t\npartition=-1\npartition_count=1\n"
                        "replicas=\n"),
            Errc::kCorruption);
}

}  // namespace
}  // namespace trilog
