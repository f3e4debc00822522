#include "broker/dump.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "broker/metadata/metadata_record.h"
#include "broker/process_output.h"
#include "storage/base/codec.h"
#include "storage/env/posix_file_system.h"
#include "storage/log/checkpoint_file.h"
#include "storage/record/record_batch.h"

namespace trilog {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBatchBytesMax = 64u << 20;
constexpr size_t kDecompressedBytesMax = 64u << 20;
constexpr uint32_t kVersionMax = 1;
constexpr size_t kTextShown = 200;

// One thing to show: a name and its fields, for people or as JSON.
class Row {
 public:
  explicit Row(std::string kind) : text_(kind) { json_.add("type", kind); }
  template <typename T>
  Row& number(std::string_view key, T value) {
    json_.add(key, static_cast<int64_t>(value));
    return say(key, std::to_string(value));
  }
  // Below 0 means that there is none.
  Row& number_or_null(std::string_view key, int64_t value) {
    if (value >= 0) return number(key, value);
    json_.add_null(key);
    return say(key, "null");
  }
  Row& text(std::string_view key, const std::string& value) {
    json_.add(key, value);
    return say(key, value);
  }
  Row& bytes(std::string_view key, const std::optional<ByteView>& value) {
    if (!value) {
      json_.add_null(key);
      return say(key, "null");
    }
    std::string_view raw = as_text(*value);
    if (cli::is_utf8(raw)) {
      json_.add(key, raw);
      return say(key, "'" + std::string(raw.substr(0, kTextShown)) + (raw.size() > kTextShown ? "…'" : "'"));
    }
    json_.add(key, cli::encode_base64(raw)).add(std::string(key) + "_encoding", "base64");
    return say(key, std::to_string(raw.size()) + " bytes");
  }
  Row& flag(std::string_view key, bool value) {
    json_.add(key, value);
    return say(key, value ? "yes" : "no");
  }
  std::string line(bool json) const { return json ? json_.text() : text_; }

 private:
  Row& say(std::string_view key, const std::string& value) {
    text_ += "  " + std::string(key) + " " + value;
    return *this;
  }
  std::string text_;
  cli::JsonObject json_;
};

class Dumper {
 public:
  Dumper(const cli::DumpOptions& options, const ProcessOutput& output)
      : options_(options), output_(output), files_(make_blocking_posix_file_system()) {}

  // Whether the name is that of a file we know how to show.
  static bool knows(const std::string& name) {
    static const std::vector<std::string> kNames = {"meta",    "marks",         "clean",         "vote",
                                                    "durable", "leader-epochs", "partition.meta"};
    std::string ending = fs::path(name).extension();
    return std::find(kNames.begin(), kNames.end(), name) != kNames.end() || ending == ".log" || ending == ".index" ||
           ending == ".timeindex" || ending == ".checksum" || ending == ".snapshot";
  }

  Status show(const std::string& path) {
    std::string name = fs::path(path).filename();
    if (!options_.json) output_.line(path);
    if (fs::path(name).extension() == ".log") return show_log(path);
    Bytes bytes = TRY(files_->read_file(path));
    if (name == "marks" || name == "vote" || name == "durable") return show_slots(name, bytes);

    ByteView framed = bytes;
    if (is_producer_snapshot(name)) {
      if (bytes.size() < kProducerPrefixBytes) return Status(Errc::kCorruption, "too short for a producer snapshot");
      ByteReader prefix(bytes);
      print(Row("replay_from").number("segment", prefix.read<int64_t>()).number("position", prefix.read<int64_t>()));
      framed = framed.subspan(kProducerPrefixBytes);
    }
    uint32_t version = framed.size() >= 12 ? load_big_endian<uint32_t>(framed.data() + 8) : 0;
    ByteView payload = TRY(unframe_checkpoint(framed, kVersionMax));
    print(Row("frame").text("file", name).number("version", version).number("payload_bytes", payload.size()));
    return show_payload(name, payload);
  }

 private:
  void print(const Row& row) { output_.line((options_.json ? "" : "  ") + row.line(options_.json)); }

  // --- logs ---

  Status show_log(const std::string& path) {
    std::unique_ptr<File> file = TRY(files_->open(path, OpenMode::kRead));
    uint64_t size = TRY(file->size());
    bool metadata = fs::path(path).parent_path().filename() == "metadata";
    uint64_t position = 0;
    Bytes buffer;
    while (position < size) {
      buffer.clear();
      buffer.resize_uninitialized(kBatchLengthPrefixBytes);
      size_t got = TRY(file->read_at(position, buffer.mutable_view()));
      Result<size_t> length = RecordBatch::peek_size(buffer.view().first(got), kBatchBytesMax);
      if (!length.ok()) return at(position, length.status());
      buffer.resize_uninitialized(*length);
      got = TRY(file->read_at(position, buffer.mutable_view()));
      Result<RecordBatch> batch = RecordBatch::parse(buffer.view().first(got));
      if (!batch.ok()) return at(position, batch.status());
      print_batch(*batch, position);
      if (!batch->crc_matches()) return at(position, Status(Errc::kCorruption, "the checksum does not match"));
      if (options_.records || metadata) TRY(print_records(*batch, metadata));
      position += batch->size();
    }
    return {};
  }

