#include "broker/grpc/acceptor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "broker/grpc/listen_address.h"
#include "tests/support/temp_dir.h"

namespace trilog::grpc_edge {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::TempDir;

constexpr char kServed = 's';
constexpr char kBroken = 'b';

// A server that greets each connection it is given with one byte, and keeps it until the client is gone.
class Greeter {
 public:
  Greeter(
      const std::string& path, Acceptor::Options options, std::function<char()> greeting = [] { return kServed; })
      : greeting_(std::move(greeting)), acceptor_(std::move(options), [this](int, OwnedFd connection) {
          char byte = greeting_();
          EXPECT_EQ(::write(connection.get(), &byte, 1), 1);
          std::lock_guard lock(mutex_);
          held_.push_back(std::move(connection));
        }) {
    std::vector<OwnedFd> listeners;
    Result<OwnedFd> listener = listen_on_unix(path);
    EXPECT_TRUE(listener.ok()) << listener.status().to_string();
    listeners.push_back(std::move(*listener));
    Status started = acceptor_.start(std::move(listeners));
    EXPECT_TRUE(started.ok()) << started.to_string();
  }
  // Closes what its client closed.
  void sweep() {
    std::lock_guard lock(mutex_);
    std::erase_if(held_, [](const OwnedFd& connection) {
      char byte = 0;
      return ::recv(connection.get(), &byte, 1, MSG_DONTWAIT) == 0;
    });
  }
  int held_number(size_t i) {
    std::lock_guard lock(mutex_);
    return held_.at(i).get();
  }
  void close_number(size_t i) {
    std::lock_guard lock(mutex_);
    held_.at(i).reset();
  }
  Acceptor& acceptor() { return acceptor_; }

