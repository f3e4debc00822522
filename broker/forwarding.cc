#include "broker/forwarding.h"

#include <algorithm>

namespace trilog {

using api::Answer;
using api::Error;
using api::ErrorCode;
using api::ForwardedCall;
using api::Outcome;

namespace {

// Behind the deadline there is still the way back.
constexpr int64_t kGraceNs = 20'000'000;
constexpr int64_t kLongestNs = 120'000'000'000;

bool changes_something(ForwardedCall call) {
  switch (call) {
    case ForwardedCall::kFetch:
    case ForwardedCall::kCancelFetch:
    case ForwardedCall::kListOffsets:
    case ForwardedCall::kFetchOffsets:
    case ForwardedCall::kClaimGroup:
    case ForwardedCall::kReleaseGroup:
    case ForwardedCall::kListGroups:
    case ForwardedCall::kDescribeGroup:
    case ForwardedCall::kPartitionStates:
    case ForwardedCall::kFindTopic: return false;
    default: return true;
  }
}

}  // namespace

Error no_answer(ForwardedCall call, BrokerId to, const Status& why) {
  const std::string text =
      "node " + std::to_string(to.value()) + ", which has to answer this: " + std::string(why.message());
  switch (why.code()) {
    case Errc::kBusy:
    case Errc::kUnsupported:  // it was not handled
      return Error(ErrorCode::kLeaderNotAvailable, text);
    default: break;
  }
  if (!changes_something(call)) return Error(ErrorCode::kLeaderNotAvailable, Outcome::kNotApplicable, text);
  return Error(ErrorCode::kLeadershipLost, Outcome::kUnknown, text);
}

int64_t forward_timeout_ns(int64_t now_ns, int64_t deadline_ns) {
  if (deadline_ns == INT64_MAX) return kLongestNs;
  return std::clamp<int64_t>(deadline_ns - now_ns, 0, kLongestNs) + kGraceNs;
}

std::optional<BrokerId> BrokerImpl::elsewhere(const PartitionImage& partition, Origin origin) const {
  if (transport_ == nullptr || origin == Origin::kPeer) return std::nullopt;
  if (partition.leader == self() || partition.leader == kNoBroker) return std::nullopt;
  // Of a leader that cannot be reached the own replica tells what it can (R16).
  if (!transport_->connected(partition.leader, PeerChannel::kBulk)) return std::nullopt;
  return partition.leader;
}

// --- what other nodes pass on to this one ----------------------------------------------------------------------------

namespace {

struct ForwardedCaller {
  PeerCalls& calls;
  BrokerId from;
  PeerChannel channel;
  PeerKind kind;
  uint64_t call;