  static Status at(uint64_t position, const Status& status) {
    return status.with_context("at byte " + std::to_string(position));
  }

  void print_batch(const RecordBatch& batch, uint64_t position) {
    Row row("batch");
    row.number("position", position).number("offset", batch.base_offset().value());
    row.number("last_offset", batch.last_offset().value()).number("records", batch.record_count());
    row.number("bytes", batch.size()).number("leader_epoch", batch.leader_epoch().value());
    row.text("codec", batch.codec() ? std::string(codec_name(*batch.codec())) : "unknown");
    row.number("timestamp_ms", batch.base_timestamp()).number("max_timestamp_ms", batch.max_timestamp());
    if (batch.producer_id() != kNoProducerId) {
      row.number("producer_id", batch.producer_id().value()).number("producer_epoch", batch.producer_epoch().value());
      row.number("sequence", batch.base_sequence());
    }
    print(row.flag("crc_ok", batch.crc_matches()));
  }

  Status print_records(const RecordBatch& batch, bool metadata) {
    RecordIterator records = TRY(RecordIterator::open(batch, kDecompressedBytesMax));
    for (;;) {
      std::optional<RecordView> record = TRY(records.next());
      if (!record) return {};
      Row row("record");
      row.number("offset", batch.base_offset().value() + record->offset_delta);
      if (metadata && record->key && as_text(*record->key) == "d" && record->value) {
        Result<MetadataRecord> change = decode_metadata_record(*record->value);
        row.text("change", change.ok() ? describe_metadata_record(*change) : change.status().to_string());
      } else {
        row.number("timestamp_ms", record->timestamp_ms).bytes("key", record->key).bytes("value", record->value);
        for (const RecordHeader& header : record->headers) row.bytes("header " + std::string(header.key), header.value);
      }
      print(row);
    }
  }

  // --- small files ---

  // Two slots, each with a frame; the sound one with the higher sequence counts.
  Status show_slots(const std::string& name, ByteView bytes) {
    size_t slot_bytes = name == "marks" ? bytes.size() / 2 : 4'096;
    for (size_t slot = 0; slot < 2 && slot * slot_bytes < bytes.size(); ++slot) {
      ByteView part = bytes.subspan(slot * slot_bytes, std::min(slot_bytes, bytes.size() - slot * slot_bytes));
      uint32_t length = part.size() >= 16 ? load_big_endian<uint32_t>(part.data() + 12) : 0;
      Result<ByteView> payload =
          unframe_checkpoint(part.first(std::min<size_t>(part.size(), 20 + size_t{length})), kVersionMax);
      Row row("slot");
      row.number("slot", slot);
      if (!payload.ok()) {
        print(row.text("error", payload.status().to_string()));
        continue;
      }
      ByteReader reader(*payload);
      print(row.number("sequence", reader.read<uint64_t>()));
      if (name == "vote") {
        auto term = reader.read<int32_t>();
        print(Row("vote").number("term", term).number("voted_for", reader.read<int32_t>()));
      } else if (name == "durable") {
        print_mark(reader, Row("durable"));
      } else {
        print_marks(reader);
      }
    }
    return {};
  }

  void print_mark(ByteReader& reader, Row row) {
    row.number("durable_end", reader.read<int64_t>()).number("high_watermark", reader.read<int64_t>());
    row.number("log_start", reader.read<int64_t>()).number_or_null("segment", reader.read<int64_t>());
    print(row.number("position", reader.read<uint64_t>()));
  }

  void print_marks(ByteReader& reader) {
    auto count = reader.read<uint32_t>();
    for (uint32_t i = 0; i < count && reader.ok(); ++i) {
      auto high = reader.read<uint64_t>();
      TopicId topic(high, reader.read<uint64_t>());
      Row row("mark");
      row.text("topic_id", topic.to_string()).number("partition", reader.read<int32_t>());
      print_mark(reader, std::move(row));
    }
  }

  // "<offset>.snapshot"; a snapshot of metadata is "<end>-<term>.snapshot". Producer state stands behind 20 bytes that
  // say where a replay begins.
  static constexpr size_t kProducerPrefixBytes = 20;
  static bool is_producer_snapshot(const std::string& name) {
    return name.ends_with(".snapshot") && name.find('-') == std::string::npos;
  }

