#include "broker/grpc/consume_start.h"

#include <map>
#include <mutex>
#include <utility>

#include "broker/grpc/convert.h"
#include "broker/grpc/grpc_error.h"

namespace trilog::grpc_edge {
namespace {

api::Error invalid(std::string text) { return {api::ErrorCode::kInvalidRequest, std::move(text)}; }

api::OffsetSpec spec_of(v1::ListOffsetsRequest::Spec from) {
  return from == v1::ListOffsetsRequest::LATEST ? api::OffsetSpec::kLatest : api::OffsetSpec::kEarliest;
}

// Gathers the answers of several look-ups; lives in their callbacks.
class Resolver : public std::enable_shared_from_this<Resolver> {
 public:
  using Done = std::function<void(api::Answer<std::vector<ConsumeBeginning>>)>;
  using Place = std::pair<std::string, PartitionId>;

  Resolver(Broker& broker, Done done) : broker_(broker), done_(std::move(done)) {}

  void run(const v1::ConsumeRequest::Start& start) {
    std::vector<api::ListOffsetsRequest> lookups;
    for (const std::string& topic : start.topics()) {
      lookups.push_back({.topic = topic, .queries = {}, .spec = spec_of(start.from())});
    }
    api::ListOffsetsRequest by_spec{.topic = {}, .queries = {}, .spec = spec_of(start.from())};
    api::ListOffsetsRequest by_time{.topic = {}, .queries = {}, .spec = api::OffsetSpec::kTimestamp};
    for (const v1::Position& position : start.positions()) {
      PartitionId partition(position.partition());
      if (position.has_offset()) {
        fixed_[{position.topic(), partition}] = Offset(position.offset());
        // Looked up all the same: the topic and the partition must exist.
        by_spec.queries.push_back({position.topic(), partition, 0});
      } else if (position.has_timestamp_ms()) {
        by_time.queries.push_back({position.topic(), partition, position.timestamp_ms()});
      } else {
        by_spec.queries.push_back({position.topic(), partition, 0});
      }
    }
    if (!by_spec.queries.empty()) lookups.push_back(std::move(by_spec));
    if (!by_time.queries.empty()) lookups.push_back(std::move(by_time));
    pending_ = lookups.size() + (start.group().empty() ? 0 : 1);
    for (api::ListOffsetsRequest& lookup : lookups) {
      bool by_name = !lookup.topic.empty();
      broker_.list_offsets(std::move(lookup),
                           [self = shared_from_this(), by_name](api::Answer<std::vector<api::ListedOffset>> answer) {
                             self->on_offsets(std::move(answer), by_name);
                           });
    }
    if (start.group().empty()) return;
    broker_.fetch_offsets({.group = start.group(), .positions = {}},
                          [self = shared_from_this()](api::Answer<std::vector<api::CommittedOffset>> answer) {
                            self->on_committed(std::move(answer));
                          });
  }

 private:
  // What a position says about a partition goes before what holds for its whole topic, in whatever order they arrive.
  void on_offsets(api::Answer<std::vector<api::ListedOffset>> answer, bool by_name) {
    std::unique_lock lock(mutex_);
    if (!answer.ok()) {
      fail(answer.error());
    } else {
      for (const api::ListedOffset& offset : answer.value()) {
        if (offset.error) {
          fail(*offset.error);
        } else {
          Place place(offset.topic, offset.partition);
          if (by_name) {
            found_.emplace(place, offset.offset);
          } else {
            found_[place] = offset.offset;
          }
        }
      }
    }
    arrived(lock);
  }

  void on_committed(api::Answer<std::vector<api::CommittedOffset>> answer) {
    std::unique_lock lock(mutex_);
    if (!answer.ok()) {
      // A group that nobody has heard of yet has committed nothing.
      if (answer.error().code != api::ErrorCode::kUnknownGroup) fail(answer.error());
    } else {
      for (const api::CommittedOffset& offset : answer.value()) {
        if (!offset.error) committed_[{offset.topic, offset.partition}] = offset.offset;
      }
    }
    arrived(lock);
  }

  void fail(const api::Error& error) {
    if (!error_) error_ = error;
  }

  void arrived(std::unique_lock<std::mutex>& lock) {
    if (--pending_ > 0) return;
    lock.unlock();  // nobody else is left
    if (error_) return done_(std::move(*error_));
    std::vector<ConsumeBeginning> result;
    for (const auto& [place, offset] : found_) {
      auto fixed = fixed_.find(place);
      auto committed = committed_.find(place);
      Offset begin = fixed != fixed_.end() ? fixed->second : committed != committed_.end() ? committed->second : offset;
      result.push_back({place.first, place.second, begin});
    }
    done_(std::move(result));
  }

  Broker& broker_;
  Done done_;
  std::mutex mutex_;
  size_t pending_ = 0;
  std::optional<api::Error> error_;
  std::map<Place, Offset> found_;
  std::map<Place, Offset> fixed_;
  std::map<Place, Offset> committed_;
};

}  // namespace

std::optional<api::Error> check_consume_start(const v1::ConsumeRequest::Start& start, size_t positions_max) {
  if (start.topics_size() == 0 && start.positions_size() == 0) return invalid("start needs topics or positions");
  if (static_cast<size_t>(start.topics_size()) + static_cast<size_t>(start.positions_size()) > positions_max) {
    return invalid("more than " + std::to_string(positions_max) + " topics and positions in one stream");
  }
  if (!v1::ListOffsetsRequest::Spec_IsValid(start.from()) || start.from() == v1::ListOffsetsRequest::TIMESTAMP) {
    return invalid("from is EARLIEST or LATEST; for a time give positions with timestamp_ms");
  }
  for (const v1::Position& position : start.positions()) {
    std::string place = printable(position.topic(), 100) + "/" + std::to_string(position.partition());
    if (position.topic().empty()) return invalid("a position needs a topic");
    if (position.partition() < 0) return invalid("partition " + place + ": a partition is 0 or more");
    if (position.has_offset() && position.offset() < 0) {
      return invalid("offset " + std::to_string(position.offset()) + " in " + place +
                     ": an offset is 0 or more; leave it out for the first record that is there");
    }
  }
  return std::nullopt;
}

api::Answer<api::CommitOffsetsRequest> consume_commit_of(const v1::ConsumeRequest::Commit& commit,
                                                         const std::string& group, size_t offsets_max) {
  if (auto unknown = check_no_unknown_fields(commit)) return std::move(*unknown);
  if (group.empty()) return invalid("the stream was started without a group: nothing to commit for");
  auto offsets = commits_of(commit.offsets(), offsets_max);
  if (!offsets.ok()) return std::move(offsets.error());
  api::CommitOffsetsRequest request;
  request.group = group;
  request.offsets = std::move(offsets.value());
  return request;
}

void resolve_consume_start(Broker& broker, const v1::ConsumeRequest::Start& start,
                           std::function<void(api::Answer<std::vector<ConsumeBeginning>>)> done) {
  std::make_shared<Resolver>(broker, std::move(done))->run(start);
}

}  // namespace trilog::grpc_edge
