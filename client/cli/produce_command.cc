#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <set>
#include <unordered_set>

#include "client/cli/commands.h"
#include "storage/base/units.h"

namespace trilog::cli {
namespace {

using client::Delivery;
using client::Error;
using Clock = std::chrono::steady_clock;

constexpr size_t kKeysCountedMax = 1'000'000;

// Input records that are in, as ranges of their numbers from 1.
class Ranges {
 public:
  void add(int64_t number) {
    auto next = ranges_.upper_bound(number);
    auto before = next == ranges_.begin() ? ranges_.end() : std::prev(next);
    bool joins_before = before != ranges_.end() && before->second + 1 == number;
    bool joins_next = next != ranges_.end() && next->first == number + 1;
    if (joins_before && joins_next) {
      before->second = next->second;
      ranges_.erase(next);
    } else if (joins_before) {
      before->second = number;
    } else if (joins_next) {
      int64_t last = next->second;
      ranges_.erase(next);
      ranges_[number] = last;
    } else {
      ranges_[number] = number;
    }
  }
  // Whether they are exactly those that follow the first `skipped`.
  bool starts_after(int64_t skipped) const { return ranges_.size() == 1 && ranges_.begin()->first == skipped + 1; }
  int64_t last() const { return ranges_.rbegin()->second; }  // not of none
  std::string text() const {
    std::string text;
    int shown = 0;
    for (const auto& [first, last] : ranges_) {
      if (++shown > 5) return text + ", …";
      text += (text.empty() ? "" : ", ") + std::to_string(first) + (last > first ? "-" + std::to_string(last) : "");
    }
    return text;
  }

 private:
  std::map<int64_t, int64_t> ranges_;
};

// Everything that callbacks (on the producer's threads) and the reading loop share.
struct Progress {
  std::mutex mutex;
  int64_t written = 0;
  int64_t failed = 0;
  int64_t unknown = 0;
  std::set<int32_t> partitions;
  std::unordered_set<size_t> keys;
  Ranges in;
  bool topic_created = false;
  std::string durability;
  int32_t synced_replicas = 0;
  int32_t replicas = 0;
  int64_t last_offset = -1;
  int32_t last_partition = -1;
  std::optional<Error> first_error;
  int64_t first_error_line = 0;
  int exit_code = kDone;
  std::atomic<bool> stop{false};
};

class ProduceRun {
 public:
  ProduceRun(const CommonOptions& common, const ProduceOptions& options)
      : options_(options), output_(common), client_(connect(common)), timeout_ms_(common.timeout_ms) {
    single_ = options.value.has_value() || options.null_value;
  }

  int run() {
    if (std::optional<int> bad = check()) return *bad;
    watch_signals();
    started_ = Clock::now();
    client::ProducerOptions producer_options;
    producer_options.acks = options_.acks == "all"      ? client::Acks::kAll
                            : options_.acks == "leader" ? client::Acks::kLeader
                                                        : client::Acks::kNone;
    producer_options.delivery_timeout_ms = timeout_ms_;
    producer_options.skip_refused = options_.on_error == "skip";
    producer_ = std::make_unique<client::Producer>(*client_, producer_options);
    int code = single_ ? send_single() : send_input();
    producer_->flush();
    producer_.reset();
    output_.end_progress();
    if (output_.closed()) return kClosedPipe;
    return std::max(code, summary());
  }