  Status show_payload(const std::string& name, ByteView payload) {
    ByteReader reader(payload);
    std::string ending = fs::path(name).extension();
    if (name == "meta") {
      Row row("meta");
      row.text("cluster_id", std::string(reader.read_text())).number("node_id", reader.read<int32_t>());
      row.text("directory_id", std::string(reader.read_text())).text("boot_id", std::string(reader.read_text()));
      print(row.number("broker_epoch", reader.read<int64_t>()));
    } else if (name == "clean") {
      print(Row("clean").number("broker_epoch", reader.read<int64_t>()));
      print_marks(reader);
    } else if (name == "leader-epochs") {
      auto count = reader.read<uint32_t>();
      for (uint32_t i = 0; i < count && reader.ok(); ++i) {
        auto epoch = reader.read<int32_t>();
        print(Row("leader_epoch").number("leader_epoch", epoch).number("start_offset", reader.read<int64_t>()));
      }
    } else if (name == "partition.meta") {
      print(Row("partition").text("meta", std::string(as_text(payload))));
    } else if (ending == ".index" || ending == ".timeindex" || ending == ".checksum") {
      show_index(ending, reader);
    } else if (ending == ".snapshot") {
      return is_producer_snapshot(name) ? show_producers(reader) : show_metadata_snapshot(reader);
    }
    return reader.ok() ? Status() : Status(Errc::kCorruption, "the payload ends too early");
  }

  void show_index(const std::string& ending, ByteReader& reader) {
    Row cover("cover");
    auto base = reader.read<int64_t>();
    cover.number("base_offset", base).number("end_offset", reader.read<int64_t>());
    cover.number("log_bytes", reader.read<uint64_t>()).number("headers_crc", reader.read<uint32_t>());
    print(cover);
    if (ending == ".checksum") return;
    bool by_time = ending == ".timeindex";
    if (by_time) print(Row("latest").number("timestamp_ms", reader.read<int64_t>()));
    auto count = reader.read<uint32_t>();
    for (uint32_t i = 0; i < count && reader.ok(); ++i) {
      Row entry("entry");
      if (by_time) entry.number("timestamp_ms", reader.read<int64_t>());
      entry.number("offset", base + reader.read<uint32_t>());
      if (!by_time) entry.number("position", reader.read<uint32_t>());
      print(entry);
    }
  }

  Status show_producers(ByteReader& reader) {
    print(Row("snapshot").number("offset", reader.read<int64_t>()));
    auto count = reader.read<uint32_t>();
    for (uint32_t i = 0; i < count && reader.ok(); ++i) {
      Row producer("producer");
      producer.number("producer_id", reader.read<int64_t>()).number("producer_epoch", reader.read<int16_t>());
      producer.number("last_used_ms", reader.read<int64_t>());
      auto batches = reader.read<uint32_t>();
      print(producer.number("batches", batches));
      for (uint32_t b = 0; b < batches && reader.ok(); ++b) {
        Row batch("sequence");
        batch.number("first", reader.read<int32_t>()).number("last", reader.read<int32_t>());
        batch.number("offset", reader.read<int64_t>()).number("offset_delta", reader.read<int32_t>());
        batch.number("timestamp_ms", reader.read<int64_t>()).number("leader_epoch", reader.read<int32_t>());
        print(batch);
      }
    }
    return reader.ok() ? Status() : Status(Errc::kCorruption, "the snapshot ends too early");
  }

  Status show_metadata_snapshot(ByteReader& reader) {
    Row head("snapshot");
    head.number("end_offset", reader.read<int64_t>()).number("term", reader.read<int32_t>());
    print(head.number("voter_set_bytes", reader.read_sized_bytes().size()));
    while (reader.ok() && !reader.at_end()) {
      Result<MetadataRecord> record = decode_metadata_record(reader.read_sized_bytes());
      if (!record.ok()) return record.status();
      print(Row("record").text("change", describe_metadata_record(*record)));
    }
    return reader.ok() ? Status() : Status(Errc::kCorruption, "the snapshot ends too early");
  }

  const cli::DumpOptions& options_;
  const ProcessOutput& output_;
  std::unique_ptr<FileSystem> files_;
};

}  // namespace

int run_dump(const cli::DumpOptions& options) {
  ProcessOutput output(options.json, false);
  std::error_code error;
  if (!fs::exists(options.path, error)) {
    return output.fail(kExitNotFound, "NOT_FOUND", "no file or folder " + options.path);
  }
  std::vector<std::string> paths;
  if (fs::is_directory(options.path, error)) {
    for (fs::recursive_directory_iterator entry(options.path, error), end; entry != end; entry.increment(error)) {
      std::error_code ignored;
      bool in_state_store = entry->path().parent_path().filename() == "state";
      if (entry->is_regular_file(ignored) && !in_state_store && Dumper::knows(entry->path().filename())) {
        paths.push_back(entry->path());
      }
    }
    std::sort(paths.begin(), paths.end());
  } else if (Dumper::knows(fs::path(options.path).filename())) {
    paths.push_back(options.path);
  } else {
    return output.fail(kExitUsage, "USAGE",
                       options.path +
                           " is not one of a node's files; known are .log, .index, .timeindex, .checksum, "
                           ".snapshot, meta, marks, clean, vote, durable, leader-epochs, partition.meta");
  }
  Dumper dumper(options, output);
  int result = kExitDone;
  for (const std::string& path : paths) {
    Status status = dumper.show(path);
    if (!status.ok()) result = output.fail(kExitRefused, "DATA_DAMAGED", path + ": " + status.to_string());
  }
  return result;
}

}  // namespace trilog
