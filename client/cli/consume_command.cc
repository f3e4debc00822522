#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <set>

#include "client/cli/commands.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

using client::ConsumedRecord;
using client::Error;
using Clock = std::chrono::steady_clock;

constexpr int64_t kSliceMs = 100;  // how soon a signal is noticed
constexpr int64_t kCommitEveryMs = 250;

enum class Form { kValue, kPretty, kJson, kFormat };

std::string text_or_base64(std::string_view bytes, bool always_base64) {
  return always_base64 || !is_utf8(bytes) ? encode_base64(bytes) : std::string(bytes);
}

class ConsumeRun {
 public:
  ConsumeRun(const CommonOptions& common, const ConsumeOptions& options)
      : common_(common), options_(options), output_(common), client_(connect(common)), admin_(*client_) {}

  int run() {
    if (std::optional<int> bad = check()) return *bad;
    watch_signals();
    if (std::optional<Error> error = find_range()) return output_.fail(*error, 0, options_.topic);
    int code = finished() ? commit_beginnings() : read();
    if (code == kDone && options_.last) print_last();
    output_.flush();
    if (output_.closed()) return kClosedPipe;
    // Ctrl-C is how one ends -f.
    bool asked_to_end = options_.follow && pending_signal() == SIGINT;
    if (code == kDone && pending_signal() != 0 && !asked_to_end) code = 128 + pending_signal();
    if (code == kDone && !options_.follow && output_.to_terminal() && form_ == Form::kPretty && !count_reached()) {
      output_.hint("-- end reached; -f keeps waiting");
    }
    return code;
  }

 private:
  struct Range {
    int64_t next = 0;           // offset to read next
    int64_t until = INT64_MAX;  // not read from here on
    bool done() const { return next >= until; }
  };

  std::optional<int> check() {
    std::string output = options_.output.value_or(common_.json ? "json" : output_.to_terminal() ? "pretty" : "value");
    form_ = output == "json"     ? Form::kJson
            : output == "pretty" ? Form::kPretty
            : output == "value"  ? Form::kValue
                                 : Form::kFormat;
    if (form_ == Form::kFormat && output.find('%') == std::string::npos) {
      return output_.usage("--output " + output + ": value, pretty, json or a format such as '%t %p %o %k %v\\n'");
    }
    if (options_.count && *options_.count < 1) return output_.usage("-n must be at least 1");
    if (options_.last && *options_.last < 1) return output_.usage("--last must be at least 1");
    if (options_.last && (options_.from || options_.follow || !options_.group.empty() || options_.until)) {
      return output_.usage("--last shows the newest records once; it does not go with --from, --until, --group or -f");
    }
    for (const auto& [text, place] : {std::pair(&options_.from, &from_), std::pair(&options_.until, &until_)}) {
      if (!*text) continue;
      Result<Place> parsed = parse_place(**text, false);
      if (!parsed.ok()) return output_.usage(parsed.status().message());
      *place = *parsed;
    }
    if (!options_.partitions.empty()) {
      Result<std::vector<int32_t>> parsed = parse_partitions(options_.partitions);
      if (!parsed.ok()) return output_.usage(parsed.status().message());
      partitions_ = *parsed;
    }
    return std::nullopt;
  }

