// Bodies of the frames with which one broker passes a client's request on to another (PeerKind::kForward), and of the
// answers to them. Any node answers any request: one that does not lead forwards it, once, to the one that does.
//
//   request  version u8 = 0 | ForwardedHeader | the request's fields | if the frame has a bulk: its crc32c, u32
//   answer   version u8 = 0 | AnswerHeader | the result's fields, or an Error | likewise
//
// Numbers are varints (signed ones zigzag), ids of topics 16 bytes, flags and choices one byte; texts and lists begin
// with their length, optional fields with a flag. Records are not in the body but in the frame's bulk, one run after
// another; the body tells the length of each. An error's code travels as its name. Local things do not travel: moments
// of the monotonic clock, owners of memory, whether a topic may be created on the way.
//
// Decoding checks every length against the limits below and the bytes that are there before it allocates. Errors:
// kUnsupported: of a newer version, or a call that this version does not know; kCorruption: anything else, also bytes
// left over. Fields are only ever added at the end of a body, with a new version.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "broker/api/error_code.h"
#include "broker/api/peer_transport.h"
#include "broker/api/requests.h"
#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/status.h"

namespace trilog::api {

inline constexpr size_t kForwardedItemsMax = 100'000;       // of one list
inline constexpr size_t kForwardedTextBytesMax = 1u << 20;  // of one text; an error's message is cut
// Whoever forwards a fetch asks for no more: the last batch may reach beyond, and all must fit into a frame's bulk.
inline constexpr uint32_t kForwardedFetchBytesMax = kPeerBulkBytesMax / 2;

// Numbers travel between versions.
enum class ForwardedCall : uint8_t {
  kProduce = 1,
  kFetch = 2,
  kCancelFetch = 3,
  kListOffsets = 4,
  kCommitOffsets = 5,
  kFetchOffsets = 6,
  kClaimGroup = 7,
  kReleaseGroup = 8,
  kListGroups = 9,
  kDescribeGroup = 10,
  kDeleteGroup = 11,
  kCreateTopic = 12,
  kDeleteTopic = 13,
  kAlterTopic = 14,
  kTrimTopic = 15,
  kPartitionStates = 16,
  kMoveLeader = 17,
  kElectLeader = 18,
  kDrain = 19,
  kFindTopic = 20,
  kReplaceVoter = 21,
};

// In front of every request.
struct ForwardedHeader {
  ForwardedCall call = ForwardedCall::kProduce;
  int64_t remaining_ns = INT64_MAX;  // until the caller's deadline; INT64_MAX: there is none
  uint64_t id = 0;                   // of a fetch, for its cancellation
  // Of the metadata log: the last record that the caller has applied. Who answers waits until it has come as far, so
  // that it knows the topics and leaders that the caller knows.
  Offset applied = kNoOffset;
};
// In front of every answer.
struct AnswerHeader {
  Offset applied = kNoOffset;  // of the metadata log: the last record that the answering node has applied
  bool ok = false;             // a result follows, else an Error
};

// Requests that are plain arguments where they are made.
struct CancelFetchRequest {
  uint64_t id = 0;  // of the ForwardedHeader of the fetch
};
struct ReleaseGroupRequest {
  std::string group;
  StreamId stream = 0;
};
struct ListGroupsRequest {
  std::string prefix;
  uint32_t page_size = 0;
  std::string page_token;
};
struct GroupPage {
  std::vector<Group> groups;
  std::string next_page_token;
};
struct DescribeGroupRequest {
  std::string group;
};
struct DeleteGroupRequest {
  std::string group;
  bool validate_only = false;
};
struct PartitionStatesRequest {
  std::vector<TopicPartition> partitions;  // answered in this order
};
struct FindTopicRequest {
  std::string name;
};

// Which call a request makes, and what answers it: Forwarded<FetchRequest>::kCall, Forwarded<FetchRequest>::Value.
template <ForwardedCall call, typename Answered>
struct ForwardedAs {
  static constexpr ForwardedCall kCall = call;
  using Value = Answered;
};
template <typename Request>
struct Forwarded;
// clang-format off
template <> struct Forwarded<ProduceRequest> : ForwardedAs<ForwardedCall::kProduce, ProduceResult> {};
template <> struct Forwarded<FetchRequest> : ForwardedAs<ForwardedCall::kFetch, FetchResult> {};
template <> struct Forwarded<CancelFetchRequest> : ForwardedAs<ForwardedCall::kCancelFetch, Unit> {};
template <> struct Forwarded<ListOffsetsRequest>
    : ForwardedAs<ForwardedCall::kListOffsets, std::vector<ListedOffset>> {};
template <> struct Forwarded<CommitOffsetsRequest>
    : ForwardedAs<ForwardedCall::kCommitOffsets, std::vector<CommittedOffset>> {};
template <> struct Forwarded<FetchOffsetsRequest>
    : ForwardedAs<ForwardedCall::kFetchOffsets, std::vector<CommittedOffset>> {};
template <> struct Forwarded<ClaimGroupRequest> : ForwardedAs<ForwardedCall::kClaimGroup, GroupClaim> {};
template <> struct Forwarded<ReleaseGroupRequest> : ForwardedAs<ForwardedCall::kReleaseGroup, Unit> {};
template <> struct Forwarded<ListGroupsRequest> : ForwardedAs<ForwardedCall::kListGroups, GroupPage> {};
template <> struct Forwarded<DescribeGroupRequest> : ForwardedAs<ForwardedCall::kDescribeGroup, Group> {};
template <> struct Forwarded<DeleteGroupRequest> : ForwardedAs<ForwardedCall::kDeleteGroup, Unit> {};
template <> struct Forwarded<CreateTopicRequest> : ForwardedAs<ForwardedCall::kCreateTopic, CreateTopicResult> {};
template <> struct Forwarded<DeleteTopicRequest> : ForwardedAs<ForwardedCall::kDeleteTopic, bool> {};
template <> struct Forwarded<AlterTopicRequest> : ForwardedAs<ForwardedCall::kAlterTopic, AlterTopicResult> {};
template <> struct Forwarded<TrimTopicRequest> : ForwardedAs<ForwardedCall::kTrimTopic, std::vector<PartitionState>> {};
template <> struct Forwarded<PartitionStatesRequest>
    : ForwardedAs<ForwardedCall::kPartitionStates, std::vector<PartitionState>> {};
template <> struct Forwarded<MoveLeaderRequest> : ForwardedAs<ForwardedCall::kMoveLeader, MoveLeaderResult> {};
template <> struct Forwarded<ElectLeaderRequest> : ForwardedAs<ForwardedCall::kElectLeader, ElectLeaderResult> {};
template <> struct Forwarded<DrainRequest> : ForwardedAs<ForwardedCall::kDrain, DrainResult> {};
template <> struct Forwarded<ReplaceVoterRequest> : ForwardedAs<ForwardedCall::kReplaceVoter, Unit> {};
template <> struct Forwarded<FindTopicRequest> : ForwardedAs<ForwardedCall::kFindTopic, bool> {};
// clang-format on

// The body of a request; `header.call` must be the request's. Empty if it does not fit into a frame: then nothing can
// be sent. A ProduceRequest has record_batch and neither records nor sequence; its record_batch is the frame's bulk:
// move it there after this. Other requests have no bulk.
template <typename Request>
Bytes encode_forwarded(const ForwardedHeader& header, const Request& request);

// What a body begins with; `rest` is set to what is behind it, as decode_request() wants it.
Result<ForwardedHeader> decode_forwarded_header(ByteView body, ByteView* rest);
// Deadlines, and for ProduceRequest auto_create, are left at their defaults. The bulk is copied into record_batch.
template <typename Request>
Result<Request> decode_request(ByteView rest, const SharedBytes& bulk = {});

// The body of an answer. `bulk` is set to what belongs into the frame's bulk (empty but for a FetchResult, which needs
// it): the batches of a single partition as they are, those of several copied together. A result that does not fit into
// a frame is replaced by an error that says so, with outcome kUnknown.
template <typename T>
Bytes encode_answer(Offset applied, const Answer<T>& answer, SharedBytes* bulk = nullptr);
// `applied` is set if the body is sound, also from an error. The batches of a FetchResult are slices of `bulk`, their
// views made anew. An error with a code that this version does not know becomes one that means the same to who gets it
// (repeat, do not, unknown outcome); the name stands before its message and in its detail "code".
template <typename T>
Result<Answer<T>> decode_answer(ByteView body, Offset* applied, const SharedBytes& bulk = {});

}  // namespace trilog::api
