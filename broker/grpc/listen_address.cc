#include "broker/grpc/listen_address.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>

namespace trilog::grpc_edge {
namespace {

constexpr int kPortTries = 64;  // until a port is free on all addresses
// gRPC sets this on listeners of its own, to the time-out of keep-alive pings.
constexpr unsigned kUnacknowledgedMsMax = 10'000;
constexpr const char* kAllV4 = "0.0.0.0";
constexpr const char* kAllV6 = "::";

struct Wanted {
  std::string host;
  int port = 0;
};

Status bad_address(const std::string& text) {
  return {
      Errc::kInvalidArgument,
      "'" + text + "' is not an address to listen on; expected HOST:PORT, for example localhost:9092 or [::1]:9092"};
}

Result<Wanted> split(const std::string& text) {
  size_t colon = text.rfind(':');
  if (colon == std::string::npos) return bad_address(text);
  Wanted wanted;
  wanted.host = text.substr(0, colon);
  if (wanted.host.size() >= 2 && wanted.host.front() == '[' && wanted.host.back() == ']') {
    wanted.host = wanted.host.substr(1, wanted.host.size() - 2);
  } else if (wanted.host.find(':') != std::string::npos) {
    return bad_address(text);
  }
  const char* first = text.data() + colon + 1;
  const char* last = text.data() + text.size();
  auto [end, error] = std::from_chars(first, last, wanted.port);
  if (error != std::errc() || end != last || wanted.port < 0 || wanted.port > 65'535) return bad_address(text);
  return wanted;
}

Result<std::vector<ListenAddress>> look_up(const Wanted& wanted) {
  if (wanted.host == "localhost") {
    return std::vector<ListenAddress>{{"127.0.0.1", wanted.port, false}, {"::1", wanted.port, true}};
  }
  ListenAddress all_v4{kAllV4, wanted.port, false};
  ListenAddress all_v6{kAllV6, wanted.port, true};
  if (wanted.host.empty() || wanted.host == kAllV4) return std::vector<ListenAddress>{all_v4, all_v6};
  if (wanted.host == kAllV6) return std::vector<ListenAddress>{all_v6, all_v4};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (int error = ::getaddrinfo(wanted.host.c_str(), nullptr, &hints, &found); error != 0) {
    return Status(Errc::kInvalidArgument, "cannot listen on '" + wanted.host + "': " + ::gai_strerror(error));
  }
  std::vector<ListenAddress> addresses;
  std::set<std::string> seen;
  for (addrinfo* each = found; each != nullptr; each = each->ai_next) {
    char host[NI_MAXHOST];
    if (::getnameinfo(each->ai_addr, each->ai_addrlen, host, sizeof host, nullptr, 0, NI_NUMERICHOST) != 0) continue;
    if (seen.insert(host).second) addresses.push_back({host, wanted.port, each->ai_family == AF_INET6});
  }
  ::freeaddrinfo(found);
  return addresses;
}

// A socket that listens, or why not in errno. `address` gets the port that the system picked.
OwnedFd try_listen(ListenAddress& address) {
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (address.is_v6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(address.port));
    ::inet_pton(AF_INET6, address.host.c_str(), &v6->sin6_addr);
    size = sizeof *v6;
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(address.port));
    ::inet_pton(AF_INET, address.host.c_str(), &v4->sin_addr);
    size = sizeof *v4;
  }
  OwnedFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fd;
  // A port of a broker that has just ended is free; one that another listens on is not (no SO_REUSEPORT).
  int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.is_v6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMsMax, sizeof kUnacknowledgedMsMax);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) != 0 || ::listen(fd.get(), SOMAXCONN) != 0) {
    int error = errno;
    fd.reset();
    errno = error;
    return fd;
  }
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &size);
  address.port = ntohs(address.is_v6 ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port
                                     : reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
  return fd;
}

Status cannot_bind(const ListenAddress& address, int error) {
  std::string message = "cannot listen on " + address.text() + ": ";
  if (error != EADDRINUSE)
    return {error == EACCES ? Errc::kPermission : Errc::kInvalidArgument, message + std::strerror(error)};
  std::string holder = holder_of_port(address.port);
  message += "the port is taken" + (holder.empty() ? std::string() : " by " + holder);
  return {Errc::kAlreadyExists, message};
}

