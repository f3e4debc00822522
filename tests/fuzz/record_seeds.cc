// Writes the seeds of record_batch_fuzz and compression_fuzz into a corpus folder: record_seeds DIRECTORY
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/batches.h"

namespace trilog {
namespace {

void write_seed(const std::string& path, std::string_view choice, ByteView bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << choice << as_text(bytes);
}

std::string choice_bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (int byte : bytes) text += static_cast<char>(byte);
  return text;
}

void write_all(const std::string& corpus) {
  const std::vector<testing::TestRecord> records = {
      {"key", "value"},
      {std::nullopt, "no key"},
      {"tombstone", std::nullopt},
      {"headers", "h", {{"a", "1"}, {"b", std::nullopt}}},
      {"long", std::string(200, 'x'), {}, testing::kTestTimestampMs + 5},
  };
  const std::string batches = corpus + "/record_batch_fuzz/";
  const std::string blocks = corpus + "/compression_fuzz/";
  std::filesystem::create_directories(batches);
  std::filesystem::create_directories(blocks);
  for (int code = 0; code <= 4; ++code) {
    const auto codec = static_cast<Codec>(code);
    const std::string name(codec_name(codec));
    Bytes batch = testing::make_batch(records, {.codec = codec});
    ByteView block = batch.view().subspan(kBatchHeaderBytes);
    write_seed(batches + "whole_" + name, choice_bytes({0xff}), batch);
    write_seed(batches + "records_" + name, choice_bytes({code, 4}), block);
    write_seed(blocks + "records_" + name, choice_bytes({code}), block);
    Bytes repetitive = compress(codec, as_bytes(std::string(3000, 'z'))).value();
    write_seed(blocks + "repetitive_" + name, choice_bytes({code}), repetitive);
    write_seed(blocks + "nothing_" + name, choice_bytes({code}), compress(codec, {}).value());
  }
  Bytes two = testing::make_batch({{"a", "1"}}, {.producer = {ProducerId(7), ProducerEpoch(0), 0}});
  two.append(testing::make_batch({{"b", "2"}}, {.extra_attributes = 0x30}));
  write_seed(batches + "two_batches", choice_bytes({0xff}), two);

  // snappy-java's framing: a header of 16 bytes, then sized blocks.
  Bytes xerial = Bytes::copy_of(std::string_view("\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16));
  for (std::string_view piece : {"first block, first block", "second block, second block"}) {
    Bytes block = compress(Codec::kSnappy, as_bytes(piece)).value();
    ByteWriter(xerial).write(static_cast<uint32_t>(block.size()));
    xerial.append(block);
  }
  write_seed(blocks + "xerial", choice_bytes({static_cast<int>(Codec::kSnappy)}), xerial);
}

}  // namespace
}  // namespace trilog

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: record_seeds DIRECTORY\n");
    return 2;
  }
  trilog::write_all(argv[1]);
  return 0;
}
