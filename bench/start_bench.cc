// How long a broker takes from exec to the first acknowledged record: starts `trilog up` in an empty folder, connects
// as soon as the port answers, produces one record to a topic that does not exist yet (synced, made on the way) and
// stops the broker again. Prints the median and the slowest of --runs N, and how many failed. What gRPC's client needs
// to connect is part of the figure.
#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bench/limit_support.h"
#include "trilog/v1/broker.grpc.pb.h"

namespace trilog::bench {
namespace {

constexpr double kPatienceSeconds = 20;

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    die("a free port");
  }
  close(fd);
  return ntohs(address.sin_port);
}

bool answers(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = loopback(port);
  const bool connected = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return connected;
}

bool produce_one(int port) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt("start_bench", port);  // a channel of its own for each run
  const auto channel =
      grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), arguments);
  v1::ProduceRequest request;
  request.set_topic("first");
  request.add_records()->set_value("hello");
  v1::ProduceResponse response;
  grpc::Status status;
  // The port is open a moment before the broker serves; until then it says so, and a client tries again.
  for (int attempt = 0; attempt < 5000; ++attempt) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    status = v1::Broker::NewStub(channel)->Produce(&context, request, &response);
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) break;
    usleep(500);
  }
  const bool synced = status.ok() && response.failed() == 0 && response.durability() == "synced";
  if (!synced) std::fprintf(stderr, "%s %s\n", status.error_message().c_str(), response.ShortDebugString().c_str());
  return synced;
}

// Milliseconds from exec to the acknowledgement.
std::optional<double> one_start(const std::string& program, const std::string& directory) {
  std::string folder = directory + "/start-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) die(folder.c_str());
  const std::string port = std::to_string(free_port());
  const std::string data = folder + "/data";
  const double begin = now_seconds();
  const pid_t broker = fork();
  if (broker < 0) die("fork");
  if (broker == 0) {
    const int nothing = open("/dev/null", O_RDWR);
    dup2(nothing, 0);
    dup2(nothing, 1);
    execl(program.c_str(), program.c_str(), "up", "--data", data.c_str(), "--port", port.c_str(),
          static_cast<char*>(nullptr));
    _exit(127);
  }
  bool up = false;
  int ended = 0;
  while (!up && now_seconds() - begin < kPatienceSeconds && waitpid(broker, &ended, WNOHANG) == 0) {
    up = answers(std::stoi(port));
    if (!up) usleep(200);
  }
  std::optional<double> took;
  if (up && produce_one(std::stoi(port))) took = (now_seconds() - begin) * 1000;
  kill(broker, SIGTERM);
  waitpid(broker, &ended, 0);
  std::filesystem::remove_all(folder);
  return took;
}

int run(int argc, char** argv) {
  std::string program = "build/release/trilog";
  std::string directory = ".";
  int runs = 20;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--program") program = argv[i + 1];
    if (name == "--directory") directory = argv[i + 1];
    if (name == "--runs") runs = std::max(1, std::atoi(argv[i + 1]));
  }
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    if (const auto took = one_start(program, directory)) times.push_back(*took);
  }
  std::sort(times.begin(), times.end());
  const int failed = runs - static_cast<int>(times.size());
  if (times.empty()) {
    std::printf("start to first record           synced        %d of %d starts failed\n", failed, runs);
    return 1;
  }
  std::printf(
      "start to first record           synced        median %.1f ms  fastest %.1f ms  slowest %.1f ms  %d runs, %d "
      "failed\n",
      times[times.size() / 2], times.front(), times.back(), runs, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace trilog::bench

int main(int argc, char** argv) { return trilog::bench::run(argc, argv); }
