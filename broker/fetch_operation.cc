// Fetch and offset queries. Path (b) of docs/paths.md: read on every shard concerned; if that is too little, watch
// there until something changes, and read again.
#include <algorithm>

#include "broker/forwarding.h"

namespace trilog {

using api::Error;
using api::ErrorCode;

// One fetch. Lives in the callbacks that will still call it; its shards touch only their own entries of `result_`, and
// `mutex_` guards what they share.
class FetchOperation final : public PendingFetch, public std::enable_shared_from_this<FetchOperation> {
 public:
  FetchOperation(BrokerImpl& broker, api::FetchRequest request, Broker::FetchId id, Broker::Done<api::FetchResult> done)
      : broker_(broker), request_(std::move(request)), id_(id), done_(std::move(done)) {}

  // Resolves topics and sorts the positions by shard; an error concerns the whole call.
  std::optional<Error> prepare(const MetadataImage& image) {
    by_shard_.resize(broker_.shard_count());
    result_.resize(request_.positions.size());
    for (size_t i = 0; i < request_.positions.size(); ++i) {
      const api::Position& position = request_.positions[i];
      const TopicImage* topic = image.find_topic(position.topic);
      if (topic == nullptr) return BrokerImpl::unknown_topic(image, position.topic);
      if (position.offset && position.offset->value() < 0) {
        return Error(ErrorCode::kInvalidRequest, "offset " + std::to_string(position.offset->value()) +
                                                     " is negative; leave "
                                                     "it out to start at the first available record");
      }
      result_[i].topic = position.topic;
      result_[i].partition = position.partition;
      auto index = position.partition.value();
      if (index < 0 || index >= static_cast<int32_t>(topic->partitions.size())) {
        result_[i].error = BrokerImpl::unknown_partition(*topic, position.partition);
        continue;
      }
      result_[i].leader = topic->partitions[static_cast<size_t>(index)].leader;
      Part& part = by_shard_[broker_.shard_of({topic->id, position.partition})];
      part.reads.push_back({{topic->id, position.partition}, position.offset, position.leader_epoch});
      part.positions.push_back(i);
    }
    for (size_t shard = 0; shard < by_shard_.size(); ++shard) {
      if (!by_shard_[shard].reads.empty()) involved_.push_back(shard);
    }
    return std::nullopt;
  }

  void read_all() {
    if (involved_.empty()) return finish_on_shard(0);
    auto gather = std::make_shared<Gather>(involved_.size(), [self = shared_from_this()] { self->evaluate(); });
    for (size_t shard : involved_) {
      broker_.shard(shard).post([self = shared_from_this(), gather, shard] { self->read(shard, gather); });
    }
  }

  void refuse(Error error) { done_(std::move(error)); }

  void cancel() override {
    {
      std::lock_guard lock(mutex_);
      cancelled_ = true;
    }
    wake();
  }

 private:
  struct Part {
    std::vector<ReadRequest> reads;
    std::vector<size_t> positions;  // index of each read in the request
    WatchId watch = 0;              // on the shard's thread
  };
  struct ColdSlice {
    size_t read;  // of Part::reads
    LogSlice slice;
  };

  // On the shard's thread. What is in memory is read here and now; what is not, after helper threads have loaded it, so
  // that one reader of old records holds up nobody else.
  void read(size_t shard_index, const std::shared_ptr<Gather>& gather) {
    BrokerShard& shard = broker_.shard(shard_index);
    Part& part = by_shard_[shard_index];
    auto budget = static_cast<uint32_t>(std::max<size_t>(request_.bytes_max / involved_.size(), 1));
    std::vector<ReadPart> found = shard.replicas.read(part.reads, budget, request_.isolation);
    auto cold = std::make_shared<std::vector<ColdSlice>>();
    for (size_t i = 0; i < found.size(); ++i) {
      fill(result_[part.positions[i]], found[i]);
      if (found[i].error || found[i].slice.empty()) continue;
      Result<std::optional<BatchRun>> run = read_slice_cached(found[i].slice);
      if (run.ok() && !*run) {
        cold->push_back({i, std::move(found[i].slice)});
      } else {
        take(shard_index, i, found[i].slice, run.ok() ? Result<BatchRun>(std::move(**run)) : run.status());
      }
    }
    if (cold->empty()) return gather->arrived();
    shard.load_began();
    auto loaded = std::make_shared<Gather>(cold->size(), [self = shared_from_this(), shard_index, cold, gather] {
      for (const ColdSlice& each : *cold) self->take(shard_index, each.read, each.slice, read_slice(each.slice));
      BrokerShard& there = self->broker_.shard(shard_index);
      gather->arrived();
      there.load_ended();
    });
    for (const ColdSlice& each : *cold) {
      const FileSlice& range = each.slice.slice;
      range.file->load(range.position, range.length, [loaded] { loaded->arrived(); });
    }
  }

