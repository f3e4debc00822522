#include "broker/grpc/listen_address.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
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
  if (wanted.host.empty()) return std::vector<ListenAddress>{{"0.0.0.0", wanted.port, false}};
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

// Binds, looks, and lets go: 0 and the port, or why not.
int try_bind(const ListenAddress& address, int& port) {
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
  int fd = ::socket(address.is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.is_v6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  int error = ::bind(fd, reinterpret_cast<sockaddr*>(&storage), size) == 0 && ::listen(fd, 1) == 0 ? 0 : errno;
  if (error == 0) {
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size);
    port = ntohs(address.is_v6 ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port
                               : reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
  }
  ::close(fd);
  return error;
}

Status cannot_bind(const ListenAddress& address, int error) {
  std::string message = "cannot listen on " + address.text() + ": ";
  if (error != EADDRINUSE)
    return {error == EACCES ? Errc::kPermission : Errc::kInvalidArgument, message + std::strerror(error)};
  std::string holder = holder_of_port(address.port);
  message += "the port is taken" + (holder.empty() ? std::string() : " by " + holder);
  return {Errc::kAlreadyExists, message};
}

// One try: all addresses with the same port, if they want the system to pick one.
Status claim(std::vector<ListenAddress>& addresses) {
  int picked = 0;
  for (auto address = addresses.begin(); address != addresses.end();) {
    bool pick = address->port == 0;
    if (pick) address->port = picked;
    int port = 0;
    int error = try_bind(*address, port);
    // A machine without IPv6 has no ::1.
    if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT) {
      if (address->host == "::1" && addresses.size() > 1) {
        address = addresses.erase(address);
        continue;
      }
    }
    if (error != 0) return cannot_bind(*address, error);
    address->port = port;
    if (pick) picked = port;
    ++address;
  }
  return {};
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

Result<std::vector<ListenAddress>> resolve_listen(const std::vector<std::string>& listen) {
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
    std::vector<ListenAddress> addresses = wanted;
    status = claim(addresses);
    if (status.ok()) return addresses;
    if (status.code() != Errc::kAlreadyExists) break;
  }
  return status;
}

}  // namespace trilog::grpc_edge