  // Where every partition begins and ends, as of now.
  std::optional<Error> find_range() {
    auto starts = admin_.list_offsets(options_.topic, client::OffsetSpec::kEarliest);
    if (!starts.ok()) return starts.error();
    auto ends = admin_.list_offsets(options_.topic, client::OffsetSpec::kLatest);
    if (!ends.ok()) return ends.error();
    std::map<int32_t, int64_t> start;
    std::map<int32_t, int64_t> end;
    for (const auto& each : starts.value()) {
      if (each.error) return each.error;
      start[each.partition] = each.offset;
    }
    for (const auto& each : ends.value()) {
      if (each.error) return each.error;
      end[each.partition] = each.offset;
    }
    if (partitions_.empty()) {
      for (const auto& [partition, offset] : start) partitions_.push_back(partition);
    }
    for (int32_t partition : partitions_) {
      if (start.contains(partition)) continue;
      return Error{"UNKNOWN_PARTITION", "no partition " + std::to_string(partition) + " in topic " + options_.topic +
                                            ", which has " + std::to_string(start.size())};
    }
    if (options_.from && from_.kind == Place::Kind::kOffset && start.size() > 1 && options_.partitions.empty()) {
      return usage_error("--from " + *options_.from + " is an offset, and topic " + options_.topic + " has " +
                         std::to_string(start.size()) + " partitions; say which with -p");
    }
    std::map<int32_t, int64_t> from = start;
    if (options_.from) {
      auto resolved = resolve_place(admin_, options_.topic, from_);
      if (!resolved.ok()) return resolved.error();
      from = resolved.value();
    }
    std::map<int32_t, int64_t> until = end;
    if (options_.until) {
      auto resolved = resolve_place(admin_, options_.topic, until_);
      if (!resolved.ok()) return resolved.error();
      until = resolved.value();
    }
    for (int32_t partition : partitions_) {
      Range range;
      range.next = from[partition];
      if (from_.kind == Place::Kind::kOffset && (range.next < start[partition] || range.next > end[partition])) {
        return Error{"OFFSET_OUT_OF_RANGE",
                     "offset " + std::to_string(range.next) + " is outside " + options_.topic + "/" +
                         std::to_string(partition) + ", which has " + std::to_string(start[partition]) + " to " +
                         std::to_string(end[partition]),
                     false, Error::Outcome::kNotApplicable};
      }
      if (!options_.follow || options_.until) range.until = until[partition];
      if (options_.last) range.next = std::max(start[partition], end[partition] - *options_.last);
      ranges_[partition] = range;
    }
    return start_from_commits(start);
  }

  std::optional<Error> start_from_commits(const std::map<int32_t, int64_t>& start) {
    if (options_.group.empty()) return std::nullopt;
    auto committed = admin_.fetch_offsets(options_.group, options_.topic);
    if (!committed.ok()) return committed.error();
    bool any = false;
    std::set<int32_t> with_commit;
    for (const client::Commit& commit : committed.value()) {
      auto range = ranges_.find(commit.partition);
      if (range == ranges_.end()) continue;
      any = true;
      with_commit.insert(commit.partition);
      range->second.next = std::max(commit.offset, start.at(commit.partition));
    }
    // Where --from let the group begin must still hold next time, also if nothing is read now.
    for (const auto& [partition, range] : ranges_) {
      if (!options_.from || with_commit.contains(partition)) continue;
      uncommitted_[partition] = {options_.topic, partition, range.next};
    }
    if (any && options_.from) {
      output_.hint("--from is ignored: group " + options_.group +
                   " has committed offsets; move them with: trilog group seek " + options_.group + " --topic " +
                   options_.topic + " --to " + *options_.from);
    }
    return std::nullopt;
  }

  // Nothing is read, so there is no stream to commit over.
  int commit_beginnings() {
    if (options_.no_commit || uncommitted_.empty()) return kDone;
    std::vector<client::Commit> offsets;
    for (auto& [partition, commit] : uncommitted_) offsets.push_back(std::move(commit));
    auto committed = admin_.commit_offsets(options_.group, offsets);
    if (!committed.ok()) return output_.fail(committed.error(), 0, options_.topic);
    for (const client::Commit& each : committed.value()) {
      if (each.error) return output_.fail(*each.error, 0, options_.topic);
    }
    return kDone;
  }

  bool finished() const {
    return std::all_of(ranges_.begin(), ranges_.end(), [](const auto& entry) { return entry.second.done(); });
  }
  bool count_reached() const { return options_.count && printed_ >= *options_.count; }

