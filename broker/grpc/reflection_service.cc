#include "broker/grpc/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <array>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/grpc/stream_base.h"
#include "broker/grpc/wire.h"

namespace trilog::grpc_edge {
namespace {

// Field numbers of ServerReflectionRequest and ServerReflectionResponse.
enum : uint32_t {
  kFileByFilename = 3,
  kFileContainingSymbol = 4,
  kFileContainingExtension = 5,
  kAllExtensions = 6,
  kListServices = 7
};
enum : uint32_t { kValidHost = 1, kOriginalRequest = 2, kFileDescriptors = 4, kServices = 6, kErrorResponse = 7 };

constexpr std::array<std::string_view, 4> kServiceNames = {
    "trilog.v1.Broker", "trilog.v1.Admin", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"};

// The file and everything it imports, each once.
void add_file(const google::protobuf::FileDescriptor* file, std::set<std::string>& seen, Bytes& out) {
  if (file == nullptr || !seen.insert(file->name()).second) return;
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  WireWriter(out).present_bytes_field(1, as_bytes(proto.SerializeAsString()));
  for (int i = 0; i < file->dependency_count(); ++i) add_file(file->dependency(i), seen, out);
}

Bytes error_body(grpc::StatusCode code, const std::string& message) {
  Bytes body;
  WireWriter writer(body);
  writer.int_field(1, code);
  writer.bytes_field(2, as_bytes(message));
  return body;
}

// The field of the answer and its content.
std::pair<uint32_t, Bytes> answer_to(uint32_t question, const std::string& text) {
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  Bytes body;
  if (question == kListServices) {
    for (std::string_view name : kServiceNames) {
      Bytes service;
      WireWriter(service).bytes_field(1, as_bytes(name));
      WireWriter(body).present_bytes_field(1, service);
    }
    return {kServices, std::move(body)};
  }
  const google::protobuf::FileDescriptor* file = nullptr;
  if (question == kFileByFilename) file = pool->FindFileByName(text);
  if (question == kFileContainingSymbol) file = pool->FindFileContainingSymbol(text);
  if (file == nullptr) {
    return {kErrorResponse, error_body(grpc::StatusCode::NOT_FOUND, "nothing known under " + printable(text, 200))};
  }
  std::set<std::string> seen;
  add_file(file, seen, body);
  return {kFileDescriptors, std::move(body)};
}

class Reflection final : public StreamBase<Reflection> {
 public:
  Reflection(Edge& edge, RpcCall& call) : StreamBase(edge, call, "ServerReflectionInfo") {}
  void begin() { call().start_read(request_); }
  void ended() {}
  void drain() {
    std::lock_guard lock(mutex());
    if (!writing_) finish_with(*edge().refusal());
  }

 private:
  void on_read(bool ok) override {
    std::lock_guard lock(mutex());
    if (finished()) return;
    if (!ok) return finish_ok();
    if (!answer()) return finish_with({api::ErrorCode::kInvalidRequest, "not a ServerReflectionRequest"});
    writing_ = true;
    call().start_write(answer_, false);
  }

  bool answer() {
    auto message = ReceivedMessage::of(request_);
    if (!message) return false;
    uint32_t question = 0;
    std::string text;
    std::string host;
    Bytes original;
    while (auto tag = message->next()) {
      if (tag->type != WireType::kBytes) return false;
      ByteView value = message->bytes();
      WireWriter(original).present_bytes_field(tag->number, value);
      if (tag->number == 1) {
        host = std::string(as_text(value));
      } else {
        question = tag->number;
        text = std::string(as_text(value));
      }
    }
    if (!message->ok()) return false;
    auto [field, body] = answer_to(question, text);
    Bytes out;
    WireWriter writer(out);
    writer.bytes_field(kValidHost, as_bytes(host));
    writer.present_bytes_field(kOriginalRequest, original);
    writer.present_bytes_field(field, body);
    answer_ = buffer_of(std::move(out));
    return true;
  }

  void on_write(bool ok) override {
    std::lock_guard lock(mutex());
    writing_ = false;
    if (!ok) return finish_cancelled();
    if (edge().draining()) return finish_with(*edge().refusal());
    if (!finished()) call().start_read(request_);
  }
  void on_cancel() override {
    std::lock_guard lock(mutex());
    finish_cancelled();
  }

  grpc::ByteBuffer request_;
  grpc::ByteBuffer answer_;
  bool writing_ = false;
};

}  // namespace

void add_reflection_methods(Edge& edge, RpcMethods& methods) {
  for (const char* version : {"v1", "v1alpha"}) {
    methods["/grpc.reflection." + std::string(version) + ".ServerReflection/ServerReflectionInfo"] =
        [&edge](RpcCall& call) { return Reflection::start(edge, call); };
  }
}

}  // namespace trilog::grpc_edge
