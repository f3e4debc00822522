// Any text as a configuration file, as settings, and as sizes, durations and times: refused with a reason, or taken and
// the same again when it is written out.
#include <cstdint>
#include <string>

#include "broker/metadata/topic_settings.h"
#include "broker/options.h"
#include "client/cli/commands.h"
#include "storage/base/names.h"
#include "storage/base/units.h"
#include "tests/fuzz/input.h"

namespace trilog::fuzz {
namespace {

constexpr size_t kMessageBytesMax = 4'096;  // nobody is shown more of what was wrong than helps

void check_refusal(const Status& status) {
  if (status.ok()) return;
  CHECK(!status.message().empty());
  CHECK_LE(status.message().size(), kMessageBytesMax);
}

void read_file(std::string_view text) {
  BrokerOptions options;
  check_refusal(read_config(options, "node.toml", text));
  check_refusal(check_options(options));
}

// "name=value", one a line.
void set_each(std::string_view text) {
  BrokerOptions options;
  while (!text.empty()) {
    std::string line(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    auto assignment = cli::parse_assignment(line, "setting");
    check_refusal(assignment.status());
    if (!assignment.ok()) continue;
    const auto& [name, value] = *assignment;
    check_refusal(set_option(options, name, value));
    check_refusal(read_environment(options, {{name, value}}));
    if (auto error = check_topic_setting(name, value)) {
      CHECK_LE(error->message.size(), kMessageBytesMax);
      continue;
    }
    TopicSettings settings = resolve_topic_settings({{name, value}}, api::Durability::kSynced, 3);
    CHECK_GE(settings.segment_bytes, 1);
    CHECK(!describe_topic_settings({{name, value}}, api::Durability::kSynced, 3).empty());
  }
  check_refusal(check_options(options));
}

void measure(const std::string& text) {
  if (auto size = parse_size(text); size.ok()) CHECK(!format_size(*size).empty());
  if (auto duration = parse_duration_ms(text); duration.ok()) {
    CHECK_GE(*duration, 0);
    CHECK(!format_duration_ms(*duration).empty());
  }
  if (auto time = parse_time_ms(text); time.ok()) {
    std::string shown = format_time_ms(*time);
    bool far = *time < 0 || *time > 253'402'300'799'999;  // years of five digits, and those before 1970
    if (!far) CHECK_EQ(parse_time_ms(shown).value(), *time);
  }
  for (const Status& status :
       {parse_size(text).status(), parse_duration_ms(text).status(), parse_time_ms(text).status(),
        cli::parse_place(text, true).status(), cli::parse_partitions(text).status()}) {
    check_refusal(status);
  }
  if (auto error = check_topic_name(text)) {
    CHECK_LE(error->message.size(), kMessageBytesMax);
  } else {
    CHECK_LE(text.size(), 249u);
  }
  (void)most_similar_name(text, {"listen", "data_dir"});
}

}  // namespace
}  // namespace trilog::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trilog::fuzz;
  Input input(data, size);
  uint8_t choice = input.byte();
  std::string text(trilog::as_text(input.rest()));
  switch (choice % 3) {
    case 0: read_file(text); break;
    case 1: set_each(text); break;
    default: measure(text); break;
  }
  return 0;
}