  int read() {
    client::ConsumerOptions consumer_options;
    consumer_options.group = options_.no_commit ? "" : options_.group;
    consumer_options.reconnect_timeout_ms = options_.follow ? INT32_MAX : common_.timeout_ms;
    client::Consumer consumer(*client_, consumer_options);
    std::vector<client::Position> positions;
    for (const auto& [partition, range] : ranges_) {
      if (!range.done()) positions.push_back({options_.topic, partition, range.next});
    }
    auto subscribed = consumer.subscribe({options_.topic}, positions, true);
    if (!subscribed.ok()) return output_.fail(subscribed.error(), 0, options_.topic);
    auto last_news = Clock::now();
    last_commit_ = Clock::now();
    bool limited_silence = !options_.follow || common_.timeout_given;
    while (!finished() && !count_reached() && pending_signal() == 0 && !output_.closed()) {
      auto event = consumer.poll(kSliceMs);
      if (!event.ok()) {
        commit(consumer);
        return output_.fail(event.error(), 0, options_.topic);
      }
      using Kind = client::Consumer::Event::Kind;
      if (event->kind == Kind::kPartitionError) {
        commit(consumer);
        return output_.fail(*event->error, 0, options_.topic);
      }
      if (event->kind == Kind::kRecords) {
        last_news = Clock::now();
        print(event.value());
      }
      bool due = Clock::now() - last_commit_ >= std::chrono::milliseconds(kCommitEveryMs);
      if (due || event->kind != Kind::kRecords) {
        if (std::optional<Error> error = commit(consumer)) return output_.fail(*error, 0, options_.topic);
      }
      if (limited_silence && Clock::now() - last_news > std::chrono::milliseconds(common_.timeout_ms)) {
        if (options_.follow) break;
        return output_.fail({"REQUEST_TIMED_OUT",
                             "no record for " + format_duration_ms(common_.timeout_ms) +
                                 " although the end is not reached; --timeout allows more",
                             true, Error::Outcome::kNotApplicable});
      }
    }
    if (std::optional<Error> error = commit(consumer)) return output_.fail(*error, 0, options_.topic);
    return kDone;
  }

  void print(const client::Consumer::Event& event) {
    Range& range = ranges_[event.partition];
    for (const ConsumedRecord& record : event.records) {
      if (record.offset >= range.until || count_reached()) break;
      if (options_.last) {
        keep_last(record);
      } else {
        print(record);
        ++printed_;
      }
      range.next = record.offset + 1;
      uncommitted_[event.partition] = {options_.topic, event.partition, range.next, record.leader_epoch};
    }
    // Past what was left out (a removed record, a control batch) only when everything before it was shown.
    if (!count_reached()) range.next = std::max(range.next, std::min(event.next_offset, range.until));
    if (options_.follow) output_.flush();
  }

  // Commits only what has left this program.
  std::optional<Error> commit(client::Consumer& consumer) {
    if (!output_.flush()) return std::nullopt;
    last_commit_ = Clock::now();
    if (options_.group.empty() || options_.no_commit || uncommitted_.empty()) return std::nullopt;
    std::vector<client::Commit> offsets;
    for (auto& [partition, commit] : uncommitted_) offsets.push_back(std::move(commit));
    uncommitted_.clear();
    auto committed = consumer.commit(offsets);
    if (!committed.ok()) return committed.error();
    for (const client::Commit& each : committed.value()) {
      if (each.error) return each.error;
    }
    return std::nullopt;
  }

  struct Kept {
    int64_t timestamp_ms;
    int32_t partition;
    int64_t offset;
    std::string text;
    auto order() const { return std::tuple(timestamp_ms, partition, offset); }
  };
  void keep_last(const ConsumedRecord& record) {
    kept_.push_back({record.timestamp_ms, record.partition, record.offset, form(record)});
  }
  void print_last() {
    std::sort(kept_.begin(), kept_.end(), [](const Kept& a, const Kept& b) { return a.order() < b.order(); });
    size_t wanted = std::min(kept_.size(), static_cast<size_t>(*options_.last));
    for (size_t i = kept_.size() - wanted; i < kept_.size(); ++i) output_.raw(kept_[i].text);
  }

  void print(const ConsumedRecord& record) { output_.raw(form(record)); }

  std::string form(const ConsumedRecord& record) const {
    bool base64 = options_.binary == "base64";
    switch (form_) {
      case Form::kValue:
        return (base64 ? encode_base64(record.value.value_or("")) : std::string(record.value.value_or(""))) + "\n";
      case Form::kPretty: return pretty(record, base64);
      case Form::kJson: return json(record, base64) + "\n";
      case Form::kFormat: return formatted(record, base64);
    }
    UNREACHABLE("Form");
  }