 private:
  std::function<char()> greeting_;
  std::mutex mutex_;
  std::vector<OwnedFd> held_;
  Acceptor acceptor_;
};

struct Connection {
  explicit Connection(const std::string& path) : fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    connected = ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  int greeting() const {
    char byte = 0;
    return ::read(fd.get(), &byte, 1) == 1 ? byte : 0;
  }
  OwnedFd fd;
  bool connected = false;
};

// The client's end: what the server says to it, 0 if it closed the connection without a word, -1 without a connection.
struct Client {
  explicit Client(const std::string& path) : connection(path) {
    greeting = connection.connected ? connection.greeting() : -1;
  }
  bool served() const { return greeting == kServed; }
  Connection connection;
  int greeting;
};

// A child process with few descriptors. It does what one byte of the parent says, and answers each with another.
class Child {
 public:
  using Serve = std::function<char(char order)>;
  Child(rlim_t descriptors, std::function<Serve()> start) {
    int orders[2];
    int answers[2];
    EXPECT_EQ(::pipe2(orders, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(answers, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(orders[1]);
      ::close(answers[0]);
      rlimit limit{descriptors, descriptors};
      if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::_exit(1);
      Serve serve = start();
      for (char order = 0; ::read(orders[0], &order, 1) == 1;) {
        char answer = serve(order);
        if (::write(answers[1], &answer, 1) != 1) ::_exit(2);
      }
      ::_exit(::testing::Test::HasFailure() ? 3 : 0);
    }
    ::close(orders[0]);
    ::close(answers[1]);
    orders_ = OwnedFd(orders[1]);
    answers_ = OwnedFd(answers[0]);
  }
  ~Child() {
    orders_.reset();
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  char order(char what) {
    EXPECT_EQ(::write(orders_.get(), &what, 1), 1);
    char answer = 0;
    EXPECT_EQ(::read(answers_.get(), &answer, 1), 1) << "the child has ended";
    return answer;
  }

 private:
  pid_t pid_ = 0;
  OwnedFd orders_;
  OwnedFd answers_;
};

std::vector<OwnedFd> open_all(size_t count_max = SIZE_MAX) {
  std::vector<OwnedFd> opened;
  while (opened.size() < count_max) {
    OwnedFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!fd) break;
    opened.push_back(std::move(fd));
  }
  return opened;
}

class LogLines {
 public:
  Logger logger() {
    return Logger([this](LogLevel level, std::string_view line) {
      std::lock_guard lock(mutex_);
      lines_.emplace_back(std::string(log_level_name(level)) + " " + std::string(line));
      came_.notify_all();
    });
  }
  void wait() {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [this] { return !lines_.empty(); });
  }
  std::vector<std::string> lines() {
    std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<std::string> lines_;
};

constexpr rlim_t kFew = 64;

TEST(Acceptor, KeepsDescriptorsForTheLogHoweverManyClientsComeAndServesOthersWhenTheyAreGone) {
  TempDir folder;
  std::string path = folder / "s";
  Child child(kFew, [&]() -> Child::Serve {
    // As the log would, at the worst moment: beside each connection.
    auto greeting = [] {
      size_t reserved = reserved_descriptors(kFew);
      return open_all(reserved).size() == reserved ? kServed : kBroken;
    };
    auto* greeter = new Greeter(path, {.connections_max = 1'000, .log = {}}, greeting);  // ends with the process
    return [greeter](char order) {
      greeter->sweep();
      return order;
    };
  });
  child.order('?');  // it listens
  for (int round = 0; round < 3; ++round) {
    std::vector<Client> clients;
    size_t served = 0;
    for (int i = 0; i < 200; ++i) {
      served += clients.emplace_back(path).served() ? 1 : 0;
      ASSERT_NE(clients.back().greeting, kBroken) << "after " << i;
      ASSERT_NE(clients.back().greeting, -1) << "after " << i;
    }
    EXPECT_GT(served, 20u);
    EXPECT_LE(served, kFew - reserved_descriptors(kFew));
    clients.clear();
    child.order('?');
    EXPECT_TRUE(Client(path).served()) << "round " << round;
  }
}

TEST(Acceptor, RefusesAndGoesOnWithoutAnyFreeDescriptor) {
  TempDir folder;
  std::string path = folder / "s";
  Child child(kFew, [&]() -> Child::Serve {
    auto* greeter = new Greeter(path, {.connections_max = 1'000, .log = {}});
    return [greeter, taken = std::make_shared<std::vector<OwnedFd>>()](char order) {
      greeter->sweep();
      if (order == 'f') taken->clear();
      if (order == 't') *taken = open_all();
      return order;
    };
  });
  child.order('?');
  EXPECT_TRUE(Client(path).served());
  for (int round = 0; round < 3; ++round) {
    child.order('t');
    for (int i = 0; i < 10; ++i) EXPECT_EQ(Client(path).greeting, 0) << "a clear refusal, not silence";
    child.order('f');
    EXPECT_TRUE(Client(path).served()) << "round " << round;
  }
}

TEST(Acceptor, WaitsForADescriptorWhenNotEvenTheSpareOneIsLeft) {
  TempDir folder;
  std::string path = folder / "s";
  Child child(kFew, [&]() -> Child::Serve {
    auto* log = new LogLines;
    new Greeter(path, {.connections_max = 1'000, .log = log->logger()});  // ends with the process
    return [log](char order) {
      if (order == 'w') {
        log->wait();
        return order;
      }
      // A limit below the numbers that are in use: nothing can be opened, not even what replaces the spare one.
      rlimit limit{order == 'n' ? 3 : kFew, kFew};
      EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
      return order;
    };
  });
  child.order('n');
  Connection waiting(path);
  ASSERT_TRUE(waiting.connected);
  child.order('w');
  child.order('f');
  EXPECT_EQ(waiting.greeting(), kServed) << "it waited its turn";
  EXPECT_TRUE(Client(path).served());
}

TEST(Acceptor, RefusesMoreConnectionsThanTheLimitAndTakesOthersInTheirPlace) {
  TempDir folder;
  LogLines log;
  Greeter greeter(folder / "s", {.connections_max = 3, .log = log.logger()});
  std::vector<Client> clients;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(clients.emplace_back(folder / "s").served());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Client(folder / "s").greeting, 0);
  ASSERT_EQ(log.lines().size(), 1u) << "one line for a crowd";
  EXPECT_THAT(log.lines()[0],
              AllOf(StartsWith("warning connection refused"), HasSubstr("3, the limit (connections_max)")));
  // Something else has the number of the one that is gone, so that only a look at it tells.
  int number = greeter.held_number(1);
  greeter.close_number(1);
  OwnedFd other(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  OwnedFd another(::fcntl(other.get(), F_DUPFD_CLOEXEC, number));
  bool served = false;
  while (!served) {  // within a tenth of a second
    clients.emplace_back(folder / "s");
    served = clients.back().served();
    if (!served) clients.pop_back();
  }
  EXPECT_EQ(Client(folder / "s").greeting, 0);
}

TEST(Acceptor, LeavesNobodyConnectedThatCameAfterItsEnd) {
  TempDir folder;
  Greeter greeter(folder / "s", {.connections_max = 10, .log = {}});
  EXPECT_TRUE(Client(folder / "s").served());
  greeter.acceptor().stop();
  EXPECT_EQ(Client(folder / "s").greeting, -1);
  greeter.acceptor().stop();
}

TEST(ListenAddress, SocketsArePassedOnReadyForUse) {
  Result<std::vector<ListenSocket>> sockets = listen_on({"127.0.0.1:0"});
  ASSERT_TRUE(sockets.ok()) << sockets.status().to_string();
  std::promise<OwnedFd> accepted;
  Acceptor acceptor({}, [&](int, OwnedFd connection) { accepted.set_value(std::move(connection)); });
  std::vector<OwnedFd> listeners;
  int port = sockets->front().address.port;
  listeners.push_back(std::move(sockets->front().fd));
  ASSERT_TRUE(acceptor.start(std::move(listeners)).ok());
  OwnedFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  OwnedFd connection = accepted.get_future().get();
  auto option = [&](int name) {
    int value = 0;
    socklen_t size = sizeof value;
    EXPECT_EQ(::getsockopt(connection.get(), IPPROTO_TCP, name, &value, &size), 0);
    return value;
  };
  EXPECT_NE(option(TCP_NODELAY), 0);
  EXPECT_EQ(option(TCP_USER_TIMEOUT), 10'000);
  EXPECT_NE(::fcntl(connection.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(connection.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ListenAddress, AllInterfacesOfOneFamilyAreThoseOfBothWithOnePort) {
  OwnedFd probe(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  for (const char* listen : {"0.0.0.0:0", ":0", "[::]:0"}) {
    Result<std::vector<ListenSocket>> sockets = listen_on({listen});
    if (!sockets.ok() && !probe) continue;  // "[::]" alone on a machine that has no IPv6 at all
    ASSERT_TRUE(sockets.ok()) << sockets.status().to_string();
    EXPECT_EQ(sockets->size(), probe ? 2u : 1u) << listen;
    for (const ListenSocket& socket : *sockets) {
      EXPECT_EQ(socket.address.port, sockets->front().address.port);
      EXPECT_GT(socket.address.port, 0);
    }
    EXPECT_EQ(sockets->front().address.is_v6, std::string(listen).front() == '[');
  }
}

TEST(ListenAddress, AUnixSocketReplacesAStaleOneAndNamesWhatItCannotDo) {
  TempDir folder;
  { ASSERT_TRUE(listen_on_unix(folder / "s").ok()); }
  EXPECT_EQ(Client(folder / "s").greeting, -1) << "nobody listens on what is left";
  EXPECT_TRUE(listen_on_unix(folder / "s").ok());
  Result<OwnedFd> missing = listen_on_unix(folder / "no-such-folder/s");
  EXPECT_EQ(missing.status().code(), Errc::kInvalidArgument);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("no-such-folder/s"));
  EXPECT_EQ(listen_on_unix(folder / std::string(200, 'x')).status().code(), Errc::kInvalidArgument);
}

}  // namespace
}  // namespace trilog::grpc_edge
