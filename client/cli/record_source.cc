#include "client/cli/record_source.h"

#include <csv.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <set>
#include <vector>

#include "client/cli/json.h"

namespace trilog::cli {
namespace {

constexpr size_t kReadBytes = 64 << 10;

Status system_error(const std::string& file, int error) {
  Errc code = error == ENOENT ? Errc::kNotFound : error == EACCES || error == EPERM ? Errc::kPermission : Errc::kIo;
  return Status(code, file + ": " + std::strerror(error));
}

// A file or standard input, read in pieces.
class Input {
 public:
  static Result<Input> open(const std::string& file) {
    if (file == "-") return Input(STDIN_FILENO, "standard input", std::nullopt);
    int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return system_error(file, errno);
    struct stat info {};
    if (fstat(descriptor, &info) != 0 || S_ISDIR(info.st_mode)) {
      int error = S_ISDIR(info.st_mode) ? EISDIR : errno;
      ::close(descriptor);
      return system_error(file, error);
    }
    std::optional<uint64_t> total;
    if (S_ISREG(info.st_mode)) total = static_cast<uint64_t>(info.st_size);
    return Input(descriptor, file, total);
  }
  Input(Input&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), name_(std::move(other.name_)), total_(other.total_) {}
  ~Input() {
    if (descriptor_ > STDIN_FILENO) ::close(descriptor_);
  }
  // Appends to `out`; false at the end.
  Result<bool> read(std::string& out) {
    size_t old = out.size();
    out.resize(old + kReadBytes);
    ssize_t count;
    do {
      count = ::read(descriptor_, out.data() + old, kReadBytes);
    } while (count < 0 && errno == EINTR);
    out.resize(old + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    if (count < 0) return system_error(name_, errno);
    bytes_read += static_cast<uint64_t>(count);
    return count > 0;
  }
  std::optional<uint64_t> total() const { return total_; }
  uint64_t bytes_read = 0;

 private:
  Input(int descriptor, std::string name, std::optional<uint64_t> total)
      : descriptor_(descriptor), name_(std::move(name)), total_(total) {}
  int descriptor_;
  std::string name_;
  std::optional<uint64_t> total_;
};

Status bad_row(int64_t line, const std::string& what) {
  return Status(Errc::kInvalidArgument, "line " + std::to_string(line) + ": " + what);
}

std::string missing_key(const std::string& field) {
  return "field " + field + " is missing or empty, and it is to be the key";
}

class LineSource final : public RecordSource {
 public:
  LineSource(SourceOptions options, Input input) : options_(std::move(options)), input_(std::move(input)) {}
  uint64_t bytes_read() const override { return input_.bytes_read; }
  std::optional<uint64_t> bytes_total() const override { return input_.total(); }
  const SourceRecord& last() const override { return last_; }

  Result<std::optional<SourceRecord>> next() override {
    for (;;) {
      std::optional<std::string> line = TRY(next_line());
      if (!line) return std::optional<SourceRecord>();
      last_ = {{}, ++line_number_, *line};
      // An empty line between JSON values is no value; between lines it is an empty record.
      if (options_.format != Format::kLines && line->find_first_not_of(" \t") == std::string::npos) continue;
      Status parsed = parse(*line, last_.record);
      if (!parsed.ok()) return bad_row(line_number_, std::string(parsed.message()));
      return std::optional<SourceRecord>(last_);
    }
  }

 private:
  Result<std::optional<std::string>> next_line() {
    for (;;) {
      size_t end = buffer_.find('\n', searched_);
      if (end != std::string::npos) {
        std::string line = buffer_.substr(start_, end - start_);
        start_ = searched_ = end + 1;
        if (!line.empty() && line.back() == '\r') line.pop_back();
        return std::optional(std::move(line));
      }
      buffer_.erase(0, start_);
      start_ = 0;
      searched_ = buffer_.size();
      if (buffer_.size() > kInputLineMax) return bad_row(line_number_ + 1, "longer than 64 MiB without an end of line");
      if (TRY(input_.read(buffer_))) continue;
      if (buffer_.empty()) return std::optional<std::string>();
      std::string rest = std::exchange(buffer_, {});
      searched_ = 0;
      if (!rest.empty() && rest.back() == '\r') rest.pop_back();
      return std::optional(std::move(rest));
    }
  }

  Status parse(const std::string& line, client::Record& record) const {
    switch (options_.format) {
      case Format::kLines: {
        record.value = line;
        if (!options_.key_separator) return {};
        size_t at = line.find(*options_.key_separator);
        if (at == std::string::npos) {
          return Status(Errc::kInvalidArgument, "has no key separator '" + *options_.key_separator + "'");
        }
        record.key = line.substr(0, at);
        record.value = line.substr(at + options_.key_separator->size());
        return {};
      }
      case Format::kJson: {
        record.value = line;
        if (!options_.key_field) return check_json(line);
        record.key = TRY(json_field(line, *options_.key_field));
        if (!record.key) return Status(Errc::kInvalidArgument, missing_key(*options_.key_field));
        return {};
      }
      case Format::kRecord: {
        JsonRecord parsed = TRY(parse_json_record(line));
        record.key = std::move(parsed.key);
        record.value = std::move(parsed.value);
        record.timestamp_ms = parsed.timestamp_ms;
        for (auto& [key, value] : parsed.headers) record.headers.push_back({key, value});
        return {};
      }
      case Format::kCsv: break;
    }
    UNREACHABLE("CSV is read by CsvSource");
  }

