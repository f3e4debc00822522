// Arbitrary bytes as what one broker forwards to another. The first byte of the input says whether the rest is a
// request or an answer, and to which kind of request; then come the bulk, with its length, and the body. Whatever is
// taken must come out again from its own encoding.
#include <cstdint>
#include <type_traits>

#include "broker/api/forward_codec.h"
#include "storage/base/codec.h"
#include "storage/base/crc32c.h"
#include "tests/fuzz/input.h"

namespace trilog::api {
namespace {

// Calls `check` with a request of that kind, if there is one.
template <typename Check>
void with_request_of(ForwardedCall call, Check check) {
  switch (call) {
    case ForwardedCall::kProduce: return check(ProduceRequest());
    case ForwardedCall::kFetch: return check(FetchRequest());
    case ForwardedCall::kCancelFetch: return check(CancelFetchRequest());
    case ForwardedCall::kListOffsets: return check(ListOffsetsRequest());
    case ForwardedCall::kCommitOffsets: return check(CommitOffsetsRequest());
    case ForwardedCall::kFetchOffsets: return check(FetchOffsetsRequest());
    case ForwardedCall::kClaimGroup: return check(ClaimGroupRequest());
    case ForwardedCall::kReleaseGroup: return check(ReleaseGroupRequest());
    case ForwardedCall::kListGroups: return check(ListGroupsRequest());
    case ForwardedCall::kDescribeGroup: return check(DescribeGroupRequest());
    case ForwardedCall::kDeleteGroup: return check(DeleteGroupRequest());
    case ForwardedCall::kCreateTopic: return check(CreateTopicRequest());
    case ForwardedCall::kDeleteTopic: return check(DeleteTopicRequest());
    case ForwardedCall::kAlterTopic: return check(AlterTopicRequest());
    case ForwardedCall::kTrimTopic: return check(TrimTopicRequest());
    case ForwardedCall::kPartitionStates: return check(PartitionStatesRequest());
    case ForwardedCall::kMoveLeader: return check(MoveLeaderRequest());
    case ForwardedCall::kElectLeader: return check(ElectLeaderRequest());
    case ForwardedCall::kDrain: return check(DrainRequest());
    case ForwardedCall::kFindTopic: return check(FindTopicRequest());
    case ForwardedCall::kReplaceVoter: return check(ReplaceVoterRequest());
  }
}

template <typename Request>
void examine_request(const ForwardedHeader& header, ByteView rest, const SharedBytes& bulk) {
  Result<Request> request = decode_request<Request>(rest, bulk);
  if (!request.ok()) return;
  Bytes body = encode_forwarded(header, *request);
  ByteView again;
  ForwardedHeader back = decode_forwarded_header(body, &again).value();
  CHECK(back.call == header.call && back.remaining_ns == header.remaining_ns && back.id == header.id);
  Request decoded = decode_request<Request>(again, bulk).value();
  CHECK(bytes_equal(encode_forwarded(header, decoded), body));
}

template <typename T>
void examine_answer(ByteView body, const SharedBytes& bulk) {
  Offset applied;
  Result<Answer<T>> answer = decode_answer<T>(body, &applied, bulk);
  if (!answer.ok()) return;
  SharedBytes first_bulk;
  SharedBytes second_bulk;
  Bytes first = encode_answer(applied, *answer, &first_bulk);
  CHECK(bytes_equal(first_bulk, bulk));
  Offset applied_again;
  Answer<T> decoded = decode_answer<T>(first, &applied_again, first_bulk).value();
  CHECK_EQ(applied_again, applied);
  CHECK(decoded.ok() == answer->ok());
  CHECK(bytes_equal(encode_answer(applied, decoded, &second_bulk), first));
  CHECK(bytes_equal(second_bulk, bulk));
  if constexpr (std::is_same_v<T, FetchResult>) {
    if (!decoded.ok()) return;
    for (const FetchedPartition& partition : decoded.value()) {
      size_t viewed = 0;
      for (const RecordBatch& view : partition.views) viewed += view.size();
      CHECK_EQ(viewed, partition.batches.size());
    }
  }
}

}  // namespace
}  // namespace trilog::api

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trilog;
  using namespace trilog::api;
  fuzz::Input input(data, size);
  const uint8_t how = input.byte();
  const SharedBytes bulk(Bytes::copy_of(input.piece()));
  Bytes body = Bytes::copy_of(input.rest());
  // A bulk has its checksum at the end of the body: right, unless the input has one of its own.
  if ((how & 0x40) != 0) ByteWriter(body).write(crc32c(bulk));
  if ((how & 0x80) != 0) {
    with_request_of(static_cast<ForwardedCall>(how & 0x3f), [&](const auto& request) {
      examine_answer<typename Forwarded<std::decay_t<decltype(request)>>::Value>(body, bulk);
    });
    return 0;
  }
  ByteView rest;
  Result<ForwardedHeader> header = decode_forwarded_header(body, &rest);
  if (!header.ok()) return 0;
  with_request_of(header->call,
                  [&](const auto& request) { examine_request<std::decay_t<decltype(request)>>(*header, rest, bulk); });
  return 0;
}