 private:
  std::optional<int> check() {
    if (options_.value && options_.file) return output_.usage("both a value and --file: give one of them");
    if (options_.value && options_.null_value)
      return output_.usage("both a value and --null: a tombstone has no value");
    if (options_.null_value && !options_.key)
      return output_.usage("--null writes a tombstone, which needs a key: -k KEY");
    if (single_ && (options_.key_field || options_.key_separator)) {
      return output_.usage("--key-field and --key-separator are for input with many records; use -k KEY");
    }
    if (options_.key_separator && options_.key_separator->empty())
      return output_.usage("--key-separator must not be empty");
    if (options_.key_field && options_.format != "json" && options_.format != "csv") {
      return output_.usage("--key-field needs --format json or csv");
    }
    if (options_.key_separator && options_.format != "lines")
      return output_.usage("--key-separator needs --format lines");
    for (const std::string& header : options_.headers) {
      Result<std::pair<std::string, std::string>> parsed = parse_assignment(header, "header");
      if (!parsed.ok()) return output_.usage(parsed.status().message());
      headers_.push_back({parsed->first, parsed->second});
    }
    if (options_.rejects && options_.on_error != "skip") return output_.usage("--rejects needs --on-error skip");
    return std::nullopt;
  }

  int send_single() {
    client::Record record;
    record.key = options_.key;
    if (!options_.null_value) record.value = options_.value;
    send({std::move(record), 0, ""}, 1);
    return kDone;
  }

  int send_input() {
    SourceOptions source_options;
    source_options.format = options_.format == "json"     ? Format::kJson
                            : options_.format == "csv"    ? Format::kCsv
                            : options_.format == "record" ? Format::kRecord
                                                          : Format::kLines;
    source_options.file = options_.file.value_or("-");
    source_options.key_field = options_.key_field;
    source_options.key_separator = options_.key_separator;
    Result<std::unique_ptr<RecordSource>> opened = RecordSource::open(source_options);
    if (!opened.ok()) return fail(opened.status(), 0);
    if (options_.rejects) {
      rejects_.open(*options_.rejects, std::ios::binary | std::ios::trunc);
      if (!rejects_) return output_.fail({"INVALID_REQUEST", *options_.rejects + ": cannot be written"});
    }
    if (source_options.file == "-" && isatty(STDIN_FILENO) == 1) {
      output_.hint("reading records from the terminal, one a line; end with Ctrl-D");
    }
    RecordSource& source = **opened;
    for (int64_t number = 1; !progress_.stop && pending_signal() == 0 && !output_.closed(); ++number) {
      Result<std::optional<SourceRecord>> next = source.next();
      if (!next.ok()) {
        bool row = next.status().code() == Errc::kInvalidArgument;
        if (!row || options_.on_error != "skip") return fail(next.status(), row ? source.last().line : 0);
        reject(source.last().source, std::string(next.status().message()));
        continue;
      }
      if (!*next) break;
      if (number <= options_.skip) continue;
      if (options_.key) (*next)->record.key = options_.key;
      send(std::move(**next), number);
      show_progress(source);
    }
    return kDone;
  }

  void send(SourceRecord source, int64_t number) {
    client::Record& record = source.record;
    record.partition = options_.partition;
    record.headers.insert(record.headers.end(), headers_.begin(), headers_.end());
    size_t key_hash = std::hash<std::string>()(record.key.value_or(""));
    bool has_key = record.key.has_value();
    std::string text = options_.on_error == "skip" ? source.source : std::string();
    producer_->send(
        options_.topic, std::move(record),
        [this, number, line = source.line, key_hash, has_key, text = std::move(text)](const Delivery& delivery) {
          on_delivery(delivery, number, line, has_key ? std::optional(key_hash) : std::nullopt, text);
        });
  }

  void on_delivery(const Delivery& delivery, int64_t number, int64_t line, std::optional<size_t> key,
                   const std::string& text) {
    std::lock_guard lock(progress_.mutex);
    if (delivery.error != nullptr) return on_refusal(delivery, line, text);
    ++progress_.written;
    progress_.in.add(number);
    progress_.partitions.insert(delivery.partition);
    if (key && progress_.keys.size() < kKeysCountedMax) progress_.keys.insert(*key);
    progress_.topic_created = progress_.topic_created || delivery.topic_created;
    progress_.durability = delivery.durability;
    progress_.synced_replicas = delivery.synced_replicas;
    progress_.replicas = delivery.replicas;
    progress_.last_offset = delivery.offset;
    progress_.last_partition = delivery.partition;
    if (!output_.json()) return;
    JsonObject object;
    object.add("topic", delivery.topic).add("partition", delivery.partition);
    object.add("offset", delivery.offset >= 0 ? std::optional(delivery.offset) : std::nullopt);
    object.add("timestamp_ms", delivery.timestamp_ms >= 0 ? std::optional(delivery.timestamp_ms) : std::nullopt);
    output_.json_line(object);
  }

