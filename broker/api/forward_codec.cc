#include "broker/api/forward_codec.h"

#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "broker/api/forward_fields.h"
#include "storage/base/codec.h"
#include "storage/base/crc32c.h"

namespace trilog::api {
namespace {

constexpr uint8_t kVersion = 0;

template <typename T>
concept Choice = std::is_enum_v<T>;
template <typename T>
concept HasFields = requires(T& value) {
  fields(value);
};

class Encoder {
 public:
  // What does not fit is noticed here, not by the other side: it could only tell that the body is not sound.
  bool finish() {
    uint32_t crc = 0;
    size_t bulk_bytes = 0;
    for (const SharedBytes& piece : pieces_) {
      crc = crc32c(piece, crc);
      bulk_bytes += piece.size();
    }
    if (!pieces_.empty()) out_.write(crc);
    return fits_ && body_.size() <= kPeerBodyBytesMax && bulk_bytes <= kPeerBulkBytesMax;
  }
  Bytes take_body() { return std::move(body_); }
  SharedBytes take_bulk() {
    if (pieces_.empty()) return {};
    if (pieces_.size() == 1) return std::move(pieces_.front());
    Bytes joined;
    for (const SharedBytes& piece : pieces_) joined.append(piece);
    return SharedBytes(std::move(joined));
  }

  template <std::integral T>
  void write(const T& number) {
    if constexpr (std::same_as<T, bool>) {
      out_.write<uint8_t>(number ? 1 : 0);
    } else if constexpr (std::signed_integral<T>) {
      out_.write_signed_varint(number);
    } else {
      out_.write_varint(number);
    }
  }
  template <Choice T>
  void write(const T& choice) {
    out_.write(static_cast<uint8_t>(choice));
  }
  template <typename Tag, typename Rep>
  void write(const StrongId<Tag, Rep>& id) {
    write(id.value());
  }
  template <typename Tag>
  void write(const Uuid<Tag>& id) {
    out_.write(id.high());
    out_.write(id.low());
  }
  void write(const std::string& text) { write_text(text); }
  void write(const SharedBytes& run) {
    out_.write_varint(run.size());
    if (!run.empty()) pieces_.push_back(run);
  }
  // Borrowed: a request outlives its encoder.
  void write(const Bytes& run) { write(SharedBytes(nullptr, run)); }
  template <typename T>
  void write(const std::optional<T>& value) {
    write(value.has_value());
    if (value) write(*value);
  }
  template <typename T>
  void write(const std::vector<T>& items) {
    write_count(items.size());
    for (const T& item : items) write(item);
  }
  template <typename T>
  void write(const std::map<std::string, T>& entries) {
    write_count(entries.size());
    for (const auto& [key, value] : entries) {
      write(key);
      write(value);
    }
  }
  template <HasFields T>
  void write(const T& value) {
    std::apply([this](const auto&... field) { (this->write(field), ...); }, fields(value));
  }
  void write(const Error& error) {
    write_text(error_code_name(error.code));
    write(error_code_retriable(error.code));
    write(error.outcome);
    write_text(std::string_view(error.message).substr(0, kForwardedTextBytesMax));
    write(error.retry_after_ms);
    write(error.details);
  }

 private:
  void write_text(std::string_view text) {
    fits_ = fits_ && text.size() <= kForwardedTextBytesMax;
    out_.write_text(text);
  }
  void write_count(size_t count) {
    fits_ = fits_ && count <= kForwardedItemsMax;
    out_.write_varint(count);
  }

  Bytes body_;
  ByteWriter out_{body_};
  std::vector<SharedBytes> pieces_;  // of the bulk, none empty
  bool fits_ = true;
};

// What an error with a code of a newer version means to who gets it.
ErrorCode nearest_code(bool retriable, Outcome outcome) {
  if (retriable) return ErrorCode::kLeaderNotAvailable;
  return outcome == Outcome::kUnknown ? ErrorCode::kStorageError : ErrorCode::kInvalidRequest;
}

// Once something is wrong every later read gives nothing, and finish() tells.
class Decoder {
 public:
  Decoder(ByteView body, const SharedBytes& bulk) : in_(body), bulk_(bulk) {}

  Status finish() {
    const uint32_t crc = bulk_.empty() ? 0 : in_.read<uint32_t>();
    const bool whole = in_.ok() && in_.at_end() && bulk_at_ == bulk_.size();
    if (whole && crc == crc32c(bulk_)) return {};
    return Status(Errc::kCorruption, "what another broker forwarded is cut short, damaged, or over a limit");
  }