// A machine without IPv6 has no ::1 and no ::, one without IPv4 no 0.0.0.0: the other half of what was asked for will
// do.
bool is_dispensable(const ListenAddress& address, int error) {
  bool is_missing = error == EADDRNOTAVAIL || error == EAFNOSUPPORT;
  return is_missing && (address.host == "::1" || address.host == kAllV6 || address.host == kAllV4);
}

// One try: all addresses with the same port, if they want the system to pick one.
Result<std::vector<ListenSocket>> claim(const std::vector<ListenAddress>& addresses) {
  std::vector<ListenSocket> sockets;
  int picked = 0;
  for (size_t i = 0; i < addresses.size(); ++i) {
    ListenAddress address = addresses[i];
    bool pick = address.port == 0;
    if (pick) address.port = picked;
    OwnedFd fd = try_listen(address);
    if (!fd) {
      int error = errno;
      bool is_last_hope = sockets.empty() && i + 1 == addresses.size();
      if (is_dispensable(address, error) && !is_last_hope) continue;
      return cannot_bind(address, error);
    }
    if (pick) picked = address.port;
    sockets.push_back({address, std::move(fd)});
  }
  return sockets;
}

// The inode numbers of sockets that listen on `port`.
std::set<std::string> listening_inodes(int port) {
  std::set<std::string> inodes;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      std::istringstream columns(line);
      std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
      columns >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode;
      size_t colon = local.rfind(':');
      if (state != "0A" || colon == std::string::npos) continue;
      if (std::strtol(local.c_str() + colon + 1, nullptr, 16) == port) inodes.insert("socket:[" + inode + "]");
    }
  }
  return inodes;
}

template <typename Visit>
void for_each_entry(const std::string& folder, Visit visit) {
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return;
  while (dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && visit(std::string(entry->d_name))) break;
  }
  ::closedir(directory);
}

}  // namespace

std::string ListenAddress::text() const { return (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port); }

std::string holder_of_port(int port) {
  std::set<std::string> inodes = listening_inodes(port);
  if (inodes.empty()) return {};
  std::string holder;
  for_each_entry("/proc", [&](const std::string& pid) {
    for_each_entry("/proc/" + pid + "/fd", [&](const std::string& fd) {
      char target[64];
      std::string link = "/proc/" + pid + "/fd/" + fd;
      ssize_t size = ::readlink(link.c_str(), target, sizeof target);
      if (size <= 0 || inodes.count(std::string(target, static_cast<size_t>(size))) == 0) return false;
      std::ifstream file("/proc/" + pid + "/comm");
      std::string name;
      std::getline(file, name);
      holder = (name.empty() ? "process" : name) + " (pid " + pid + ")";
      return true;
    });
    return !holder.empty();
  });
  return holder;
}

Result<std::vector<ListenSocket>> listen_on(const std::vector<std::string>& listen) {
  std::vector<ListenAddress> wanted;
  bool picks = false;
  for (const std::string& text : listen) {
    Wanted parts = TRY(split(text));
    std::vector<ListenAddress> found = TRY(look_up(parts));
    picks = picks || parts.port == 0;
    wanted.insert(wanted.end(), found.begin(), found.end());
  }
  if (wanted.empty()) return Status(Errc::kInvalidArgument, "no address to listen on");
  Status status;
  for (int i = 0; i < (picks ? kPortTries : 1); ++i) {
    Result<std::vector<ListenSocket>> sockets = claim(wanted);
    if (sockets.ok()) return sockets;
    status = sockets.status();
    if (status.code() != Errc::kAlreadyExists) break;
  }
  return status;
}

Result<OwnedFd> listen_on_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Status(Errc::kInvalidArgument, "cannot listen on " + path + ": the path is too long for a Unix socket");
  }
  path.copy(address.sun_path, path.size());
  ::unlink(path.c_str());
  OwnedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), SOMAXCONN) != 0) {
    int error = errno;
    return Status(error == EACCES ? Errc::kPermission : Errc::kInvalidArgument,
                  "cannot listen on " + path + ": " + std::strerror(error));
  }
  return fd;
}

}  // namespace trilog::grpc_edge