  // With the mutex held.
  void on_refusal(const Delivery& delivery, int64_t line, const std::string& text) {
    const Error& error = *delivery.error;
    bool unknown = error.outcome == Error::Outcome::kUnknown;
    ++(unknown ? progress_.unknown : progress_.failed);
    if (options_.on_error == "skip" && !unknown && !error.retriable) {
      reject_locked(text, error.message);
    } else {
      progress_.stop = true;
    }
    // The first refusal explains; what PREVIOUS_FAILED sweeps along after it does not.
    if (!progress_.first_error || (unknown && progress_.first_error->outcome != Error::Outcome::kUnknown)) {
      progress_.first_error = error;
      progress_.first_error_line = line;
    }
    if (!output_.json()) return;
    JsonObject why;
    why.add("code", std::string_view(error.code)).add("message", std::string_view(error.message));
    JsonObject object;
    object.add("topic", delivery.topic);
    object.add("partition", delivery.partition >= 0 ? std::optional(delivery.partition) : std::nullopt);
    object.add_null("offset").add_null("timestamp_ms").add("error", std::move(why));
    output_.json_line(object);
  }

  void reject(const std::string& text, const std::string& why) {
    std::lock_guard lock(progress_.mutex);
    ++progress_.failed;
    reject_locked(text, why);
  }
  void reject_locked(const std::string& text, const std::string& why) {
    ++rejected_;
    if (rejects_.is_open()) rejects_ << text << '\n';
    if (rejected_ <= 3) output_.hint("left out: " + why);
  }

  int fail(const Status& status, int64_t line) {
    progress_.stop = true;
    Error error{"INVALID_REQUEST", std::string(status.message()), false, Error::Outcome::kNotWritten};
    std::lock_guard lock(progress_.mutex);
    progress_.first_error = error;
    progress_.first_error_line = line;
    source_failed_ = true;
    return kDone;
  }

  void show_progress(const RecordSource& source) {
    if (Clock::now() - last_progress_ < std::chrono::milliseconds(200)) return;
    last_progress_ = Clock::now();
    int64_t written = 0;
    {
      std::lock_guard lock(progress_.mutex);
      written = progress_.written;
    }
    std::string text = std::to_string(written) + " records written";
    if (source.bytes_total() && *source.bytes_total() > 0) {
      text += " · " + std::to_string(source.bytes_read() * 100 / *source.bytes_total()) + " % read";
    }
    output_.progress(text);
  }

  int summary() {
    double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
    std::lock_guard lock(progress_.mutex);
    int code = kDone;
    if (progress_.first_error) {
      // A bad input row names its line in its message already.
      int64_t line = source_failed_ ? 0 : progress_.first_error_line;
      bool missing = progress_.first_error->code == "UNKNOWN_TOPIC";
      code = output_.fail(*progress_.first_error, line, options_.topic);
      if (missing) output_.hint("  create it      trilog topic create " + options_.topic);
      if (progress_.unknown > 0) code = kUnknown;
    }
    if (progress_.failed > 0 && progress_.written > 0 && code != kUnknown) code = kPartly;
    if (source_failed_ && progress_.written > 0 && code != kUnknown) code = kPartly;
    if (rejected_ > 0 && code == kDone) code = progress_.written > 0 ? kPartly : kRefused;
    if (pending_signal() != 0 && code == kDone) code = 128 + pending_signal();
    if (output_.json()) {
      JsonObject inner;
      inner.add("records", progress_.written).add("failed", progress_.failed).add("unknown", progress_.unknown);
      inner.add("partitions", static_cast<int64_t>(progress_.partitions.size()));
      // Only an acknowledgement by all says how durable the records are.
      bool known = options_.acks == "all" && progress_.written > 0;
      inner.add("durability", known ? std::optional<std::string_view>(progress_.durability) : std::nullopt);
      inner.add("synced_replicas", known ? std::optional(progress_.synced_replicas) : std::nullopt);
      inner.add("replicas", progress_.written > 0 ? std::optional(progress_.replicas) : std::nullopt);
      inner.add("seconds", seconds);
      JsonObject outer;
      outer.add("summary", std::move(inner));
      output_.json_line(outer);
    } else if (!output_.quiet()) {
      people_summary(seconds, code);
    }
    return code;
  }

