// A fetch of partitions that several nodes lead: one part for each node, all waiting at the same time. The first part
// that has something to give ends the wait of the others; what they have by then goes into the answer.
#include <algorithm>
#include <map>

#include "broker/forwarding.h"

namespace trilog {

using api::Error;
using api::ErrorCode;

namespace {

class FetchSplit final : public PendingFetch, public std::enable_shared_from_this<FetchSplit> {
 public:
  FetchSplit(BrokerImpl& broker, api::FetchRequest request, Broker::FetchId id, Broker::Done<api::FetchResult> done)
      : broker_(broker), request_(std::move(request)), id_(id), done_(std::move(done)) {
    result_.resize(request_.positions.size());
    for (size_t i = 0; i < result_.size(); ++i) {
      result_[i].topic = request_.positions[i].topic;
      result_[i].partition = request_.positions[i].partition;
    }
  }

  // Position `index` of the request is answered by that node.
  void add(BrokerId at, size_t index) { parts_[at].positions.push_back(index); }

  void begin() {
    pending_ = parts_.size();
    const auto count = static_cast<uint32_t>(parts_.size());
    for (auto& [at, part] : parts_) {
      api::FetchRequest request{.deadline_ns = request_.deadline_ns, .isolation = request_.isolation};
      request.bytes_min = std::max(request_.bytes_min / count, std::min(request_.bytes_min, 1u));
      request.bytes_max = std::min(std::max(request_.bytes_max / count, 1u), api::kForwardedFetchBytesMax);
      for (size_t index : part.positions) request.positions.push_back(request_.positions[index]);
      start(at, part, std::move(request));
    }
  }

  void cancel() override { end_waits(); }

 private:
  struct Part {
    std::vector<size_t> positions;
    Broker::FetchId here = 0;  // guarded by mutex_
  };

  void start(BrokerId at, Part& part, api::FetchRequest request) {
    if (at == broker_.self()) {
      auto id = broker_.fetch_here(std::move(request), [self = shared_from_this(), at](auto answer) mutable {
        self->arrived(at, std::move(answer));
      });
      std::unique_lock lock(mutex_);
      part.here = id;
      if (!ended_) return;
      lock.unlock();
      return broker_.cancel_fetch(id);
    }
    // A wait of nothing has its own moment: who does not wait for data waits for the answer all the same.
    const int64_t now_ns = broker_.clock().monotonic_ns();
    const int64_t deadline_ns = std::max(request.deadline_ns, now_ns);
    broker_.forward(at, 0, std::move(request), deadline_ns, id_,
                    [self = shared_from_this(), at](api::Answer<api::FetchResult> answer, Offset) mutable {
                      self->arrived(at, std::move(answer));
                    });
  }

  void arrived(BrokerId at, api::Answer<api::FetchResult> answer) {
    std::unique_lock lock(mutex_);
    const std::vector<size_t>& positions = parts_.at(at).positions;
    bool news = !answer.ok();
    for (size_t i = 0; i < positions.size(); ++i) {
      api::FetchedPartition& out = result_[positions[i]];
      if (answer.ok() && i < answer->size()) {
        out = std::move(answer.value()[i]);
      } else {
        out.error = answer.ok() ? Error(ErrorCode::kLeaderNotAvailable, "no answer") : answer.error();
        out.leader = at;
      }
      news = news || out.error || !out.batches.empty();
    }
    const bool last = --pending_ == 0;
    lock.unlock();
    if (last) return finish();
    if (news) end_waits();
  }

  void end_waits() {
    std::vector<Broker::FetchId> here;
    std::vector<BrokerId> there;
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(ended_, true)) return;
      for (const auto& [at, part] : parts_) {
        if (at != broker_.self()) {
          there.push_back(at);
        } else if (part.here != 0) {
          here.push_back(part.here);
        }
      }
    }
    for (Broker::FetchId id : here) broker_.cancel_fetch(id);
    for (BrokerId at : there) {
      broker_.forward(at, 0, api::CancelFetchRequest{id_}, broker_.clock().monotonic_ns() + kCancelNs, 0,
                      [](const api::Answer<api::Unit>&, Offset) {});
    }
  }

  void finish() {
    broker_.forget_fetch(id_);
    done_(std::move(result_));
  }

  static constexpr int64_t kCancelNs = 1'000'000'000;

  BrokerImpl& broker_;
  const api::FetchRequest request_;
  const Broker::FetchId id_;
  Broker::Done<api::FetchResult> done_;
  std::map<BrokerId, Part> parts_;  // fixed after begin(), but for what is guarded
  std::mutex mutex_;
  api::FetchResult result_;  // guarded by mutex_
  size_t pending_ = 0;       // guarded by mutex_
  bool ended_ = false;       // guarded by mutex_
};