  template <typename Value>
  void answer(Offset applied, const Answer<Value>& answer) const {
    PeerFrame question;
    question.kind = kind;
    question.call = call;
    SharedBytes bulk;
    Bytes body = api::encode_answer(applied, answer, &bulk);
    calls.answer(from, channel, question, std::move(body), std::move(bulk));
  }
};

}  // namespace

template <typename Request, typename Serve>
void BrokerImpl::serve_one(PeerEndpoint& endpoint, BrokerId from, PeerChannel channel, const PeerFrame& frame,
                           ByteView rest, Serve serve) {
  using Value = typename api::Forwarded<Request>::Value;
  Result<Request> request = api::decode_request<Request>(rest, frame.bulk);
  if (!request.ok()) return endpoint.calls.refuse(from, channel, frame, request.status().message());
  ForwardedCaller caller{endpoint.calls, from, channel, frame.kind, frame.call};
  serve(std::move(*request),
        Done<Value>([this, caller](Answer<Value> answer) { caller.answer(image()->applied(), answer); }));
}

void BrokerImpl::serve_forwarded(PeerEndpoint& endpoint, BrokerId from, PeerChannel channel, PeerFrame frame) {
  ByteView rest;
  Result<api::ForwardedHeader> header = api::decode_forwarded_header(frame.body, &rest);
  if (!header.ok()) {
    if (frame.call != 0) endpoint.calls.refuse(from, channel, frame, header.status().message());
    return;
  }
  PeerEndpoint::Held& held = endpoint.held[from];
  if (held.frames.empty() && image()->applied() >= header->applied) {
    return serve_forwarded(endpoint, from, channel, frame, *header, rest);
  }
  if (held.frames.size() >= PeerEndpoint::kHeldMax) {
    return endpoint.calls.refuse(from, channel, frame, "too many requests wait for newer metadata");
  }
  // What comes behind a request that waits must not overtake it: batches of a producer, commits of a group.
  const Offset applied = header->applied;
  const uint64_t number = held.begin + held.frames.size();
  held.frames.push_back({channel, std::move(frame), applied});
  when_applied(applied, [this, &endpoint, from, number] {
    endpoint.shard().post([this, &endpoint, from, number] { serve_held(endpoint, from, number); });
  });
}

// The wait of request `number` is over, be it that its time is.
void BrokerImpl::serve_held(PeerEndpoint& endpoint, BrokerId from, uint64_t number) {
  PeerEndpoint::Held& held = endpoint.held[from];
  if (number >= held.begin) held.frames[number - held.begin].waited = true;
  while (!held.frames.empty()) {
    PeerEndpoint::HeldFrame& front = held.frames.front();
    if (!front.waited && image()->applied() < front.applied) return;
    const PeerEndpoint::HeldFrame next = std::move(front);
    held.frames.pop_front();
    ++held.begin;
    ByteView fields;
    auto header = api::decode_forwarded_header(next.frame.body, &fields);
    CHECK(header.ok());
    serve_forwarded(endpoint, from, next.channel, next.frame, *header, fields);
  }
}

void BrokerImpl::serve_forwarded(PeerEndpoint& endpoint, BrokerId from, PeerChannel channel, const PeerFrame& frame,
                                 const api::ForwardedHeader& header, ByteView rest) {
  const int64_t deadline_ns = header.remaining_ns == INT64_MAX
                                  ? INT64_MAX
                                  : clock().monotonic_ns() + std::clamp<int64_t>(header.remaining_ns, 0, kLongestNs);
  auto serve = [&]<typename Request>(std::type_identity<Request>, auto with) {
    serve_one<Request>(endpoint, from, channel, frame, rest, std::move(with));
  };
  constexpr Origin kPeer = Origin::kPeer;
  switch (header.call) {
    case ForwardedCall::kProduce:
      return serve(std::type_identity<api::ProduceRequest>(), [&](api::ProduceRequest request, auto done) {
        request.deadline_ns = deadline_ns;
        request.auto_create = false;
        produce(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kFetch:
      return serve(std::type_identity<api::FetchRequest>(), [&](api::FetchRequest request, auto done) {
        request.deadline_ns = deadline_ns;
        serve_fetch(from, header.id, std::move(request), std::move(done));
      });
    case ForwardedCall::kCancelFetch:
      return serve(std::type_identity<api::CancelFetchRequest>(), [&](api::CancelFetchRequest request, auto done) {
        cancel_forwarded_fetch(from, request.id);
        answer(std::move(done), Answer<api::Unit>(api::Unit{}));
      });
    case ForwardedCall::kListOffsets:
      return serve(std::type_identity<api::ListOffsetsRequest>(), [&](api::ListOffsetsRequest request, auto done) {
        list_offsets(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kCommitOffsets:
      return serve(std::type_identity<api::CommitOffsetsRequest>(), [&](api::CommitOffsetsRequest request, auto done) {
        request.deadline_ns = deadline_ns;
        commit_offsets(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kFetchOffsets:
      return serve(std::type_identity<api::FetchOffsetsRequest>(), [&](api::FetchOffsetsRequest request, auto done) {
        fetch_offsets(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kClaimGroup:
      return serve(std::type_identity<api::ClaimGroupRequest>(), [&](api::ClaimGroupRequest request, auto done) {
        claim_at_coordinator(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kReleaseGroup:
      return serve(std::type_identity<api::ReleaseGroupRequest>(), [&](api::ReleaseGroupRequest request, auto done) {
        release_group(std::move(request.group), request.stream, kPeer, 0);
        answer(std::move(done), Answer<api::Unit>(api::Unit{}));
      });
    case ForwardedCall::kListGroups:
      return serve(std::type_identity<api::ListGroupsRequest>(), [&](api::ListGroupsRequest request, auto done) {
        list_groups_here(std::move(request), std::move(done));
      });
    case ForwardedCall::kDescribeGroup:
      return serve(std::type_identity<api::DescribeGroupRequest>(), [&](api::DescribeGroupRequest request, auto done) {
        describe_group(std::move(request.group), kPeer, std::move(done));
      });
    case ForwardedCall::kDeleteGroup:
      return serve(std::type_identity<api::DeleteGroupRequest>(), [&](api::DeleteGroupRequest request, auto done) {
        delete_group(std::move(request.group), request.validate_only, kPeer, std::move(done));
      });
    case ForwardedCall::kCreateTopic:
      return serve(std::type_identity<api::CreateTopicRequest>(), [&](api::CreateTopicRequest request, auto done) {
        change_metadata(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kDeleteTopic:
      return serve(std::type_identity<api::DeleteTopicRequest>(), [&](api::DeleteTopicRequest request, auto done) {
        change_metadata(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kAlterTopic:
      return serve(std::type_identity<api::AlterTopicRequest>(), [&](api::AlterTopicRequest request, auto done) {
        change_metadata(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kMoveLeader:
      return serve(std::type_identity<api::MoveLeaderRequest>(), [&](api::MoveLeaderRequest request, auto done) {
        change_metadata(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kElectLeader:
      return serve(std::type_identity<api::ElectLeaderRequest>(), [&](api::ElectLeaderRequest request, auto done) {
        change_metadata(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kDrain:
      return serve(std::type_identity<api::DrainRequest>(),
                   [&](api::DrainRequest request, auto done) { change_metadata(request, kPeer, std::move(done)); });
    case ForwardedCall::kReplaceVoter:
      return serve(std::type_identity<api::ReplaceVoterRequest>(), [&](api::ReplaceVoterRequest request, auto done) {
        change_metadata(request, kPeer, std::move(done));
      });
    case ForwardedCall::kTrimTopic:
      return serve(std::type_identity<api::TrimTopicRequest>(), [&](api::TrimTopicRequest request, auto done) {
        trim_topic(std::move(request), kPeer, std::move(done));
      });
    case ForwardedCall::kPartitionStates:
      return serve(std::type_identity<api::PartitionStatesRequest>(),
                   [&](const api::PartitionStatesRequest& request, auto done) {
                     partition_states_here(request.partitions, std::move(done));
                   });
    case ForwardedCall::kFindTopic:
      return serve(std::type_identity<api::FindTopicRequest>(), [&](api::FindTopicRequest request, auto done) {
        change_metadata(std::move(request), kPeer, std::move(done));
      });
  }
}

}  // namespace trilog