  void people_summary(double seconds, int code) {
    std::string how =
        options_.acks != "all" ? "acknowledged by the leader"
        : progress_.durability == "synced"
            ? "synced on " + std::to_string(progress_.synced_replicas) + " of " + std::to_string(progress_.replicas)
            : progress_.durability + " on " + std::to_string(progress_.replicas);
    if (options_.acks == "none") how = "sent, not acknowledged";
    if (progress_.written > 0 && single_) {
      std::string offset = progress_.last_offset >= 0 ? " @" + std::to_string(progress_.last_offset) : "";
      output_.line(options_.topic + "/" + std::to_string(progress_.last_partition) + offset + " · " + how + " · " +
                   seconds_text(seconds));
    } else if (progress_.written > 0) {
      std::string keys = progress_.keys.empty() ? ""
                         : progress_.keys.size() >= kKeysCountedMax
                             ? ", " + std::to_string(progress_.keys.size()) + "+ keys"
                             : ", " + counted(static_cast<int64_t>(progress_.keys.size()), "key");
      output_.line(counted(progress_.written, "record") + " to " + options_.topic + keys + " over " +
                   counted(static_cast<int64_t>(progress_.partitions.size()), "partition") + " · " + how + " · " +
                   seconds_text(seconds));
    } else if (code == kDone) {
      output_.line("nothing to write");
    }
    if (progress_.topic_created) created_hint();
    if (rejected_ > 3)
      output_.hint("left out " + std::to_string(rejected_) + " records in all" +
                   (options_.rejects ? "; they are in " + *options_.rejects : ""));
    if (code != kDone && !single_ && rejected_ == 0 && progress_.written > 0) {
      bool resumable = progress_.in.starts_after(options_.skip);
      output_.line(resumable ? "  resume with --skip " + std::to_string(progress_.in.last())
                             : "  written: input records " + progress_.in.text());
    }
    if (code == kDone && progress_.written > 1) output_.line("  next           trilog consume " + options_.topic);
  }

  void created_hint() {
    client::Admin admin(*client_);
    auto topic = admin.describe_topic(options_.topic);
    if (!topic.ok()) return;
    int64_t retention = std::strtoll(topic->configs["retention.ms"].value.c_str(), nullptr, 10);
    std::string kept = retention < 0 ? "kept for ever" : "kept " + format_duration_ms(retention);
    output_.line("  created topic " + options_.topic + ": " +
                 counted(static_cast<int64_t>(topic->partitions.size()), "partition") + ", " + kept +
                 "          (forbid this: trilog up --strict)");
  }

  const ProduceOptions& options_;
  Output output_;
  std::unique_ptr<client::Client> client_;
  int64_t timeout_ms_;
  bool single_ = false;
  bool source_failed_ = false;
  std::vector<client::Header> headers_;
  Progress progress_;
  std::ofstream rejects_;
  int64_t rejected_ = 0;
  Clock::time_point started_;
  Clock::time_point last_progress_;
  std::unique_ptr<client::Producer> producer_;
};

}  // namespace

int produce_command(const CommonOptions& common, const ProduceOptions& options) {
  CommonOptions patient = common;
  // An import outlives a restart of the broker; a single record is not worth half a minute.
  if (!common.timeout_given) patient.timeout_ms = 30'000;
  return ProduceRun(patient, options).run();
}

}  // namespace trilog::cli