  static std::string pretty(const ConsumedRecord& record, bool base64) {
    std::string text = std::to_string(record.partition) + "@" + std::to_string(record.offset) + "  " +
                       (record.timestamp_ms >= 0 ? format_time_ms(record.timestamp_ms) : "-") + "  ";
    text += record.key ? text_or_base64(*record.key, base64) + "  " : "";
    for (const auto& [key, value] : record.headers)
      text += std::string(key) + "=" + text_or_base64(value.value_or(""), base64) + "  ";
    return text + (record.value ? text_or_base64(*record.value, base64) : "(null)") + "\n";
  }

  static void add_bytes(JsonObject& object, std::string_view name, std::string_view encoding_name,
                        std::optional<std::string_view> bytes, bool base64) {
    if (!bytes) {
      object.add_null(name);
      return;
    }
    bool encoded = base64 || !is_utf8(*bytes);
    object.add(name, std::string_view(encoded ? encode_base64(*bytes) : std::string(*bytes)));
    if (encoded) object.add(encoding_name, "base64");
  }

  static std::string json(const ConsumedRecord& record, bool base64) {
    JsonObject object;
    object.add("topic", record.topic).add("partition", record.partition).add("offset", record.offset);
    object.add("timestamp_ms", record.timestamp_ms >= 0 ? std::optional(record.timestamp_ms) : std::nullopt);
    add_bytes(object, "key", "key_encoding", record.key, base64);
    add_bytes(object, "value", "value_encoding", record.value, base64);
    std::vector<JsonObject> headers;
    for (const auto& [key, value] : record.headers) {
      JsonObject header;
      header.add("key", key);
      add_bytes(header, "value", "value_encoding", value, base64);
      headers.push_back(std::move(header));
    }
    object.add("headers", std::move(headers));
    return object.text();
  }

  // %t topic, %p partition, %o offset, %T timestamp in ms, %k key, %v value, %h headers, %% a percent; \n \t \\ as in
  // C.
  std::string formatted(const ConsumedRecord& record, bool base64) const {
    std::string text;
    const std::string& format = *options_.output;
    for (size_t i = 0; i < format.size(); ++i) {
      char c = format[i];
      if ((c != '%' && c != '\\') || i + 1 == format.size()) {
        text += c;
        continue;
      }
      char what = format[++i];
      if (c == '\\') {
        text += what == 'n' ? '\n' : what == 't' ? '\t' : what;
        continue;
      }
      switch (what) {
        case 't': text += record.topic; break;
        case 'p': text += std::to_string(record.partition); break;
        case 'o': text += std::to_string(record.offset); break;
        case 'T': text += std::to_string(record.timestamp_ms); break;
        case 'k': text += base64 ? encode_base64(record.key.value_or("")) : std::string(record.key.value_or("")); break;
        case 'v':
          text += base64 ? encode_base64(record.value.value_or("")) : std::string(record.value.value_or(""));
          break;
        case 'h':
          for (const auto& [key, value] : record.headers)
            text += std::string(key) + "=" + std::string(value.value_or("")) + " ";
          break;
        case '%': text += '%'; break;
        default: text += std::string("%") + what;
      }
    }
    return text;
  }

  const CommonOptions& common_;
  const ConsumeOptions& options_;
  Output output_;
  std::unique_ptr<client::Client> client_;
  client::Admin admin_;
  Form form_ = Form::kValue;
  Place from_;
  Place until_;
  std::vector<int32_t> partitions_;
  std::map<int32_t, Range> ranges_;
  std::map<int32_t, client::Commit> uncommitted_;
  std::vector<Kept> kept_;
  int64_t printed_ = 0;
  Clock::time_point last_commit_;
};

}  // namespace

int consume_command(const CommonOptions& common, const ConsumeOptions& options) {
  return ConsumeRun(common, options).run();
}

}  // namespace trilog::cli