  template <std::integral T>
  void read(T& number) {
    if constexpr (std::same_as<T, bool>) {
      number = byte_at_most(1) == 1;
    } else if constexpr (std::signed_integral<T>) {
      number = in_range<T>(in_.read_signed_varint());
    } else {
      number = in_range<T>(in_.read_varint());
    }
  }
  template <Choice T>
  void read(T& choice) {
    choice = static_cast<T>(byte_at_most(static_cast<uint8_t>(last_of(T()))));
  }
  template <typename Tag, typename Rep>
  void read(StrongId<Tag, Rep>& id) {
    Rep value = 0;
    read(value);
    id = StrongId<Tag, Rep>(value);
  }
  template <typename Tag>
  void read(Uuid<Tag>& id) {
    auto high = in_.read<uint64_t>();
    auto low = in_.read<uint64_t>();
    id = Uuid<Tag>(high, low);
  }
  void read(std::string& text) {
    std::string_view found = in_.read_text();
    if (found.size() > kForwardedTextBytesMax) return in_.fail();
    text = found;
  }
  void read(SharedBytes& run) {
    uint64_t size = in_.read_varint();
    if (size > bulk_.size() - bulk_at_) return in_.fail();
    run = bulk_.slice(bulk_at_, static_cast<size_t>(size));
    bulk_at_ += run.size();
  }
  void read(Bytes& run) {
    SharedBytes found;
    read(found);
    run = Bytes::copy_of(found.view());
  }
  template <typename T>
  void read(std::optional<T>& value) {
    bool there = false;
    read(there);
    if (there) read(value.emplace());
  }
  template <typename T>
  void read(std::vector<T>& items) {
    for (size_t left = count(); left > 0 && in_.ok(); --left) read(items.emplace_back());
  }
  // In the order of the keys, none twice: a map has one encoding.
  template <typename T>
  void read(std::map<std::string, T>& entries) {
    for (size_t left = count(); left > 0 && in_.ok(); --left) {
      std::string key;
      read(key);
      if (!entries.empty() && key <= entries.rbegin()->first) return in_.fail();
      read(entries.emplace_hint(entries.end(), std::move(key), T())->second);
    }
  }
  template <HasFields T>
  void read(T& value) {
    std::apply([this](auto&... field) { (this->read(field), ...); }, fields(value));
    if constexpr (std::same_as<T, FetchedPartition>) read_views(value);
  }
  void read(Error& error) {
    std::string name;
    bool retriable = false;
    read(name);
    read(retriable);
    read(error.outcome);
    read(error.message);
    read(error.retry_after_ms);
    read(error.details);
    std::optional<ErrorCode> code = error_code_from_name(name);
    error.code = code.value_or(nearest_code(retriable, error.outcome));
    if (code) return;
    error.message = name + ": " + error.message;
    error.details.emplace("code", name);
  }

 private:
  // Every item takes a byte at least, and memory comes as items do.
  size_t count() {
    uint64_t found = in_.read_varint();
    if (found > kForwardedItemsMax || found > in_.remaining()) {
      in_.fail();
      return 0;
    }
    return static_cast<size_t>(found);
  }
  uint8_t byte_at_most(uint8_t max) {
    auto found = in_.read<uint8_t>();
    if (found <= max) return found;
    in_.fail();
    return 0;
  }
  template <typename T, typename Wide>
  T in_range(Wide found) {
    if (std::in_range<T>(found)) return static_cast<T>(found);
    in_.fail();
    return 0;
  }
  void read_views(FetchedPartition& partition) {
    ByteView rest = partition.batches;
    Offset next{0};
    while (!rest.empty()) {
      Result<RecordBatch> batch = RecordBatch::parse(rest);
      if (!batch.ok() || batch->base_offset() < next) return in_.fail();
      next = batch->next_offset();
      rest = rest.subspan(batch->size());
      partition.views.push_back(*batch);
    }
  }

