// Writes the seeds of forward_codec_fuzz into a corpus folder: forward_seeds DIRECTORY
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <type_traits>

#include "tests/broker/api/forward_examples.h"
#include "tests/fuzz/input.h"

namespace trilog::api {
namespace {

constexpr int kAnswer = 0x80;

void write_all(const std::string& corpus) {
  const std::string folder = corpus + "/forward_codec_fuzz/";
  std::filesystem::create_directories(folder);
  auto write = [&](const std::string& name, int how, ByteView bulk, ByteView body) {
    fuzz::InputWriter out;
    out.byte(static_cast<uint8_t>(how)).piece(bulk);
    std::ofstream(folder + name, std::ios::binary | std::ios::trunc) << out.text() << as_text(body);
  };
  testing::for_each_request([&](const auto& request) {
    using Request = std::decay_t<decltype(request)>;
    using T = typename Forwarded<Request>::Value;
    const auto call = static_cast<int>(Forwarded<Request>::kCall);
    ByteView bulk;
    if constexpr (std::is_same_v<Request, ProduceRequest>) bulk = request.record_batch;
    ForwardedHeader header{Forwarded<Request>::kCall, 1'000'000, 42};
    write("request_" + std::to_string(call), 0, bulk, encode_forwarded(header, request));
    testing::for_each_result([&](const auto& result) {
      if constexpr (std::is_same_v<std::decay_t<decltype(result)>, T>) {
        SharedBytes batches;
        Bytes body = encode_answer<T>(Offset(7), result, &batches);
        write("answer_" + std::to_string(call), kAnswer | call, batches, body);
      }
    });
  });
  write("error", kAnswer | static_cast<int>(ForwardedCall::kDrain), {},
        encode_answer<DrainResult>(Offset(7), testing::example_error()));
}

}  // namespace
}  // namespace trilog::api

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: forward_seeds DIRECTORY\n");
    return 2;
  }
  trilog::api::write_all(argv[1]);
  return 0;
}
