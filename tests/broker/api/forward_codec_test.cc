#include "broker/api/forward_codec.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <type_traits>
#include <utility>

#include "storage/base/codec.h"
#include "storage/base/crc32c.h"
#include "tests/broker/api/forward_examples.h"
#include "tests/broker/api/members.h"
#include "tests/support/hex.h"

namespace trilog::api {
namespace {

using testing::for_each_request;
using testing::for_each_result;
using testing::from_hex;
using testing::left_alone;
using testing::same;

constexpr Offset kApplied{4'711};

// A frame as it travels.
struct Sent {
  Bytes body;
  SharedBytes bulk;
};

template <typename Request>
ForwardedHeader header_of(const Request&) {
  return {Forwarded<Request>::kCall, 1'500'000'000, 42};
}
template <typename Request>
Sent send(const Request& request) {
  Sent sent{encode_forwarded(header_of(request), request), {}};
  if constexpr (std::is_same_v<Request, ProduceRequest>) sent.bulk = SharedBytes(Bytes::copy_of(request.record_batch));
  return sent;
}
template <typename Request>
Result<Request> receive(ByteView body, const SharedBytes& bulk) {
  ByteView rest;
  TRY(decode_forwarded_header(body, &rest));
  return decode_request<Request>(rest, bulk);
}
template <typename T>
Sent answer(const Answer<T>& result) {
  Sent sent;
  sent.body = encode_answer(kApplied, result, &sent.bulk);
  return sent;
}

// Calls `check(sent, receive)` for every request and result; `receive(body, bulk)` gives the Status of decoding, and
// has checked that what it could decode comes out of its own encoding again.
template <typename Check>
void for_each_body(Check check) {
  for_each_request([&](const auto& request) {
    using Request = std::decay_t<decltype(request)>;
    check(send(request), [](ByteView body, const SharedBytes& bulk) -> Status {
      Request decoded = TRY(receive<Request>(body, bulk));
      Sent again = send(decoded);
      EXPECT_TRUE(same(receive<Request>(again.body, again.bulk).value(), decoded));
      return {};
    });
  });
  for_each_result([&](const auto& result) {
    using T = std::decay_t<decltype(result)>;
    auto receive_answer = [](ByteView body, const SharedBytes& bulk) -> Status {
      Offset applied;
      Answer<T> decoded = TRY(decode_answer<T>(body, &applied, bulk));
      Sent again = answer<T>(decoded);
      Answer<T> back = decode_answer<T>(again.body, &applied, again.bulk).value();
      EXPECT_EQ(back.ok(), decoded.ok());
      EXPECT_TRUE(decoded.ok() ? same(back.value(), decoded.value()) : same(back.error(), decoded.error()));
      return {};
    };
    check(answer<T>(result), receive_answer);
    check(answer<T>(testing::example_error()), receive_answer);
  });
}

TEST(ForwardCodec, RequestsArriveAsTheyWereSent) {
  int kinds = 0;
  for_each_request([&](const auto& request) {
    using Request = std::decay_t<decltype(request)>;
    SCOPED_TRACE(++kinds);
    // What is local stays: records, their owner, sequence, deadline and leave to create; otherwise only deadlines.
    constexpr bool kHasDeadline = requires { request.deadline_ns; };
    EXPECT_EQ(left_alone(request), (std::is_same_v<Request, ProduceRequest> ? 5u : kHasDeadline ? 1u : 0u));
    Sent sent = send(request);
    ByteView rest;
    auto header = decode_forwarded_header(sent.body, &rest);
    ASSERT_TRUE(header.ok()) << header.status().to_string();
    EXPECT_EQ(header->call, Forwarded<Request>::kCall);
    EXPECT_EQ(static_cast<int>(header->call), kinds);
    EXPECT_EQ(header->remaining_ns, 1'500'000'000);
    EXPECT_EQ(header->id, 42u);
    auto decoded = decode_request<Request>(rest, sent.bulk);
    ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
    EXPECT_TRUE(same(*decoded, request));
    // And with nothing in it.
    auto empty = receive<Request>(send(Request()).body, {});
    ASSERT_TRUE(empty.ok()) << empty.status().to_string();
    EXPECT_TRUE(same(*empty, Request()));
  });
  EXPECT_EQ(kinds, static_cast<int>(ForwardedCall::kReplaceVoter));
}

TEST(ForwardCodec, AnswersArriveAsTheyWereSent) {
  int kinds = 0;
  for_each_result([&](const auto& result) {
    using T = std::decay_t<decltype(result)>;
    SCOPED_TRACE(++kinds);
    EXPECT_EQ(left_alone(result), 0u);
    Offset applied;
    Sent sent = answer<T>(result);
    auto decoded = decode_answer<T>(sent.body, &applied, sent.bulk);
    ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
    ASSERT_TRUE(decoded->ok());
    EXPECT_TRUE(same(decoded->value(), result));
    EXPECT_EQ(applied, kApplied);
    auto empty = decode_answer<T>(answer<T>(T()).body, &applied);
    ASSERT_TRUE(empty.ok() && empty->ok());
    EXPECT_TRUE(same(empty->value(), T()));
  });
}

TEST(ForwardCodec, ListsOfItemsThatAreNotFilledInArriveAsTheyWereSent) {
  FetchRequest fetch;
  fetch.positions.resize(3);
  EXPECT_TRUE(same(receive<FetchRequest>(send(fetch).body, {}).value(), fetch));
  Offset applied;
  ProduceResult result;
  result.positions.resize(2);
  EXPECT_TRUE(same(decode_answer<ProduceResult>(answer<ProduceResult>(result).body, &applied)->value(), result));
  std::vector<PartitionState> states(4);
  EXPECT_TRUE(same(
      decode_answer<std::vector<PartitionState>>(answer<std::vector<PartitionState>>(states).body, &applied)->value(),
      states));
  FetchResult fetched(2);
  EXPECT_TRUE(same(decode_answer<FetchResult>(answer<FetchResult>(fetched).body, &applied)->value(), fetched));
}

TEST(ForwardCodec, ErrorsArriveWhole) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::kDataDamaged); ++i) {
    Error error = testing::example_error();
    error.code = static_cast<ErrorCode>(i);
    Offset applied;
    auto decoded = decode_answer<Unit>(answer<Unit>(error).body, &applied);
    ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
    ASSERT_FALSE(decoded->ok());
    EXPECT_TRUE(same(decoded->error(), error));
    EXPECT_EQ(applied, kApplied);
  }
}

// An answer whose code has another name of the same length.
Error error_with_code_renamed(ErrorCode code, Outcome outcome, std::string_view name) {
  Bytes body = answer<Unit>(Error(code, outcome, "text")).body;
  const size_t at = as_text(body).find(error_code_name(code));
  CHECK_EQ(name.size(), error_code_name(code).size());
  std::memcpy(body.data() + at, name.data(), name.size());
  Offset applied;
  return decode_answer<Unit>(body, &applied)->error();
}

TEST(ForwardCodec, ErrorsOfANewerVersionKeepTheirMeaning) {
  Error error = error_with_code_renamed(ErrorCode::kThrottled, Outcome::kNotWritten, "EXHAUSTED");
  EXPECT_TRUE(error_code_retriable(error.code));
  EXPECT_EQ(error.outcome, Outcome::kNotWritten);
  EXPECT_EQ(error.message, "EXHAUSTED: text");
  EXPECT_EQ(error.details.at("code"), "EXHAUSTED");
  error = error_with_code_renamed(ErrorCode::kTopicExists, Outcome::kNotWritten, "TOPIC_EERIE_");
  EXPECT_FALSE(error_code_retriable(error.code));
  EXPECT_EQ(error_code_outcome(error.code), Outcome::kNotWritten);
  error = error_with_code_renamed(ErrorCode::kLeadershipLost, Outcome::kUnknown, "SOMETHING_WRONG");
  EXPECT_FALSE(error_code_retriable(error.code));
  EXPECT_EQ(error_code_outcome(error.code), Outcome::kUnknown);
  EXPECT_EQ(error.outcome, Outcome::kUnknown);
}

TEST(ForwardCodec, AFetchOfOnePartitionSharesItsBatches) {
  FetchResult one{testing::example_fetched(3, 40), {}};
  Sent sent = answer<FetchResult>(one);
  EXPECT_EQ(sent.bulk.view().data(), one[0].batches.view().data());
  FetchResult two{testing::example_fetched(3, 40), {}, testing::example_fetched(1, 9)};
  sent = answer<FetchResult>(two);
  EXPECT_EQ(sent.bulk.size(), two[0].batches.size() + two[2].batches.size());
  const std::byte* received = sent.bulk.view().data();
  Offset applied;
  FetchResult decoded = decode_answer<FetchResult>(sent.body, &applied, std::exchange(sent.bulk, {}))->value();
  EXPECT_EQ(decoded[0].batches.view().data(), received);
  EXPECT_EQ(decoded[2].batches.view().data(), received + two[0].batches.size());
  ASSERT_EQ(decoded[2].views.size(), 2u);
  EXPECT_EQ(decoded[2].views[1].base_offset(), Offset(11));
  EXPECT_TRUE(decoded[2].views[1].crc_matches());
}

TEST(ForwardCodec, BatchesThatAreNoneAreRefused) {
  Offset applied;
  auto refused = [&](FetchResult result) {
    Sent sent = answer<FetchResult>(result);
    return decode_answer<FetchResult>(sent.body, &applied, sent.bulk).status().code() == Errc::kCorruption;
  };
  FetchedPartition fetched = testing::example_fetched(3, 40);
  EXPECT_FALSE(refused({fetched}));
  FetchedPartition cut = fetched;
  cut.batches = cut.batches.slice(0, cut.batches.size() - 1);
  EXPECT_TRUE(refused({cut}));
  FetchedPartition twice = fetched;  // its offsets go back
  Bytes bytes = Bytes::copy_of(fetched.batches.view());
  bytes.append(fetched.batches);
  twice.batches = SharedBytes(std::move(bytes));
  EXPECT_TRUE(refused({twice}));
  FetchedPartition noise = fetched;
  noise.batches = SharedBytes(Bytes::copy_of(std::string(200, 'n')));
  EXPECT_TRUE(refused({noise}));
}

TEST(ForwardCodec, BodiesThatAreCutOrLongerAreRefused) {
  for_each_body([](const Sent& sent, auto receive_any) {
    EXPECT_TRUE(receive_any(sent.body, sent.bulk).ok());
    for (size_t size = 0; size < sent.body.size(); ++size)
      EXPECT_EQ(receive_any(sent.body.view().first(size), sent.bulk).code(), Errc::kCorruption) << size;
    Bytes longer = Bytes::copy_of(sent.body.view());
    longer.append(as_bytes(std::string(1, '\0')));
    EXPECT_EQ(receive_any(longer, sent.bulk).code(), Errc::kCorruption);
  });
}

TEST(ForwardCodec, ABulkThatIsNotTheOneSentIsRefused) {
  for_each_body([](const Sent& sent, auto receive_any) {
    Bytes bulk = Bytes::copy_of(sent.bulk.view());
    bulk.append(as_bytes("x"));
    EXPECT_EQ(receive_any(sent.body, SharedBytes(std::move(bulk))).code(), Errc::kCorruption);
    if (sent.bulk.empty()) return;
    EXPECT_EQ(receive_any(sent.body, {}).code(), Errc::kCorruption);
    EXPECT_EQ(receive_any(sent.body, sent.bulk.slice(0, sent.bulk.size() - 1)).code(), Errc::kCorruption);
    for (size_t i = 0; i < sent.bulk.size(); ++i) {
      Bytes flipped = Bytes::copy_of(sent.bulk.view());
      flipped.data()[i] ^= std::byte{4};
      EXPECT_EQ(receive_any(sent.body, SharedBytes(std::move(flipped))).code(), Errc::kCorruption) << i;
    }
  });
}

TEST(ForwardCodec, WhateverBytesArriveAreRefusedOrMeanSomething) {
  std::mt19937 random(20'240'607);
  size_t refused = 0;
  size_t taken = 0;
  for_each_body([&](const Sent& sent, auto receive_any) {
    for (int turn = 0; turn < 500; ++turn) {
      Bytes body = Bytes::copy_of(sent.body.view());
      for (unsigned flips = 1 + random() % 3; flips > 0; --flips)
        body.data()[random() % body.size()] = static_cast<std::byte>(random());
      ++(receive_any(body, sent.bulk).ok() ? taken : refused);
    }
  });
  EXPECT_GT(refused, 1'000u);
  EXPECT_GT(taken, 1'000u);
}

TEST(ForwardCodec, NewerVersionsAndUnknownCallsAreRefusedAsSuch) {
  for_each_body([](const Sent& sent, auto receive_any) {
    Bytes newer = Bytes::copy_of(sent.body.view());
    newer.data()[0] = std::byte{1};
    EXPECT_EQ(receive_any(newer, sent.bulk).code(), Errc::kUnsupported);
  });
  Bytes body = send(FindTopicRequest{"orders"}).body;
  ByteView rest;
  for (int call : {0, 22, 255}) {
    body.data()[1] = static_cast<std::byte>(call);
    EXPECT_EQ(decode_forwarded_header(body, &rest).status().code(), Errc::kUnsupported);
  }
}

// A claim of a group without a name, for `count` topics without names.
Bytes claim_of(uint64_t count, size_t there) {
  Bytes body = send(ClaimGroupRequest()).body;
  body.resize_uninitialized(body.size() - 4);  // count, stream, holder, renewed_from
  ByteWriter out(body);
  out.write_varint(count);
  for (size_t i = 0; i < there + 3; ++i) out.write<uint8_t>(0);
  return body;
}

TEST(ForwardCodec, CountsAndLengthsBeyondTheLimitsAreRefused) {
  EXPECT_TRUE(receive<ClaimGroupRequest>(claim_of(kForwardedItemsMax, kForwardedItemsMax), {}).ok());
  EXPECT_FALSE(receive<ClaimGroupRequest>(claim_of(kForwardedItemsMax + 1, kForwardedItemsMax + 1), {}).ok());
  EXPECT_FALSE(receive<ClaimGroupRequest>(claim_of(5, 0), {}).ok());
  EXPECT_FALSE(receive<ClaimGroupRequest>(claim_of(UINT64_MAX, 10), {}).ok());

  const Bytes shortest = send(FindTopicRequest()).body;
  for (size_t size : {kForwardedTextBytesMax, kForwardedTextBytesMax + 1}) {
    Bytes body = Bytes::copy_of(shortest.view().first(shortest.size() - 1));
    ByteWriter(body).write_text(std::string(size, 'n'));
    EXPECT_EQ(receive<FindTopicRequest>(body, {}).ok(), size == kForwardedTextBytesMax);
  }
  // A number that its field cannot hold, a flag that is neither.
  Bytes drain = send(DrainRequest{BrokerId(0)}).body;
  drain.resize_uninitialized(drain.size() - 2);
  ByteWriter(drain).write_signed_varint(int64_t{INT32_MAX} + 1);
  ByteWriter(drain).write<uint8_t>(0);
  EXPECT_FALSE(receive<DrainRequest>(drain, {}).ok());
  Bytes remove = send(DeleteGroupRequest()).body;
  remove.data()[remove.size() - 1] = std::byte{2};
  EXPECT_FALSE(receive<DeleteGroupRequest>(remove, {}).ok());
}

TEST(ForwardCodec, MapsAreInOrder) {
  Bytes body = send(CreateTopicRequest{.configs = {{"a", "1"}, {"b", "2"}}}).body;
  ASSERT_TRUE(receive<CreateTopicRequest>(body, {}).ok());
  const size_t second = as_text(body).find('b');
  for (char key : {'a', '_'}) {
    body.data()[second] = static_cast<std::byte>(key);
    EXPECT_FALSE(receive<CreateTopicRequest>(body, {}).ok());
  }
}

TEST(ForwardCodec, WhatDoesNotFitIntoAFrameIsNotSent) {
  EXPECT_TRUE(send(FindTopicRequest{std::string(kForwardedTextBytesMax + 1, 'n')}).body.empty());
  FetchRequest fetch;
  fetch.positions.resize(kForwardedItemsMax + 1);
  EXPECT_TRUE(send(fetch).body.empty());
  ClaimGroupRequest claim;
  claim.topics.assign(5, std::string(kForwardedTextBytesMax, 't'));
  EXPECT_TRUE(send(claim).body.empty());
  claim.topics.resize(3);
  EXPECT_FALSE(send(claim).body.empty());
}

TEST(ForwardCodec, AnAnswerThatDoesNotFitIntoAFrameIsAnError) {
  auto error_of = [](const auto& result) {
    using T = std::decay_t<decltype(result)>;
    Sent sent = answer<T>(result);
    EXPECT_TRUE(sent.bulk.empty());
    Offset applied;
    Answer<T> decoded = decode_answer<T>(sent.body, &applied).value();
    EXPECT_FALSE(decoded.ok());
    EXPECT_EQ(applied, kApplied);
    return decoded.error();
  };
  EXPECT_EQ(error_of(std::vector<ListedOffset>(kForwardedItemsMax + 1)).outcome, Outcome::kUnknown);
  FetchResult fetched(2);
  fetched[0].batches = fetched[1].batches = SharedBytes(Bytes::copy_of(std::string(kPeerBulkBytesMax / 2 + 1, 'b')));
  EXPECT_EQ(error_of(fetched).code, ErrorCode::kInvalidRequest);
  // An error's message is cut; an error that is too large in other ways is replaced.
  Offset applied;
  Error error(ErrorCode::kDiskFull, std::string(kForwardedTextBytesMax + 5, 'm'));
  Error cut = decode_answer<Unit>(answer<Unit>(error).body, &applied)->error();
  EXPECT_EQ(cut.code, ErrorCode::kDiskFull);
  EXPECT_EQ(cut.message.size(), kForwardedTextBytesMax);
  error.details.emplace("long", error.message);
  EXPECT_EQ(decode_answer<Unit>(answer<Unit>(error).body, &applied)->error().outcome, Outcome::kUnknown);
}

TEST(ForwardCodec, TheFormatIsFixed) {
  const ForwardedHeader header{ForwardedCall::kElectLeader, INT64_MAX, 300};
  EXPECT_TRUE(bytes_equal(encode_forwarded(header, ElectLeaderRequest{"orders", PartitionId(3), BrokerId(2), true}),
                          from_hex("00 12 feffffffffffffffff01 ac02 01 06 6f7264657273 06 01 04 01")));
  EXPECT_TRUE(bytes_equal(answer<DrainResult>(DrainResult{7, 2}).body, from_hex("00 ce49 01 0e 04")));
  Error error = Error(ErrorCode::kNotLeader, "no").with_detail("a", "b");
  EXPECT_TRUE(bytes_equal(answer<DrainResult>(error).body,
                          from_hex("00 ce49 00 0a 4e4f545f4c4541444552 01 00 02 6e6f 00 01 01 61 01 62")));
  uint32_t crc = 0;
  for_each_body([&](const Sent& sent, auto) { crc = crc32c(sent.body, crc); });
  EXPECT_EQ(crc, 0xe475ac4cu);
}

}  // namespace
}  // namespace trilog::api
