// Any bytes as the input of `produce`: lines, JSON, CSV and printed records. What is read back from JSON is what was
// written into it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "client/cli/json.h"
#include "client/cli/record_source.h"
#include "tests/fuzz/input.h"

namespace trilog::fuzz {
namespace {

class TemporaryFile {
 public:
  explicit TemporaryFile(ByteView content) : descriptor_(memfd_create("input", MFD_CLOEXEC)) {
    CHECK(descriptor_ >= 0);
    CHECK_EQ(write(descriptor_, content.data(), content.size()), static_cast<ssize_t>(content.size()));
  }
  ~TemporaryFile() { close(descriptor_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  const int descriptor_;
};

void print_and_read_back(const cli::SourceRecord& source) {
  const client::Record& record = source.record;
  cli::JsonObject object;
  auto add = [&object](const char* name, const char* encoding, const std::optional<std::string>& bytes) {
    bool text = !bytes || cli::is_utf8(*bytes);
    object.add(name, text ? bytes : std::optional(cli::encode_base64(*bytes)));
    if (!text) object.add(encoding, "base64");
  };
  add("key", "key_encoding", record.key);
  add("value", "value_encoding", record.value);
  object.add("timestamp_ms", record.timestamp_ms);
  auto again = cli::parse_json_record(object.text());
  CHECK(again.ok());
  CHECK(again->key == record.key && again->value == record.value && again->timestamp_ms == record.timestamp_ms);
}

void examine(Input input) {
  cli::SourceOptions options;
  uint8_t choice = input.byte();
  options.format = static_cast<cli::Format>(choice & 3);
  if ((choice & 4) != 0) options.key_field = (choice & 8) != 0 ? "id" : "";
  if ((choice & 16) != 0) options.key_separator = (choice & 32) != 0 ? ":" : "";
  ByteView content = input.rest();
  TemporaryFile file(content);
  options.file = file.path();
  auto source = cli::RecordSource::open(options);
  CHECK(source.ok());
  CHECK((*source)->bytes_total() == std::optional<uint64_t>(content.size()));
  const size_t rows_max = content.size() + 2;
  size_t rows = 0;
  int64_t line = 0;
  for (;; ++rows) {
    CHECK_LE(rows, rows_max);
    auto next = (*source)->next();
    if (!next.ok()) {
      CHECK(next.status().code() == Errc::kInvalidArgument);
      const Status status = next.status();
      CHECK(status.message().starts_with("line "));
      CHECK_LE(status.message().size(), 4 * content.size() + 1'000);  // unprintable bytes are written as \xNN
      continue;
    }
    if (!next->has_value()) break;
    CHECK((*next)->line >= line && (*next)->line >= 1);
    line = (*next)->line;
    if (options.key_field) CHECK((*next)->record.key.has_value() || options.format != cli::Format::kCsv);
    print_and_read_back(**next);
  }
  CHECK_LE((*source)->bytes_read(), content.size());
}

}  // namespace
}  // namespace trilog::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trilog::fuzz::examine(trilog::fuzz::Input(data, size));
  return 0;
}
