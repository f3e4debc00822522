// RecordSource: lines, JSON, CSV or printed records -> records, each with the number of its input line.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/client.h"
#include "storage/base/status.h"

namespace trilog::cli {

enum class Format { kLines, kJson, kCsv, kRecord };

struct SourceOptions {
  Format format = Format::kLines;
  std::string file = "-";                    // "-": standard input
  std::optional<std::string> key_field;      // json, csv
  std::optional<std::string> key_separator;  // lines
};

struct SourceRecord {
  client::Record record;
  int64_t line = 0;    // where it began, from 1; in CSV the names are line 1
  std::string source;  // the input as it stood, for --rejects
};

inline constexpr size_t kInputLineMax = 64u << 20;  // a longer one is refused, never held in memory

class RecordSource {
 public:
  // kNotFound, kPermission and so on name the file.
  static Result<std::unique_ptr<RecordSource>> open(SourceOptions options);
  virtual ~RecordSource() = default;

  // The next record, nothing at the end. A bad row is kInvalidArgument and names its line ("line 7: …"); the one after
  // it may be asked for. kIo when reading fails. LF and CRLF both end a line.
  virtual Result<std::optional<SourceRecord>> next() = 0;
  virtual uint64_t bytes_read() const = 0;
  virtual std::optional<uint64_t> bytes_total() const = 0;  // of a regular file
  // After a bad row: the text of it, and its line.
  virtual const SourceRecord& last() const = 0;
};

}  // namespace trilog::cli