std::optional<Error> check_fetch(const api::FetchRequest& request, const BrokerOptions& options) {
  if (request.positions.empty()) return Error(ErrorCode::kInvalidRequest, "no partitions: say which to read");
  if (request.positions.size() > options.positions_per_request_max) {
    return Error(ErrorCode::kInvalidRequest, std::to_string(request.positions.size()) +
                                                 " positions in one request; at most " +
                                                 std::to_string(options.positions_per_request_max) + " are allowed");
  }
  return std::nullopt;
}

std::vector<std::string> topics_of(const api::FetchRequest& request) {
  std::vector<std::string> names;
  for (const api::Position& position : request.positions) {
    if (names.empty() || names.back() != position.topic) names.push_back(position.topic);
  }
  return names;
}

const PartitionImage* partition_of(const MetadataImage& image, const api::Position& position) {
  const TopicImage* topic = image.find_topic(position.topic);
  const auto index = position.partition.value();
  if (topic == nullptr || index < 0 || index >= static_cast<int32_t>(topic->partitions.size())) return nullptr;
  return &topic->partitions[static_cast<size_t>(index)];
}

}  // namespace

Broker::FetchId BrokerImpl::fetch(api::FetchRequest request, Origin origin, Done<api::FetchResult> done) {
  using Answer = api::Answer<api::FetchResult>;
  std::optional<Error> error = not_serving();
  if (!error) error = check_fetch(request, options_);
  if (error) {
    answer(std::move(done), Answer(std::move(*error)));
    return 0;
  }
  if (transport_ == nullptr || origin == Origin::kPeer) return fetch_here(std::move(request), std::move(done));
  FetchId id = next_fetch_id();
  std::vector<std::string> names = topics_of(request);
  with_topics(
      std::move(names), origin,
      [this, id, request = std::move(request), done = std::move(done)](std::optional<Error> cannot_ask) mutable {
        if (cannot_ask) return answer(std::move(done), Answer(std::move(*cannot_ask)));
        fetch_everywhere(id, std::move(request), std::move(done));
      });
  return id;
}

void BrokerImpl::fetch_everywhere(FetchId id, api::FetchRequest request, Done<api::FetchResult> done) {
  using Answer = api::Answer<api::FetchResult>;
  ImagePtr now = image();
  std::vector<BrokerId> at;
  for (const api::Position& position : request.positions) {
    if (now->find_topic(position.topic) == nullptr) {
      return answer(std::move(done), Answer(unknown_topic(*now, position.topic)));
    }
    const PartitionImage* partition = partition_of(*now, position);
    // What is not there is refused here.
    at.push_back(partition == nullptr ? self() : elsewhere(*partition, Origin::kClient).value_or(self()));
    if (position.offset && position.offset->value() < 0) {
      return answer(std::move(done), Answer(Error(ErrorCode::kInvalidRequest,
                                                  "offset " + std::to_string(position.offset->value()) +
                                                      " is negative; leave it out to start at the first available "
                                                      "record")));
    }
  }
  auto split = std::make_shared<FetchSplit>(*this, std::move(request), id, std::move(done));
  for (size_t i = 0; i < at.size(); ++i) split->add(at[i], i);
  remember_fetch(split, id);
  split->begin();
}

// --- for another node
// --------------------------------------------------------------------------------------------------

void BrokerImpl::serve_fetch(BrokerId from, uint64_t id, api::FetchRequest request, Done<api::FetchResult> done) {
  const std::pair<BrokerId, uint64_t> key(from, id);
  auto finished = [this, key, done = std::move(done)](api::Answer<api::FetchResult> answer) mutable {
    {
      std::lock_guard lock(mutex_);
      forwarded_fetches_.erase(key);
    }
    done(std::move(answer));
  };
  {
    std::lock_guard lock(mutex_);
    forwarded_fetches_[key] = 0;
  }
  FetchId here = fetch(std::move(request), Origin::kPeer, std::move(finished));
  std::lock_guard lock(mutex_);
  auto found = forwarded_fetches_.find(key);
  if (found != forwarded_fetches_.end()) found->second = here;  // else it is done already
}

void BrokerImpl::cancel_forwarded_fetch(BrokerId from, uint64_t id) {
  FetchId here = 0;
  {
    std::lock_guard lock(mutex_);
    auto found = forwarded_fetches_.find({from, id});
    if (found != forwarded_fetches_.end()) here = found->second;
  }
  if (here != 0) cancel_fetch(here);
}

}  // namespace trilog
