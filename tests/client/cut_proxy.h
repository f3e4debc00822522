// A TCP relay between a client and a broker, which a test can interrupt where networks fail: answers held back,
// everything held back, connections cut on both sides or on the client's alone, new connections refused.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace trilog {

class CutProxy {
 public:
  // `target`: 127.0.0.1:PORT.
  explicit CutProxy(const std::string& target)
      : target_port_(static_cast<uint16_t>(std::stoi(target.substr(target.rfind(':') + 1)))) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, 16) != 0) abort();
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    if (::pipe(wake_.data()) != 0) abort();
    thread_ = std::thread([this] { relay(); });
  }
  ~CutProxy() {
    change([this] { ending_ = true; });
    thread_.join();
    cut();
    for (int fd : {listener_, wake_[0], wake_[1]}) ::close(fd);
  }
  CutProxy(const CutProxy&) = delete;
  CutProxy& operator=(const CutProxy&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Requests go through, answers do not.
  void hold_answers(bool hold) {
    change([=, this] { hold_answers_ = hold; });
  }
  // Nothing goes through and nothing is read, as with a process that is stopped.
  void hold_all(bool hold) {
    change([=, this] { hold_all_ = hold; });
  }
  void refuse(bool refuse) {
    change([=, this] { refuse_ = refuse; });
  }
  void cut() {
    change([this] {
      for (Pair& pair : pairs_) pair.close_all();
      pairs_.clear();
    });
  }
  // The broker does not notice: its side stays open, silent, until cut().
  void cut_client_side() {
    change([this] {
      for (Pair& pair : pairs_) pair.close_client();
    });
  }
  int connections_made() {
    std::lock_guard lock(mutex_);
    return made_;
  }

 private:
  struct Pair {
    int client;
    int server;
    void close_client() {
      if (client >= 0) ::close(client);
      client = -1;
    }
    void close_all() {
      close_client();
      if (server >= 0) ::close(server);
      server = -1;
    }
  };

  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  template <typename Change>
  void change(Change apply) {
    std::lock_guard lock(mutex_);
    apply();
    [[maybe_unused]] ssize_t written = ::write(wake_[1], "x", 1);
  }

  void accept_one() {
    int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    ++made_;
    int server = refuse_ ? -1 : ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(target_port_);
    if (server < 0 || ::connect(server, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      if (server >= 0) ::close(server);
      ::close(client);
      return;
    }
    pairs_.push_back({client, server});
  }

  // False when either side ended.
  static bool pass(int from, int to) {
    std::array<char, 64 << 10> bytes;
    ssize_t count = ::recv(from, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    for (ssize_t sent = 0; sent < count;) {
      ssize_t now = ::send(to, bytes.data() + sent, static_cast<size_t>(count - sent), MSG_NOSIGNAL);
      if (now <= 0) return false;
      sent += now;
    }
    return count > 0;
  }

  void relay() {
    for (;;) {
      std::vector<pollfd> watched;
      {
        std::lock_guard lock(mutex_);
        if (ending_) return;
        watched = {{listener_, POLLIN, 0}, {wake_[0], POLLIN, 0}};
        for (const Pair& pair : pairs_) {
          if (hold_all_) break;
          if (pair.client >= 0) watched.push_back({pair.client, POLLIN, 0});
          if (pair.client >= 0 && !hold_answers_) watched.push_back({pair.server, POLLIN, 0});
        }
      }
      ::poll(watched.data(), watched.size(), -1);
      std::lock_guard lock(mutex_);
      if ((watched[1].revents & POLLIN) != 0) {
        std::array<char, 64> woken;
        [[maybe_unused]] ssize_t count = ::read(wake_[0], woken.data(), woken.size());
      }
      if ((watched[0].revents & POLLIN) != 0) accept_one();
      if (hold_all_) continue;
      for (auto pair = pairs_.begin(); pair != pairs_.end();) {
        bool lives = pair->client < 0 ||
                     (pass(pair->client, pair->server) && (hold_answers_ || pass(pair->server, pair->client)));
        if (!lives) pair->close_all();
        pair = lives ? std::next(pair) : pairs_.erase(pair);
      }
    }
  }

  const uint16_t target_port_;
  uint16_t port_ = 0;
  int listener_ = -1;
  std::array<int, 2> wake_{};
  std::mutex mutex_;
  std::list<Pair> pairs_;
  bool hold_answers_ = false;
  bool hold_all_ = false;
  bool refuse_ = false;
  bool ending_ = false;
  int made_ = 0;
  std::thread thread_;
};

}  // namespace trilog
