#include "broker/replica/replica_repair.h"

#include <algorithm>
#include <utility>

#include "storage/base/check.h"

namespace trilog {

namespace {
constexpr uint64_t kScrubBytes = 1u << 20;  // at once
constexpr int64_t kSecondNs = 1'000'000'000;
}  // namespace

ReplicaRepair::ReplicaRepair(Env& env, const ReplicaOptions& options, BrokerId self, Host host)
    : env_(env), options_(options), self_(self), host_(std::move(host)) {}

void ReplicaRepair::start() {
  if (options_.scrub_bytes_per_second > 0) after(kSecondNs, &ReplicaRepair::begin_pass);
}

void ReplicaRepair::stop() { alive_.reset(); }

// --- mending ---------------------------------------------------------------------------------------------------------

void ReplicaRepair::damaged(const TopicPartition& partition) {
  if (alive_ == nullptr) return;
  damaged_.try_emplace(partition);
  look_later();
}

void ReplicaRepair::look_again(const TopicPartition& partition) {
  const auto found = damaged_.find(partition);
  if (found == damaged_.end() || alive_ == nullptr) return;
  found->second = Damaged();
  look_later();
}

void ReplicaRepair::look_later() {
  if (mending_ || damaged_.empty()) return;
  int64_t next_ns = INT64_MAX;
  for (const auto& [id, damage] : damaged_) next_ns = std::min(next_ns, damage.retry_ns);
  if (retry_timer_ != 0) env_.executor().cancel(retry_timer_);
  const int64_t delay_ns = std::max<int64_t>(0, next_ns - env_.clock().monotonic_ns());
  retry_timer_ = env_.executor().schedule_after(delay_ns, [this, still = std::weak_ptr<bool>(alive_)] {
    if (still.expired()) return;
    retry_timer_ = 0;
    look();
  });
}

void ReplicaRepair::look() {
  if (mending_) return;
  const int64_t now_ns = env_.clock().monotonic_ns();
  for (const auto& [id, damage] : damaged_) {
    if (damage.retry_ns <= now_ns) return mend(TopicPartition(id));
  }
  look_later();
}

void ReplicaRepair::mend(const TopicPartition& id) {
  Partition* partition = host_.find(id);
  if (partition == nullptr || partition->failed()) {
    damaged_.erase(id);
    return look_later();
  }
  mending_ = true;
  const std::weak_ptr<bool> still = alive_;
  partition->log()->repair(
      [this, id, still](Offset from, Offset to, UniqueFunction<void(Result<SharedBytes>)> done) {
        if (!still.expired()) fetch(id, from, to, std::move(done));
      },
      [this, id, still](const Result<uint64_t>& result) {
        if (!still.expired()) ended(id, result);
      });
}

void ReplicaRepair::ended(const TopicPartition& id, const Result<uint64_t>& result) {
  mending_ = false;
  Partition* partition = host_.find(id);
  if (partition == nullptr || partition->log()->damaged_ranges().empty()) damaged_.erase(id);
  auto found = damaged_.find(id);
  if (result.ok() && partition != nullptr) {
    if (*result == 0) {
      env_.log().info(partition->name(), ": what could not be read can be read again");
    } else {
      env_.log().info(partition->name(), ": mended damage, ", *result, " bytes came from other replicas");
    }
    host_.mended(*partition);
  }
  if (found != damaged_.end()) {
    Damaged& damage = found->second;
    damage.failures = result.ok() ? 0 : damage.failures + 1;
    damage.retry_ns = env_.clock().monotonic_ns();
    if (!result.ok()) {
      damage.retry_ns += std::min(kRetryNsMost, kRetryNsLeast << std::min(damage.failures, 10u));
      env_.log().warning(partition->name(), ": damage is not mended yet: ", result.status().to_string());
    }
  }
  look_later();
}

struct ReplicaRepair::Fetch {
  peer::RepairRangeRequest request;
  std::vector<BrokerId> brokers;  // to be asked, from the back
  Status last = Status(Errc::kNotFound, "there is no other replica");
  UniqueFunction<void(Result<SharedBytes>)> done;
};

void ReplicaRepair::fetch(const TopicPartition& id, Offset from, Offset to,
                          UniqueFunction<void(Result<SharedBytes>)> done) {
  auto fetch = std::make_shared<Fetch>();
  fetch->done = std::move(done);
  Partition* partition = host_.find(id);
  if (partition != nullptr && *host_.fetch_range) {
    const Offset limit = std::min(to, partition->high_watermark());
    fetch->request = {id, from, limit};
    const PartitionImage& image = partition->image();
    auto ask = [&](BrokerId broker) {
      const bool known = std::find(fetch->brokers.begin(), fetch->brokers.end(), broker) != fetch->brokers.end();
      if (broker != self_ && broker != kNoBroker && !known) fetch->brokers.push_back(broker);
    };
    if (from < limit) {
      ask(image.leader);
      for (BrokerId broker : image.isr) ask(broker);
      for (BrokerId broker : image.replicas) ask(broker);
    } else {
      fetch->last = Status(Errc::kNotFound, "offset " + std::to_string(from.value()) + " is not committed yet");
    }
    std::reverse(fetch->brokers.begin(), fetch->brokers.end());
  }
  ask_next(std::move(fetch));
}

void ReplicaRepair::ask_next(std::shared_ptr<Fetch> fetch) {
  if (fetch->brokers.empty()) {
    env_.executor().post([fetch] { fetch->done(std::move(fetch->last)); });
    return;
  }
  const BrokerId broker = fetch->brokers.back();
  fetch->brokers.pop_back();
  (*host_.fetch_range)(broker, fetch->request,
                       [this, fetch, still = std::weak_ptr<bool>(alive_)](Result<SharedBytes> answer) mutable {
                         if (still.expired()) return;
                         if (answer.ok() && !answer->empty()) return fetch->done(std::move(answer));
                         if (!answer.ok()) fetch->last = answer.status();
                         ask_next(std::move(fetch));
                       });
}

void ReplicaRepair::read_range(Env& env, Partition& partition, const peer::RepairRangeRequest& request,
                               UniqueFunction<void(Result<SharedBytes>)> done) {
  const Offset limit = std::min(request.to, partition.high_watermark());
  auto slice = std::make_shared<LogSlice>();
  Status status(Errc::kNotFound, partition.name() + " has nothing committed there");
  if (request.from < limit && !partition.failed()) {
    auto found = partition.log()->read(request.from, kRangeBytes, limit);
    status = found.status();
    if (found.ok()) *slice = std::move(*found);
    if (found.ok() && slice->first != request.from) {
      status = Status(Errc::kNotFound, partition.name() + ": no batch begins there");
    }
  }
  if (!status.ok()) {
    env.executor().post([done = std::move(done), status = std::move(status)]() mutable { done(std::move(status)); });
    return;
  }
  const FileSlice& range = slice->slice;
  if (slice->empty()) {
    env.executor().post([done = std::move(done)]() mutable { done(SharedBytes()); });
    return;
  }
  range.file->load(range.position, range.length, [slice, done = std::move(done)]() mutable {
    auto run = read_slice(*slice);
    done(run.ok() ? Result<SharedBytes>(std::move(run->bytes)) : Result<SharedBytes>(run.status()));
  });
}

// --- the scrub -------------------------------------------------------------------------------------------------------

void ReplicaRepair::after(int64_t delay_ns, void (ReplicaRepair::*next)()) {
  env_.executor().schedule_after(delay_ns, [this, next, still = std::weak_ptr<bool>(alive_)] {
    if (!still.expired()) (this->*next)();
  });
}

// Begins anywhere: a node that is started often does not look at the same logs only. As fast as it has to be for a pass
// to end in half its time.
void ReplicaRepair::begin_pass() {
  pass_began_ns_ = env_.clock().monotonic_ns();
  to_scrub_ = host_.all();
  uint64_t bytes = 0;
  for (const TopicPartition& id : to_scrub_) {
    if (Partition* partition = host_.find(id)) bytes += partition->log()->size_bytes();
  }
  const auto half_pass_s = static_cast<uint64_t>(std::max<int64_t>(1, options_.scrub_pass_ms / 2000));
  bytes_per_second_ = std::max(options_.scrub_bytes_per_second, bytes / half_pass_s);
  if (!to_scrub_.empty()) {
    const auto first = static_cast<std::ptrdiff_t>(env_.random().next() % to_scrub_.size());
    std::rotate(to_scrub_.begin(), to_scrub_.begin() + first, to_scrub_.end());
  }
  scrub();
}

void ReplicaRepair::scrub() {
  while (!to_scrub_.empty()) {
    const TopicPartition id = to_scrub_.back();
    Partition* partition = host_.find(id);
    if (partition == nullptr || partition->failed()) {
      to_scrub_.pop_back();
      continue;
    }
    return partition->log()->scrub(kScrubBytes, [this, id, still = std::weak_ptr<bool>(alive_)](uint64_t bytes) {
      if (!still.expired()) scrubbed(id, bytes);
    });
  }
  const int64_t next_pass_ns = pass_began_ns_ + options_.scrub_pass_ms * 1'000'000;
  after(std::max(kSecondNs, next_pass_ns - env_.clock().monotonic_ns()), &ReplicaRepair::begin_pass);
}

void ReplicaRepair::scrubbed(const TopicPartition& id, uint64_t bytes) {
  if (bytes == 0 && !to_scrub_.empty() && to_scrub_.back() == id) to_scrub_.pop_back();
  const double seconds = static_cast<double>(bytes) / static_cast<double>(bytes_per_second_);
  after(static_cast<int64_t>(seconds * 1e9), &ReplicaRepair::scrub);
}

}  // namespace trilog