  const SourceOptions options_;
  Input input_;
  std::string buffer_;
  size_t start_ = 0;
  size_t searched_ = 0;
  int64_t line_number_ = 0;
  SourceRecord last_;
};

// CSV by libcsv (RFC 4180, strict: a stray quote is an error). The first row gives the names.
class CsvSource final : public RecordSource {
 public:
  CsvSource(SourceOptions options, Input input) : options_(std::move(options)), input_(std::move(input)) {
    csv_init(&parser_, CSV_STRICT | CSV_STRICT_FINI | CSV_APPEND_NULL);
    csv_set_space_func(&parser_, [](unsigned char) { return 0; });  // blanks belong to the value
  }
  ~CsvSource() override { csv_free(&parser_); }
  uint64_t bytes_read() const override { return input_.bytes_read; }
  std::optional<uint64_t> bytes_total() const override { return input_.total(); }
  const SourceRecord& last() const override { return last_; }

  Result<std::optional<SourceRecord>> next() override {
    for (;;) {
      if (rows_.empty()) {
        if (broken_) return *std::exchange(broken_, std::nullopt);
        if (at_end_) return std::optional<SourceRecord>();
        TRY(parse_more());
        continue;
      }
      Row row = std::move(rows_.front());
      rows_.pop_front();
      if (names_.empty()) {
        TRY(take_names(std::move(row)));
        continue;
      }
      return make_record(std::move(row));
    }
  }

 private:
  struct Row {
    std::vector<std::string> cells;
    int64_t line = 0;
  };

  Status take_names(Row row) {
    names_ = std::move(row.cells);
    if (!names_.empty() && names_[0].starts_with("\xef\xbb\xbf")) names_[0].erase(0, 3);  // a byte order mark
    std::set<std::string> known;
    for (const std::string& name : names_) {
      if (!known.insert(name).second) return unusable(row.line, "two columns are named " + name);
    }
    if (!options_.key_field || known.contains(*options_.key_field)) return {};
    std::string all;
    for (const std::string& name : names_) all += (all.empty() ? "" : ", ") + name;
    return unusable(row.line, "no column " + *options_.key_field + "; there are: " + all);
  }
  // Nothing after such a first line can be understood.
  Status unusable(int64_t line, const std::string& why) {
    at_end_ = true;
    rows_.clear();
    broken_.reset();
    return bad_row(line, why);
  }

  Result<std::optional<SourceRecord>> make_record(Row row) {
    last_ = {{}, row.line, {}};
    for (size_t i = 0; i < row.cells.size(); ++i) last_.source += (i == 0 ? "" : ",") + quoted(row.cells[i]);
    if (row.cells.size() != names_.size()) {
      return bad_row(row.line, "has " + std::to_string(row.cells.size()) + " columns; the first line names " +
                                   std::to_string(names_.size()));
    }
    JsonObject object;
    for (size_t i = 0; i < names_.size(); ++i) {
      object.add(names_[i], std::string_view(row.cells[i]));
      if (options_.key_field && names_[i] == *options_.key_field) last_.record.key = row.cells[i];
    }
    if (options_.key_field && last_.record.key->empty()) return bad_row(row.line, missing_key(*options_.key_field));
    last_.record.value = object.text();
    return std::optional<SourceRecord>(last_);
  }

  static std::string quoted(const std::string& cell) {
    if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
    std::string text = "\"";
    for (char c : cell) text += c == '"' ? std::string("\"\"") : std::string(1, c);
    return text + "\"";
  }

  Status parse_more() {
    piece_.clear();
    bool more = TRY(input_.read(piece_));
    if (!more) {
      at_end_ = true;
      if (csv_fini(&parser_, on_cell, on_row, this) != 0) fail();
      return {};
    }
    // Byte by byte, because rows must know their line and libcsv does not count lines.
    for (char c : piece_) {
      // Between rows there may be empty lines, and the second half of a CRLF.
      bool between = row_bytes_ == 0 && (c == '\r' || c == '\n');
      if (row_bytes_ == 0) row_line_ = line_;
      if (!between) ++row_bytes_;
      if (row_bytes_ > kInputLineMax) {
        at_end_ = true;
        broken_ = bad_row(row_line_, "a row of more than 64 MiB; is a quote missing?");
        return {};
      }
      if (csv_parse(&parser_, &c, 1, on_cell, on_row, this) != 1) {
        fail();
        return {};
      }
      if (c == '\n') ++line_;
    }
    return {};
  }

  void fail() {
    at_end_ = true;
    broken_ = bad_row(row_line_,
                      std::string("broken CSV: ") + csv_strerror(csv_error(&parser_)) + " (a quote out of place?)");
  }

  static void on_cell(void* cell, size_t size, void* self) {
    static_cast<CsvSource*>(self)->cells_.emplace_back(static_cast<const char*>(cell), size);
  }
  static void on_row(int, void* self) {
    auto* source = static_cast<CsvSource*>(self);
    source->rows_.push_back({std::exchange(source->cells_, {}), source->row_line_});
    source->row_bytes_ = 0;
  }

  const SourceOptions options_;
  Input input_;
  csv_parser parser_{};
  std::string piece_;
  std::vector<std::string> cells_;
  std::deque<Row> rows_;
  std::vector<std::string> names_;
  std::optional<Status> broken_;
  int64_t line_ = 1;
  int64_t row_line_ = 1;
  size_t row_bytes_ = 0;
  bool at_end_ = false;
  SourceRecord last_;
};

}  // namespace

Result<std::unique_ptr<RecordSource>> RecordSource::open(SourceOptions options) {
  Input input = TRY(Input::open(options.file));
  if (options.format == Format::kCsv) {
    return std::unique_ptr<RecordSource>(std::make_unique<CsvSource>(std::move(options), std::move(input)));
  }
  return std::unique_ptr<RecordSource>(std::make_unique<LineSource>(std::move(options), std::move(input)));
}

}  // namespace trilog::cli