  // What a slice of this fetch turned out to hold.
  void take(size_t shard_index, size_t read, const LogSlice& slice, Result<BatchRun> run) {
    const Part& part = by_shard_[shard_index];
    api::FetchedPartition& out = result_[part.positions[read]];
    if (run.ok()) {
      out.batches = std::move(run->bytes);
      out.views = std::move(run->batches);
      out.next_offset = out.views.empty() ? out.asked_offset : run->next_offset;
      return;
    }
    // Damage is remembered by the partition, which then knows what to tell: where it ends and what is readable again.
    ReplicaManager& replicas = broker_.shard(shard_index).replicas;
    replicas.report_damage(part.reads[read].partition, slice, run.status());
    std::vector<ReadPart> again = replicas.read({part.reads[read]}, slice.slice.length, request_.isolation);
    out.error = again[0].error ? again[0].error : Error(ErrorCode::kDataDamaged, std::string(run.status().message()));
  }

  static void fill(api::FetchedPartition& out, const ReadPart& found) {
    out.asked_offset = found.asked;
    out.next_offset = found.asked;
    out.high_watermark = found.high_watermark;
    out.log_start = found.log_start;
    out.leader_epoch = found.leader_epoch;
    out.stale = found.stale;
    out.error = found.error;
    out.batches = SharedBytes();
    out.views.clear();
  }

  // All shards have read. On the thread of the last of them.
  void evaluate() {
    size_t bytes = 0;
    bool failed = false;
    for (const api::FetchedPartition& partition : result_) {
      bytes += partition.batches.size();
      failed = failed || partition.error.has_value();
    }
    bool time_up = request_.deadline_ns <= broker_.clock().monotonic_ns();
    {
      std::lock_guard lock(mutex_);
      time_up = time_up || cancelled_ || broker_.not_serving().has_value();
      woken_ = false;
    }
    if (failed || bytes >= request_.bytes_min || time_up) return finish_now();
    watch_all();
  }

  // Every shard watches its part; the first to stir ends the watches of all, and everything is read again.
  void watch_all() {
    auto gather = std::make_shared<Gather>(involved_.size(), [self = shared_from_this()] { self->read_all(); });
    for (size_t shard_index : involved_) {
      broker_.shard(shard_index).post([self = shared_from_this(), gather, shard_index] {
        Part& part = self->by_shard_[shard_index];
        // The remaining need is counted per shard: with several shards any news is worth another look.
        uint32_t wanted = self->involved_.size() == 1 ? self->request_.bytes_min : 1;
        part.watch = self->broker_.shard(shard_index)
                         .replicas.watch(part.reads, wanted, self->request_.isolation, self->request_.deadline_ns,
                                         [self, gather, shard_index] {
                                           self->by_shard_[shard_index].watch = 0;
                                           self->wake();
                                           gather->arrived();
                                         });
        std::unique_lock lock(self->mutex_);
        if (!self->woken_ && !self->cancelled_) return;
        lock.unlock();
        self->broker_.shard(shard_index).replicas.cancel_watch(part.watch);
      });
    }
  }

  void wake() {
    {
      std::lock_guard lock(mutex_);
      if (woken_) return;
      woken_ = true;
    }
    for (size_t shard_index : involved_) {
      broker_.shard(shard_index).post([self = shared_from_this(), shard_index] {
        WatchId watch = self->by_shard_[shard_index].watch;
        if (watch != 0) self->broker_.shard(shard_index).replicas.cancel_watch(watch);
      });
    }
  }

  void finish_on_shard(size_t shard) {
    broker_.shard(shard).post([self = shared_from_this()] { self->finish_now(); });
  }

  void finish_now() {
    broker_.forget_fetch(id_);
    done_(std::move(result_));
  }

  BrokerImpl& broker_;
  const api::FetchRequest request_;
  const Broker::FetchId id_;
  Broker::Done<api::FetchResult> done_;
  std::vector<Part> by_shard_;
  std::vector<size_t> involved_;
  api::FetchResult result_;
  std::mutex mutex_;
  bool woken_ = false;
  bool cancelled_ = false;
};

Broker::FetchId BrokerImpl::next_fetch_id() {
  std::lock_guard lock(mutex_);
  return next_fetch_++;
}

Broker::FetchId BrokerImpl::remember_fetch(const std::shared_ptr<PendingFetch>& fetch, FetchId id) {
  std::lock_guard lock(mutex_);
  fetches_.emplace(id, fetch);
  return id;
}

void BrokerImpl::forget_fetch(FetchId id) {
  std::lock_guard lock(mutex_);
  fetches_.erase(id);
}

// Of partitions that this node answers for.
Broker::FetchId BrokerImpl::fetch_here(api::FetchRequest request, Done<api::FetchResult> done) {
  FetchId id = next_fetch_id();
  auto operation = std::make_shared<FetchOperation>(*this, std::move(request), id, std::move(done));
  ImagePtr now = image();
  if (std::optional<Error> error = operation->prepare(*now)) {
    shards_[0]->post([operation, error = std::move(*error)]() mutable { operation->refuse(std::move(error)); });
    return 0;
  }
  remember_fetch(operation, id);
  operation->read_all();
  return id;
}

void BrokerImpl::cancel_fetch(FetchId fetch) {
  std::shared_ptr<PendingFetch> operation;
  {
    std::lock_guard lock(mutex_);
    auto it = fetches_.find(fetch);
    if (it != fetches_.end()) operation = it->second.lock();
  }
  if (operation) operation->cancel();
}

}  // namespace trilog