  ByteReader in_;
  SharedBytes bulk_;
  size_t bulk_at_ = 0;
};

// Of a body, which begins with it. `rest` is what comes behind.
Status check_version(ByteView body, ByteView* rest) {
  if (body.empty()) return Status(Errc::kCorruption, "what another broker forwarded is empty");
  const auto version = static_cast<uint8_t>(body.front());
  *rest = body.subspan(1);
  if (version <= kVersion) return {};
  return Status(Errc::kUnsupported, "another broker forwards in version " + std::to_string(version) +
                                        ", this one knows version " + std::to_string(kVersion));
}

}  // namespace

template <typename Request>
Bytes encode_forwarded(const ForwardedHeader& header, const Request& request) {
  CHECK(header.call == Forwarded<Request>::kCall);
  if constexpr (std::same_as<Request, ProduceRequest>) CHECK(request.records.empty() && !request.sequence);
  Encoder out;
  out.write(kVersion);
  out.write(header.call);
  out.write(header.remaining_ns);
  out.write(header.id);
  out.write(header.applied);
  out.write(request);
  return out.finish() ? out.take_body() : Bytes();
}

Result<ForwardedHeader> decode_forwarded_header(ByteView body, ByteView* rest) {
  TRY(check_version(body, rest));
  ByteReader in(*rest);
  ForwardedHeader header;
  const auto call = in.read<uint8_t>();
  header.call = static_cast<ForwardedCall>(call);
  header.remaining_ns = in.read_signed_varint();
  header.id = in.read_varint();
  header.applied = Offset(in.read_signed_varint());
  if (!in.ok()) return Status(Errc::kCorruption, "what another broker forwarded is cut short");
  if (call < static_cast<uint8_t>(ForwardedCall::kProduce) ||
      call > static_cast<uint8_t>(ForwardedCall::kReplaceVoter)) {
    return Status(Errc::kUnsupported, "another broker forwards call " + std::to_string(call) + ", unknown here");
  }
  *rest = rest->last(in.remaining());
  return header;
}

template <typename Request>
Result<Request> decode_request(ByteView rest, const SharedBytes& bulk) {
  Decoder in(rest, bulk);
  Request request;
  in.read(request);
  TRY(in.finish());
  return request;
}

template <typename T>
Bytes encode_answer(Offset applied, const Answer<T>& answer, SharedBytes* bulk) {
  Encoder out;
  out.write(kVersion);
  out.write(AnswerHeader{applied, answer.ok()});
  if (answer.ok()) {
    out.write(answer.value());
  } else {
    out.write(answer.error());
  }
  if (!out.finish()) {
    return encode_answer<T>(applied,
                            Error(ErrorCode::kInvalidRequest, Outcome::kUnknown,
                                  "the answer is too large to pass between brokers: ask for less at once, or ask the "
                                  "broker that leads"),
                            bulk);
  }
  SharedBytes run = out.take_bulk();
  CHECK(bulk != nullptr || run.empty());
  if (bulk != nullptr) *bulk = std::move(run);
  return out.take_body();
}

template <typename T>
Result<Answer<T>> decode_answer(ByteView body, Offset* applied, const SharedBytes& bulk) {
  ByteView rest;
  TRY(check_version(body, &rest));
  Decoder in(rest, bulk);
  AnswerHeader header;
  in.read(header);
  T value{};
  Error error;
  if (header.ok) {
    in.read(value);
  } else {
    in.read(error);
  }
  TRY(in.finish());
  *applied = header.applied;
  return header.ok ? Answer<T>(std::move(value)) : Answer<T>(std::move(error));
}

#define FORWARDED_REQUEST(Request)                                         \
  template Bytes encode_forwarded(const ForwardedHeader&, const Request&); \
  template Result<Request> decode_request(ByteView, const SharedBytes&);
FORWARDED_REQUEST(ProduceRequest)
FORWARDED_REQUEST(FetchRequest)
FORWARDED_REQUEST(CancelFetchRequest)
FORWARDED_REQUEST(ListOffsetsRequest)
FORWARDED_REQUEST(CommitOffsetsRequest)
FORWARDED_REQUEST(FetchOffsetsRequest)
FORWARDED_REQUEST(ClaimGroupRequest)
FORWARDED_REQUEST(ReleaseGroupRequest)
FORWARDED_REQUEST(ListGroupsRequest)
FORWARDED_REQUEST(DescribeGroupRequest)
FORWARDED_REQUEST(DeleteGroupRequest)
FORWARDED_REQUEST(CreateTopicRequest)
FORWARDED_REQUEST(DeleteTopicRequest)
FORWARDED_REQUEST(AlterTopicRequest)
FORWARDED_REQUEST(TrimTopicRequest)
FORWARDED_REQUEST(PartitionStatesRequest)
FORWARDED_REQUEST(MoveLeaderRequest)
FORWARDED_REQUEST(ElectLeaderRequest)
FORWARDED_REQUEST(DrainRequest)
FORWARDED_REQUEST(ReplaceVoterRequest)
FORWARDED_REQUEST(FindTopicRequest)
#undef FORWARDED_REQUEST

#define FORWARDED_RESULT(T)                                             \
  template Bytes encode_answer(Offset, const Answer<T>&, SharedBytes*); \
  template Result<Answer<T>> decode_answer(ByteView, Offset*, const SharedBytes&);
FORWARDED_RESULT(ProduceResult)
FORWARDED_RESULT(FetchResult)
FORWARDED_RESULT(std::vector<ListedOffset>)
FORWARDED_RESULT(std::vector<CommittedOffset>)
FORWARDED_RESULT(Unit)
FORWARDED_RESULT(GroupClaim)
FORWARDED_RESULT(GroupPage)
FORWARDED_RESULT(Group)
FORWARDED_RESULT(CreateTopicResult)
FORWARDED_RESULT(bool)
FORWARDED_RESULT(AlterTopicResult)
FORWARDED_RESULT(std::vector<PartitionState>)
FORWARDED_RESULT(MoveLeaderResult)
FORWARDED_RESULT(ElectLeaderResult)
FORWARDED_RESULT(DrainResult)
#undef FORWARDED_RESULT

}  // namespace trilog::api
